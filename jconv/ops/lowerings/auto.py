"""A convolution by the lowering that is fastest where it will run: a rule on the shape, for each platform.

The platform is the one that a program is lowered for, not the one it is traced on, so an exported program is right too.
`python -m benchmarks.lowerings` measures what the rule is made of; `benchmarks/lowerings.md` has the table.
"""

import math
from collections.abc import Callable

import jax
from jax import lax as jax_lax

from jconv.ops.lowerings import im2col, lax
from jconv.ops.window import Axis

__all__ = ["Lowering", "conv", "slow_on_cpu"]

Lowering = Callable[[jax.Array, jax.Array, tuple[Axis, ...], int], jax.Array]


def conv(x: jax.Array, kernel: jax.Array, window: tuple[Axis, ...], groups: int) -> jax.Array:
    """See `jconv.ops.lowerings`."""
    if not slow_on_cpu(x.shape, kernel.shape, window, groups):
        return lax.conv(x, kernel, window, groups)
    return jax_lax.platform_dependent(
        x,
        kernel,
        cpu=lambda x, kernel: im2col.conv(x, kernel, window, groups),
        default=lambda x, kernel: lax.conv(x, kernel, window, groups),
    )


def slow_on_cpu(x: tuple[int, ...], kernel: tuple[int, ...], window: tuple[Axis, ...], groups: int) -> bool:
    """Whether XLA's convolution loses to im2col on a CPU, forward and both gradients together.

    It does where the window strides, in groups, with few channels, and where few outputs are left of an image; worst
    where the window is larger than the image. But not where patches would be much larger than x: large windows.
    """
    outputs = math.prod(a.output_size(n) for a, n in zip(window, x[1:-1], strict=True))
    strides = math.prod(a.stride for a in window)
    patches = math.prod(a.kernel for a in window) / strides  # times the size of x
    if groups > 1:
        return patches <= 9
    return patches <= 16 and (strides > 1 or outputs <= 16 or 3 < kernel[-2] <= 32)
