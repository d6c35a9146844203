"""Layers with parameters: Conv, ConvTranspose, Linear, LayerScale, SqueezeExcite."""

import dataclasses
from collections.abc import Sequence
from dataclasses import KW_ONLY

import jax
import jax.numpy as jnp

from jconv import ops
from jconv.layers.base import Composite, Layer, Params, Run, State
from jconv.layers.initializers import Constant, Initializer, fan_in_uniform, he_normal, zeros
from jconv.layers.simple import Activation
from jconv.ops.padding import check_floating, check_input
from jconv.ops.window import Padding, per_axis, whole

__all__ = ["Conv", "ConvTranspose", "LayerScale", "Linear", "SqueezeExcite"]


@dataclasses.dataclass(frozen=True)
class Conv(Layer):
    """`y = conv(x, kernel) + bias`, over as many spatial axes as x has: `jconv.conv`.

    Args:
        features: output channels.
        kernel: window, an int for all axes or one for each.
        stride, dilation, groups: as in `jconv.conv`.
        padding: as in `jconv.conv`; None is torch's symmetric `dilation * (kernel - 1) // 2`.
        bias: add a learned number to each feature.
        lowering: as in `jconv.conv`.
        kernel_init, bias_init: `(key, shape) -> array`.

    Parameters: kernel (*window, C / groups, features), bias (features,), float32.

    Example:
        >>> x = jax.numpy.ones((1, 8, 8, 3))
        >>> conv = Conv(16, 3, stride=2)
        >>> params, state = conv.init(jax.random.key(0), x)
        >>> conv.apply(params, state, x)[0].shape
        (1, 4, 4, 16)
    """

    features: int
    kernel: int | Sequence[int]
    _: KW_ONLY
    stride: int | Sequence[int] = 1
    padding: Padding = None
    dilation: int | Sequence[int] = 1
    groups: int = 1
    bias: bool = True
    lowering: str = "auto"
    kernel_init: Initializer = he_normal
    bias_init: Initializer = zeros

    def init(self, key: jax.Array, x: jax.Array | jax.ShapeDtypeStruct) -> tuple[Params, State]:
        """A kernel for x's spatial axes and channels, and a bias."""
        check_input(x)
        window = per_axis("kernel", self.kernel, len(x.shape) - 2, least=1)
        _check_sizes(self.groups, x.shape[-1], self.features)
        params = {"kernel": self.kernel_init(key, (*window, x.shape[-1] // self.groups, self.features))}
        if self.bias:
            params["bias"] = self.bias_init(jax.random.fold_in(key, 1), (self.features,))
        return params, {}

    def effective_kernel(self, params: Params) -> jax.Array:
        """The kernel that x meets; a subclass may make it of the parameters in another way."""
        return params["kernel"]

    def apply(
        self, params: Params, state: State, x: jax.Array, *, train: bool = False, key: jax.Array | None = None
    ) -> tuple[jax.Array, State]:
        """(N, *spatial, C) -> (N, *out, features)."""
        kernel = self.effective_kernel(params)
        _check_kernel(self, kernel, kernel.shape[-1])
        y = ops.conv(
            x,
            kernel,
            params["bias"] if self.bias else None,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
            lowering=self.lowering,
        )
        return y, state


@dataclasses.dataclass(frozen=True)
class ConvTranspose(Layer):
    """`y = conv_transpose(x, kernel) + bias`, over as many spatial axes as x has: `jconv.conv_transpose`.

    Args:
        features: output channels.
        kernel: window, an int for all axes or one for each.
        stride, output_padding, dilation, groups: as in `jconv.conv_transpose`.
        padding: as in `jconv.conv_transpose`; None is `dilation * (kernel - 1) // 2`, so that a kernel of twice an even
            stride makes images exactly `stride` times as large.
        bias: add a learned number to each feature.
        lowering: as in `jconv.conv`.
        kernel_init, bias_init: `(key, shape) -> array`.

    Parameters: kernel (*window, features / groups, C), bias (features,), float32.

    Example:
        >>> x = jax.numpy.ones((1, 8, 8, 3))
        >>> up = ConvTranspose(16, 4, stride=2)
        >>> params, state = up.init(jax.random.key(0), x)
        >>> up.apply(params, state, x)[0].shape
        (1, 16, 16, 16)
    """

    features: int
    kernel: int | Sequence[int]
    _: KW_ONLY
    stride: int | Sequence[int] = 1
    padding: Padding = None
    output_padding: int | Sequence[int] = 0
    dilation: int | Sequence[int] = 1
    groups: int = 1
    bias: bool = True
    lowering: str = "auto"
    kernel_init: Initializer = he_normal
    bias_init: Initializer = zeros

    def init(self, key: jax.Array, x: jax.Array | jax.ShapeDtypeStruct) -> tuple[Params, State]:
        """A kernel for x's spatial axes and channels, and a bias."""
        check_input(x)
        window = per_axis("kernel", self.kernel, len(x.shape) - 2, least=1)
        _check_sizes(self.groups, x.shape[-1], self.features)
        params = {"kernel": self.kernel_init(key, (*window, self.features // self.groups, x.shape[-1]))}
        if self.bias:
            params["bias"] = self.bias_init(jax.random.fold_in(key, 1), (self.features,))
        return params, {}

    def apply(
        self, params: Params, state: State, x: jax.Array, *, train: bool = False, key: jax.Array | None = None
    ) -> tuple[jax.Array, State]:
        """(N, *spatial, C) -> (N, *out, features)."""
        kernel = params["kernel"]
        _check_kernel(self, kernel, kernel.shape[-2] * self.groups)
        y = ops.conv_transpose(
            x,
            kernel,
            params["bias"] if self.bias else None,
            stride=self.stride,
            padding=self.padding,
            output_padding=self.output_padding,
            dilation=self.dilation,
            groups=self.groups,
            lowering=self.lowering,
        )
        return y, state


def _check_sizes(groups: int, channels: int, features: int) -> None:
    whole("features", features, "a positive number of output channels")
    meaning = f"a positive number that divides the {channels} channels of x and the {features} features"
    if not channels or channels % whole("groups", groups, meaning) or features % groups:
        raise ValueError(f"groups: expected {meaning}, got {groups}")


def _check_kernel(layer: Conv | ConvTranspose, kernel: jax.Array, features: int) -> None:
    """ValueError unless a kernel is of the layer's window and features: else it is another layer's."""
    window = kernel.shape[:-2]
    if window != per_axis("kernel", layer.kernel, len(window), least=1) or features != layer.features:
        raise ValueError(
            f"kernel: expected a window of {layer.kernel} and {layer.features} features, got shape {kernel.shape}: "
            f"parameters of another layer; make them with this one's init"
        )


@dataclasses.dataclass(frozen=True)
class Linear(Layer):
    """`y = x @ kernel + bias` over the last axis. Parameters: kernel (C, features), bias (features,), float32."""

    features: int
    _: KW_ONLY
    bias: bool = True
    kernel_init: Initializer = fan_in_uniform
    bias_init: Initializer = zeros

    def init(self, key: jax.Array, x: jax.Array | jax.ShapeDtypeStruct) -> tuple[Params, State]:
        """A kernel for x's channels, and a bias."""
        check_floating(x)
        whole("features", self.features, "a positive number of output channels")
        params = {"kernel": self.kernel_init(key, (x.shape[-1], self.features))}
        if self.bias:
            params["bias"] = self.bias_init(jax.random.fold_in(key, 1), (self.features,))
        return params, {}

    def apply(
        self, params: Params, state: State, x: jax.Array, *, train: bool = False, key: jax.Array | None = None
    ) -> tuple[jax.Array, State]:
        """(..., C) -> (..., features)."""
        check_floating(x)
        kernel = params["kernel"]
        if x.shape[-1] != kernel.shape[0]:
            raise ValueError(f"x: expected {kernel.shape[0]} channels in the last axis, got shape {x.shape}")
        if kernel.shape[1] != self.features:
            raise ValueError(f"kernel: expected {self.features} features, got shape {kernel.shape}: another layer's")
        y = x @ kernel.astype(x.dtype)
        return (y + params["bias"].astype(x.dtype) if self.bias else y), state


@dataclasses.dataclass(frozen=True)
class LayerScale(Layer):
    """`y = gamma * x`, a factor for each channel, learned from a small start: it lets a deep branch in by degrees.

    Parameters: gamma (C,), float32. Touvron et al. 2021, "Going deeper with Image Transformers", arXiv:2103.17239,
    section 2.2.
    """

    start: float = 1e-6

    def init(self, key: jax.Array, x: jax.Array | jax.ShapeDtypeStruct) -> tuple[Params, State]:
        """`start` for each of x's channels."""
        return {"gamma": Constant(self.start)(key, x.shape[-1:])}, {}

    def apply(
        self, params: Params, state: State, x: jax.Array, *, train: bool = False, key: jax.Array | None = None
    ) -> tuple[jax.Array, State]:
        """(..., C) -> (..., C)."""
        check_floating(x)
        if x.shape[-1:] != params["gamma"].shape:
            raise ValueError(f"x: expected {len(params['gamma'])} channels in the last axis, got shape {x.shape}")
        return x * params["gamma"].astype(x.dtype), state


@dataclasses.dataclass(frozen=True, repr=False)
class SqueezeExcite(Composite):
    """`y = x * gate(fc2(act(fc1(mean(x)))))`: each channel scaled by what all channels say of the whole image.

    Hu et al. 2017, arXiv:1709.01507, equations 2 to 4. Build it with `squeeze_excite` or from two 1×1 convolutions.
    """

    fc1: Layer
    fc2: Layer
    act: Layer = Activation("relu")
    gate: Layer = Activation("sigmoid")

    def wire(self, run: Run, x: jax.Array) -> jax.Array:
        """Squeeze over the spatial axes, excite, scale."""
        squeezed = jnp.mean(x, tuple(range(1, x.ndim - 1)), keepdims=True)
        return x * run("gate", run("fc2", run("act", run("fc1", squeezed))))
