"""Layers with parameters: Conv, Linear, BatchNorm, SqueezeExcite."""

import dataclasses
from collections.abc import Sequence
from dataclasses import KW_ONLY

import jax

from jconv import ops
from jconv.layers.base import Composite, Layer, Params, Run, State
from jconv.layers.initializers import Initializer, fan_in_uniform, he_normal, ones, zeros
from jconv.layers.simple import Activation
from jconv.ops.norm import moments
from jconv.ops.padding import check_input
from jconv.ops.window import Padding, per_axis

__all__ = ["BatchNorm", "Conv", "Linear", "SqueezeExcite"]


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
        kernel_init: `(key, shape) -> kernel`.

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

    def init(self, key: jax.Array, x: jax.Array | jax.ShapeDtypeStruct) -> tuple[Params, State]:
        """A kernel for x's spatial axes and channels, and zeros for the bias."""
        check_input(x)
        window = per_axis("kernel", self.kernel, len(x.shape) - 2, least=1)
        if self.groups < 1 or x.shape[-1] % self.groups or self.features % self.groups:
            raise ValueError(
                f"groups: expected a positive number that divides the {x.shape[-1]} channels of x and the "
                f"{self.features} features, got {self.groups}"
            )
        params = {"kernel": self.kernel_init(key, (*window, x.shape[-1] // self.groups, self.features))}
        if self.bias:
            params["bias"] = zeros(key, (self.features,))
        return params, {}

    def apply(
        self, params: Params, state: State, x: jax.Array, *, train: bool = False, key: jax.Array | None = None
    ) -> tuple[jax.Array, State]:
        """(N, *spatial, C) -> (N, *out, features)."""
        y = ops.conv(
            x,
            params["kernel"],
            params.get("bias"),
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
            lowering=self.lowering,
        )
        return y, state


@dataclasses.dataclass(frozen=True)
class Linear(Layer):
    """`y = x @ kernel + bias` over the last axis. Parameters: kernel (C, features), bias (features,), float32."""

    features: int
    _: KW_ONLY
    bias: bool = True
    kernel_init: Initializer = fan_in_uniform

    def init(self, key: jax.Array, x: jax.Array | jax.ShapeDtypeStruct) -> tuple[Params, State]:
        """A kernel for x's channels, and zeros for the bias."""
        params = {"kernel": self.kernel_init(key, (x.shape[-1], self.features))}
        if self.bias:
            params["bias"] = zeros(key, (self.features,))
        return params, {}

    def apply(
        self, params: Params, state: State, x: jax.Array, *, train: bool = False, key: jax.Array | None = None
    ) -> tuple[jax.Array, State]:
        """(..., C) -> (..., features)."""
        kernel = params["kernel"]
        if x.shape[-1] != kernel.shape[0]:
            raise ValueError(f"x: expected {kernel.shape[0]} channels in the last axis, got shape {x.shape}")
        y = x @ kernel.astype(x.dtype)
        return (y + params["bias"].astype(x.dtype) if self.bias else y), state


@dataclasses.dataclass(frozen=True)
class BatchNorm(Layer):
    """`y = (x - mean) / sqrt(var + eps) * scale + bias` for each channel.

    In training, mean and (biased) variance are the batch's, over all axes but the last, and the running ones in the
    state move towards them: `running = (1 - momentum) * running + momentum * batch`, with the unbiased variance, as
    torch does. In evaluation they are the running ones. Everything is computed in float32 or better.

    Args:
        momentum: how far the running statistics move in a step.
        eps: added to the variance.
        scale_init: `ones`, or `zeros` for the last BatchNorm of a residual branch.
        axis_name: the mapped axis (`jax.pmap`, `jax.shard_map`) that splits the batch, if one does. Under `jax.jit`
            with sharded arrays the batch is whole, and none is needed.

    Parameters: scale, bias (C,). State: mean, var (C,). All float32.

    References:
        Ioffe & Szegedy 2015, arXiv:1502.03167, algorithms 1 and 2.
    """

    _: KW_ONLY
    momentum: float = 0.1
    eps: float = 1e-5
    scale_init: Initializer = ones
    axis_name: str | None = None

    def init(self, key: jax.Array, x: jax.Array | jax.ShapeDtypeStruct) -> tuple[Params, State]:
        """Scale and bias, and the running statistics of a standard normal."""
        shape = (x.shape[-1],)
        return {"scale": self.scale_init(key, shape), "bias": zeros(key, shape)}, {
            "mean": zeros(key, shape),
            "var": ones(key, shape),
        }

    def apply(
        self, params: Params, state: State, x: jax.Array, *, train: bool = False, key: jax.Array | None = None
    ) -> tuple[jax.Array, State]:
        """(..., C) -> (..., C)."""
        if x.shape[-1:] != params["scale"].shape:
            raise ValueError(f"x: expected {params['scale'].shape[0]} channels in the last axis, got shape {x.shape}")
        if not train:
            return ops.batch_norm(x, state["mean"], state["var"], **params, eps=self.eps), state
        mean, var, n = moments(x, axis_name=self.axis_name)
        y = ops.batch_norm(x, mean, var, **params, eps=self.eps)
        batch = {"mean": mean, "var": var * (n / max(n - 1, 1))}
        running = {name: state[name] + self.momentum * (batch[name] - state[name]) for name in state}
        return y, jax.tree.map(lambda new, old: new.astype(old.dtype), running, state)


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
        squeezed = x.mean(range(1, x.ndim - 1), keepdims=True)
        return x * run("gate", run("fc2", run("act", run("fc1", squeezed))))
