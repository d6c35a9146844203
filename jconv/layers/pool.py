"""Pooling layers: each is the function of the same name in `jconv.ops`, and its fields are the options."""

import dataclasses
from collections.abc import Sequence
from dataclasses import KW_ONLY

import jax

from jconv import ops
from jconv.layers.simple import Function
from jconv.ops.window import Padding

__all__ = [
    "AdaptiveAvgPool",
    "AdaptiveMaxPool",
    "AvgPool",
    "BlurPool",
    "GlobalAvgPool",
    "GlobalMaxPool",
    "L2Pool",
    "MaxBlurPool",
    "MaxPool",
]


@dataclasses.dataclass(frozen=True)
class MaxPool(Function):
    """The largest value in each window: `jconv.ops.max_pool`. Padding None is `dilation * (kernel - 1) // 2`."""

    kernel: int | Sequence[int]
    _: KW_ONLY
    stride: int | Sequence[int] | None = None
    padding: Padding = None
    dilation: int | Sequence[int] = 1
    ceil_mode: bool = False

    def __call__(self, x: jax.Array) -> jax.Array:
        return ops.max_pool(x, **vars(self))


@dataclasses.dataclass(frozen=True)
class AvgPool(Function):
    """The mean of each window: `jconv.ops.avg_pool`. Padding None is `(kernel - 1) // 2`."""

    kernel: int | Sequence[int]
    _: KW_ONLY
    stride: int | Sequence[int] | None = None
    padding: Padding = None
    ceil_mode: bool = False
    count_include_pad: bool = True

    def __call__(self, x: jax.Array) -> jax.Array:
        return ops.avg_pool(x, **vars(self))


@dataclasses.dataclass(frozen=True)
class L2Pool(AvgPool):
    """The root mean square of each window: `jconv.ops.l2_pool`. Padding None is `(kernel - 1) // 2`."""

    def __call__(self, x: jax.Array) -> jax.Array:
        return ops.l2_pool(x, **vars(self))


@dataclasses.dataclass(frozen=True)
class BlurPool(Function):
    """Low-pass, then sub-sample: `jconv.ops.blur_pool`."""

    kernel: int | Sequence[int] = 3
    _: KW_ONLY
    stride: int | Sequence[int] = 2

    def __call__(self, x: jax.Array) -> jax.Array:
        return ops.blur_pool(x, **vars(self))


@dataclasses.dataclass(frozen=True)
class MaxBlurPool(Function):
    """An anti-aliased MaxPool: `jconv.ops.max_blur_pool`. Padding None is `(kernel - 1) // 2`."""

    kernel: int | Sequence[int]
    _: KW_ONLY
    stride: int | Sequence[int] | None = None
    padding: Padding = None
    blur: int | Sequence[int] = 3

    def __call__(self, x: jax.Array) -> jax.Array:
        return ops.max_blur_pool(x, **vars(self))


@dataclasses.dataclass(frozen=True)
class AdaptiveAvgPool(Function):
    """The mean of each of `size` bins along each axis: `jconv.ops.adaptive_avg_pool`."""

    size: int | Sequence[int]

    def __call__(self, x: jax.Array) -> jax.Array:
        return ops.adaptive_avg_pool(x, **vars(self))


@dataclasses.dataclass(frozen=True)
class AdaptiveMaxPool(Function):
    """The largest value of each of `size` bins along each axis: `jconv.ops.adaptive_max_pool`."""

    size: int | Sequence[int]

    def __call__(self, x: jax.Array) -> jax.Array:
        return ops.adaptive_max_pool(x, **vars(self))


@dataclasses.dataclass(frozen=True)
class GlobalAvgPool(Function):
    """The mean over all spatial axes: (N, *spatial, C) -> (N, C)."""

    def __call__(self, x: jax.Array) -> jax.Array:
        return ops.global_avg_pool(x)


@dataclasses.dataclass(frozen=True)
class GlobalMaxPool(Function):
    """The largest value over all spatial axes: (N, *spatial, C) -> (N, C)."""

    def __call__(self, x: jax.Array) -> jax.Array:
        return ops.global_max_pool(x)
