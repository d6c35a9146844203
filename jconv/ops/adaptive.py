"""Adaptive pooling: as many windows as are asked for, of whatever size covers the input."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jconv.ops.padding import check_input
from jconv.ops.pool import avg_pool, max_pool
from jconv.ops.window import bins, per_axis

__all__ = ["adaptive_avg_pool", "adaptive_max_pool"]


def adaptive_avg_pool(x: jax.Array, *, size: int | Sequence[int]) -> jax.Array:
    """The mean of each of `size` bins along each axis, in at least float32.

        y[i] = mean of x[floor(i n / m)], ..., x[ceil((i + 1) n / m) - 1]   for n inputs and m outputs, on each axis

    Where m divides n that is `avg_pool` with kernel n / m; elsewhere neighbouring bins may overlap, as in torch.

    Args:
        x: (N, *spatial, C).
        size: outputs along each axis, an int for all axes or one for each; it may be more than there are inputs.

    Returns:
        (N, *size, C) in x's dtype.

    Raises:
        ValueError: a size that is not positive, or not one for each axis.

    Example:
        >>> adaptive_avg_pool(jnp.arange(5.0).reshape(1, 5, 1), size=3).ravel()
        Array([0.5, 2. , 3.5], dtype=float32)

    References:
        He et al. 2014, "Spatial Pyramid Pooling", arXiv:1406.4729, section 2.2.
    """
    sizes = _sizes(x, size)
    if kernel := _even(x, sizes):
        return avg_pool(x, kernel)
    y = x.astype(np.promote_types(x.dtype, np.float32))
    for dim, m in enumerate(sizes, start=1):
        weights = np.zeros((m, x.shape[dim]), y.dtype)
        for row, (start, stop) in zip(weights, bins(x.shape[dim], m), strict=True):
            row[start:stop] = 1 / (stop - start)
        y = jnp.moveaxis(jnp.tensordot(weights, y, (1, dim), precision=lax.Precision.HIGHEST), 0, dim)
    return y.astype(x.dtype)


def adaptive_max_pool(x: jax.Array, *, size: int | Sequence[int]) -> jax.Array:
    """The largest value of each of `size` bins along each axis; the bins are those of `adaptive_avg_pool`.

    Args:
        x: (N, *spatial, C).
        size: outputs along each axis, an int for all axes or one for each.

    Returns:
        (N, *size, C).

    Raises:
        ValueError: a size that is not positive, or not one for each axis.

    Example:
        >>> adaptive_max_pool(jnp.arange(5.0).reshape(1, 5, 1), size=3).ravel()
        Array([1., 3., 4.], dtype=float32)
    """
    sizes = _sizes(x, size)
    if kernel := _even(x, sizes):
        return max_pool(x, kernel)
    for dim, m in enumerate(sizes, start=1):
        windows = bins(x.shape[dim], m)
        widest = max(stop - start for start, stop in windows)
        index = np.array([np.minimum(np.arange(start, start + widest), stop - 1) for start, stop in windows])
        x = jnp.take(x, index, axis=dim, mode="clip").max(dim + 1)
    return x


def _sizes(x: jax.Array, size: int | Sequence[int]) -> tuple[int, ...]:
    check_input(x)
    return per_axis("size", size, x.ndim - 2, least=1)


def _even(x: jax.Array, sizes: tuple[int, ...]) -> tuple[int, ...] | None:
    """The kernel of the pool that this is, if every size divides x's."""
    if any(n % m for n, m in zip(x.shape[1:-1], sizes, strict=True)):
        return None
    return tuple(n // m for n, m in zip(x.shape[1:-1], sizes, strict=True))
