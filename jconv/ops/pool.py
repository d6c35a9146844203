"""Pooling: one number for each window and channel."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jconv.ops.lowerings.im2col import patches
from jconv.ops.padding import check_input, place
from jconv.ops.window import Axis, Padding

__all__ = ["avg_pool", "blur_pool", "global_avg_pool", "max_pool"]


def _reduce(x: jax.Array, window: tuple[Axis, ...], initial: float, combine) -> jax.Array:
    def all_axes(of_axis) -> list:
        return [of_axis(a) for a in (Axis(1), *window, Axis(1))]

    return lax.reduce_window(
        x,
        np.array(initial, x.dtype),
        combine,
        window_dimensions=all_axes(lambda a: a.kernel),
        window_strides=all_axes(lambda a: a.stride),
        padding=all_axes(lambda a: (a.lo, a.hi)),
        window_dilation=all_axes(lambda a: a.dilation),
    )


def max_pool(
    x: jax.Array,
    kernel: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    padding: Padding = 0,
    dilation: int | Sequence[int] = 1,
) -> jax.Array:
    """The largest value in each window; padding never wins.

    Args:
        x: (N, *spatial, C).
        kernel, stride, padding, dilation: as in `jconv.conv`; stride None is the kernel.

    Returns:
        (N, *out, C).

    Example:
        >>> max_pool(jnp.arange(16.0).reshape(1, 4, 4, 1), 2).ravel()
        Array([ 5.,  7., 13., 15.], dtype=float32)
    """
    check_input(x)
    x, window = place(x, kernel, stride=kernel if stride is None else stride, padding=padding, dilation=dilation)
    if all(a.dilation == 1 for a in window):
        return _reduce(x, window, -np.inf, lax.max)
    x = jnp.pad(x, [(0, 0), *((a.lo, a.hi) for a in window), (0, 0)], constant_values=-np.inf)
    return patches(x, tuple(a._replace(lo=0, hi=0) for a in window)).max(-2)  # JAX has no gradient of a dilated window


def avg_pool(
    x: jax.Array,
    kernel: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    padding: Padding = 0,
    count_include_pad: bool = True,
) -> jax.Array:
    """The mean of each window, summed in at least float32.

    Args:
        x: (N, *spatial, C).
        kernel, stride, padding: as in `jconv.conv`; stride None is the kernel.
        count_include_pad: divide by the window's size (torch's default), or else by the number of real inputs in it.

    Returns:
        (N, *out, C) in x's dtype.

    Example:
        >>> avg_pool(jnp.arange(16.0).reshape(1, 4, 4, 1), 2).ravel()
        Array([ 2.5,  4.5, 10.5, 12.5], dtype=float32)
    """
    check_input(x)
    wide, window = place(
        x.astype(np.promote_types(x.dtype, np.float32)),
        kernel,
        stride=kernel if stride is None else stride,
        padding=padding,
    )
    total = _reduce(wide, window, 0.0, lax.add)
    if count_include_pad:
        count = math.prod(a.kernel for a in window)
    else:
        count = _reduce(jnp.ones((1, *wide.shape[1:-1], 1), wide.dtype), window, 0.0, lax.add)
    return (total / count).astype(x.dtype)


def global_avg_pool(x: jax.Array) -> jax.Array:
    """The mean over all spatial axes: (N, *spatial, C) -> (N, C). Lin et al. 2013, arXiv:1312.4400, section 3.2."""
    check_input(x)
    return x.mean(range(1, x.ndim - 1))


def blur_pool(x: jax.Array, kernel: int = 3, *, stride: int | Sequence[int] = 2) -> jax.Array:
    """Low-pass, then sub-sample: a binomial filter along each axis, its borders reflected.

    The filter is row `kernel - 1` of Pascal's triangle over its sum: [1, 1] / 2, [1, 2, 1] / 4, [1, 3, 3, 1] / 8, ...
    It is separable, so it is computed as shifted sums, one axis at a time.

    Args:
        x: (N, *spatial, C).
        kernel: taps along each axis.
        stride: input elements from one window to the next.

    Returns:
        (N, *out, C), with the sizes of padding "SAME".

    References:
        Zhang 2019, "Making Convolutional Networks Shift-Invariant Again", arXiv:1904.11486, section 3.2.
    """
    check_input(x)
    x, window = place(x, kernel, stride=stride, padding="REFLECT")
    taps = np.array([1.0])
    for _ in range(kernel - 1):
        taps = np.convolve(taps, [0.5, 0.5])
    for dim, a in enumerate(window, start=1):
        span = (a.output_size(x.shape[dim]) - 1) * a.stride + 1
        x = sum(float(w) * lax.slice_in_dim(x, i, i + span, a.stride, axis=dim) for i, w in enumerate(taps))  # pyright: ignore[reportAssignmentType]
    return x
