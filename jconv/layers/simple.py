"""Layers without parameters: activations, rearrangements, and the random ones that act in training only."""

import dataclasses
import math
import numbers
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp

from jconv import ops
from jconv.layers.base import Layer, Params, State, nearest
from jconv.ops.padding import check_floating
from jconv.ops.window import Padding, whole

__all__ = [
    "Activation",
    "ChannelShuffle",
    "DepthToSpace",
    "DropPath",
    "Dropout",
    "FixedFilter",
    "Flatten",
    "Function",
    "Identity",
    "PadChannels",
    "SpaceToDepth",
    "Upsample",
]

_IN_JAX_NN = "elu gelu hard_sigmoid hard_swish leaky_relu log_softmax mish selu sigmoid silu softmax softplus tanh"
ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    **{name: getattr(jax.nn, name) for name in _IN_JAX_NN.split()},
    "gelu_exact": partial(jax.nn.gelu, approximate=False),
    "relu": ops.relu,
    "relu6": ops.relu6,
}


@dataclasses.dataclass(frozen=True)
class Function(Layer):
    """A layer that is one function of x, in training as in evaluation: a subclass defines `__call__`."""

    def __call__(self, x: jax.Array) -> jax.Array:
        """The value at x."""
        raise TypeError(f"{type(self).__name__} defines no __call__")

    def apply(
        self, params: Params, state: State, x: jax.Array, *, train: bool = False, key: jax.Array | None = None
    ) -> tuple[jax.Array, State]:
        """`self(x)`."""
        return self(x), state


@dataclasses.dataclass(frozen=True)
class Identity(Function):
    """`y = x`."""

    def __call__(self, x: jax.Array) -> jax.Array:
        return x


@dataclasses.dataclass(frozen=True)
class Activation(Function):
    """A function of each element: "relu" or "relu6" of `jconv.ops`, the name of one in `jax.nn`, or any function.

    "gelu" is `jax.nn`'s, by tanh; "gelu_exact", by the error function, is what torch calls GELU.
    """

    function: str | Callable[[jax.Array], jax.Array]

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.function, str) and self.function not in ACTIVATIONS:
            raise ValueError(f"unknown activation {self.function!r}; {nearest(self.function, ACTIVATIONS)}")

    def __call__(self, x: jax.Array) -> jax.Array:
        return ACTIVATIONS[self.function](x) if isinstance(self.function, str) else self.function(x)


@dataclasses.dataclass(frozen=True)
class Flatten(Function):
    """(N, *spatial, C) -> (N, prod(spatial) * C), or with `channels_first` (N, C * prod(spatial)), which is torch's."""

    _: KW_ONLY
    channels_first: bool = False

    def __call__(self, x: jax.Array) -> jax.Array:
        x = jnp.moveaxis(x, -1, 1) if self.channels_first else x
        return x.reshape(x.shape[0], math.prod(x.shape[1:]))


@dataclasses.dataclass(frozen=True)
class PadChannels(Function):
    """Every `stride`-th position, with zeros for the channels that are missing: the parameter-free shortcut.

    He et al. 2015, arXiv:1512.03385, section 3.3, option A. The zeros follow the channels that x has.
    """

    features: int
    _: KW_ONLY
    stride: int = 1

    def __call__(self, x: jax.Array) -> jax.Array:
        whole("stride", self.stride, "a positive number of positions")
        extra = self.features - x.shape[-1]
        if extra < 0:
            raise ValueError(f"PadChannels: expected at most {self.features} channels, got x of shape {x.shape}")
        x = x[:, *(slice(None, None, self.stride) for _ in x.shape[1:-1])]
        return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, extra)])


@dataclasses.dataclass(frozen=True)
class Upsample(Function):
    """x at `scale` times its resolution, or at a given `size`: `jconv.ops.resize`.

    Followed by a Conv it is the up-sampling without a checkerboard of Odena et al. 2016: `jconv.ops.resize_conv`.
    """

    scale: float | Sequence[float] | None = None
    _: KW_ONLY
    size: int | Sequence[int] | None = None
    method: str = "nearest"

    def __call__(self, x: jax.Array) -> jax.Array:
        return ops.resize(x, scale=self.scale, size=self.size, method=self.method)


@dataclasses.dataclass(frozen=True)
class SpaceToDepth(Function):
    """Every block of positions as the channels of one: `jconv.ops.space_to_depth`."""

    block: int | Sequence[int]
    _: KW_ONLY
    order: str = "block"

    def __call__(self, x: jax.Array) -> jax.Array:
        return ops.space_to_depth(x, block=self.block, order=self.order)


@dataclasses.dataclass(frozen=True)
class DepthToSpace(Function):
    """The channels of every position as a block of positions: `jconv.ops.depth_to_space`."""

    block: int | Sequence[int]
    _: KW_ONLY
    order: str = "block"

    def __call__(self, x: jax.Array) -> jax.Array:
        return ops.depth_to_space(x, block=self.block, order=self.order)


@dataclasses.dataclass(frozen=True)
class ChannelShuffle(Function):
    """The channels dealt out anew among the groups of the next convolution: `jconv.ops.channel_shuffle`."""

    groups: int

    def __call__(self, x: jax.Array) -> jax.Array:
        return ops.channel_shuffle(x, groups=self.groups)


@dataclasses.dataclass(frozen=True)
class FixedFilter(Function):
    """Each channel by a filter that is not learned, such as "sobel_x" or "gaussian": `jconv.ops.apply_filter`."""

    name: str
    _: KW_ONLY
    size: int | None = None
    sigma: float | None = None
    stride: int | Sequence[int] = 1
    padding: Padding = "REFLECT"

    def __call__(self, x: jax.Array) -> jax.Array:
        return ops.apply_filter(
            x, self.name, size=self.size, sigma=self.sigma, stride=self.stride, padding=self.padding
        )


@dataclasses.dataclass(frozen=True)
class Dropout(Layer):
    """In training, zero each element with probability `rate` and scale the rest by `1 / (1 - rate)`.

    Srivastava et al. 2014, JMLR 15.
    """

    rate: float
    stochastic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.rate, numbers.Real) or not 0 <= self.rate < 1:
            raise ValueError(f"rate: expected a probability in [0, 1), got {self.rate!r}")

    def mask_shape(self, x: jax.Array) -> tuple[int, ...]:
        """The shape of what is drawn; it broadcasts to x's."""
        return x.shape

    def apply(
        self, params: Params, state: State, x: jax.Array, *, train: bool = False, key: jax.Array | None = None
    ) -> tuple[jax.Array, State]:
        """x, or x masked and scaled in training."""
        if not train or self.rate == 0:
            return x, state
        if key is None:
            raise ValueError(f"key: {self} draws random numbers in training; pass apply(..., key=jax.random.key(0))")
        check_floating(x)
        keep = jax.random.bernoulli(key, 1 - self.rate, self.mask_shape(x))
        return jnp.where(keep, x / (1 - self.rate), 0).astype(x.dtype), state


@dataclasses.dataclass(frozen=True)
class DropPath(Dropout):
    """Dropout of whole examples: with probability `rate`, a residual branch is left out (stochastic depth).

    Huang et al. 2016, arXiv:1603.09382, section 3.
    """

    def mask_shape(self, x: jax.Array) -> tuple[int, ...]:
        """One number for each example."""
        return (x.shape[0],) + (1,) * (x.ndim - 1)
