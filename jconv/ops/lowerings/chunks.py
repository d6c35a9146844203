"""A batch in chunks, channels by groups: what the lowerings that work in cache share."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jconv.ops.lowerings.taps import Comb

__all__ = ["by_group", "diagonal", "merge", "merged", "over_batch", "sum_over_batch"]

CHUNK = 4 << 20  # bytes of intermediate values at a time, of the order of a core's share of cache
FEWEST = 8  # channels of a group that are worth a matmul of their own


def by_group(x: jax.Array, groups: int) -> jax.Array:
    """(N, *sizes, C) -> (groups, N, *sizes, C / groups)."""
    return jnp.moveaxis(x.reshape(*x.shape[:-1], groups, -1), -2, 0)


def merged(channels: int, groups: int) -> int:
    """How many groups of this many channels to compute as one."""
    return next((m for m in range(1, groups + 1) if groups % m == 0 and channels * m >= FEWEST), groups)


def merge(kernel: jax.Array, groups: int) -> tuple[jax.Array, int]:
    """A kernel of fewer groups that computes the same, zero off its diagonal blocks; and the number of groups."""
    *window, channels, features = kernel.shape
    m = merged(channels, groups)
    if m == 1:
        return kernel, groups
    blocks = kernel.reshape(*window, 1, channels, groups // m, m, features // groups)
    eye = jnp.eye(m, dtype=kernel.dtype)[:, None, None, :, None]
    return (blocks * eye).reshape(*window, m * channels, features), groups // m


def diagonal(blocks: jax.Array, merge: int) -> jax.Array:
    """The adjoint of `merge`: from (*window, merged channels, merged groups, merged features) those that it filled."""
    *window, channels, groups, features = blocks.shape
    blocks = blocks.reshape(*window, merge, channels // merge, groups, merge, features // merge)
    return jnp.diagonal(blocks, axis1=-5, axis2=-2).swapaxes(-1, -2).reshape(*window, channels // merge, -1)


def _chunks(n: int, size: int) -> int:
    """Into how many equal parts to cut n things of `size` bytes each; as few as let one fit in CHUNK."""
    if not isinstance(n, int):
        return 1  # a symbolic size, in an export
    return next((c for c in range(1, n + 1) if n % c == 0 and n // c * size <= CHUNK), max(n, 1))


def over_batch(
    block: Callable[[jax.Array, list[Comb], int], jax.Array],
    x: jax.Array,
    first: list[Comb],
    shape: Sequence[int],
    size: int,
) -> jax.Array:
    """`block` over parts of the batch, and over parts of the first axis where one image is already too large.

    A part takes every chunks-th image, so that a batch which is split over devices stays where it is.
    """
    chunks = _chunks(len(x), size)
    count, phases = first[0].count, len(first)
    bands = _chunks(count, -(-size // count)) if chunks == len(x) else 1
    if chunks * bands == 1:
        return block(x, first, shape[0])
    n, rows = len(x) // chunks, count // bands
    low = min((s for c in first for s in c.starts), default=0)
    high = max((s for c in first for s in c.starts), default=0)
    stride = first[0].stride
    if bands > 1:  # the border of the first axis, so that a band is a slice
        last = (count - 1) * stride + high + 1
        x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), (-low, last - x.shape[1], 0), *[(0, 0, 0)] * (x.ndim - 2)])
        first = [c._replace(count=rows, starts=tuple(s - low for s in c.starts)) for c in first]
    height = (rows - 1) * stride + high - low + 1 if bands > 1 else x.shape[1]
    x = x.reshape(n, chunks, *x.shape[1:])
    tall = rows * phases if bands > 1 else shape[0]

    def body(i: jax.Array, y: jax.Array) -> jax.Array:
        chunk, band = i // bands, i % bands
        part = lax.dynamic_slice(
            x, (0, chunk, band * (rows * stride), *[0] * (x.ndim - 3)), (n, 1, height, *x.shape[3:])
        )
        part = block(part.reshape(n, height, *x.shape[3:]), first, tall)
        return lax.dynamic_update_slice(y, part[:, None], (0, chunk, band * tall, *[0] * (x.ndim - 3)))

    y = lax.fori_loop(0, chunks * bands, body, lax.full_like(x, 0, shape=(n, chunks, tall * bands, *shape[1:])))
    return y.reshape(n * chunks, *y.shape[2:])[:, : shape[0]]


def sum_over_batch(
    block: Callable[[jax.Array, jax.Array], jax.Array], x: jax.Array, y: jax.Array, size: int
) -> jax.Array:
    """The sum of `block` over parts of the batch."""
    chunks = _chunks(len(x), size)
    if chunks == 1:
        return block(x, y)
    x, y = (a.reshape(len(a) // chunks, chunks, *a.shape[1:]) for a in (x, y))

    def at(i: jax.Array | int) -> jax.Array:
        return block(*(lax.dynamic_index_in_dim(a, i, 1, keepdims=False) for a in (x, y)))

    zero = lax.full_like(x, 0, np.promote_types(x.dtype, np.float32), jax.eval_shape(at, 0).shape)
    return lax.fori_loop(0, chunks, lambda i, total: total + at(i), zero)
