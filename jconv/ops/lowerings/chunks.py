"""A batch in chunks, channels by groups: what the lowerings that work in cache share."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

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
    return next((c for c in range(1, n + 1) if n % c == 0 and n // c * size <= CHUNK), max(n, 1))


class _Cut(NamedTuple):
    """How a batch is cut into chunks of images and, where one image is too large, bands of its first axis.

    A chunk takes every chunks-th image, so that a batch which is split over devices stays where it is.
    """

    chunks: int
    bands: int
    first: list[Comb]
    """The phases of the first axis within a band."""
    step: int
    height: int
    """Input elements from one band to the next, and of one band."""

    def part(self, x: jax.Array, i: jax.Array, step: int, height: int) -> jax.Array:
        """The part i of an array that is `step` from band to band."""
        x = x.reshape(x.shape[0] // self.chunks, self.chunks, *x.shape[1:])
        start = (0, i // self.bands, i % self.bands * step, *[0] * (x.ndim - 3))
        return lax.dynamic_slice(x, start, (x.shape[0], 1, height, *x.shape[3:]))[:, 0]


def _cut(x: jax.Array, first: list[Comb], size: int) -> tuple[jax.Array, _Cut]:
    """How to cut x, whose images need `size` bytes each; and x, padded along its first axis if that is cut."""
    images, count, stride = x.shape[0], first[0].out, first[0].stride
    chunks = _chunks(images, size) if isinstance(images, int) else 1  # a symbolic size, in an export
    bands = _chunks(count, -(-size // count)) if isinstance(images, int) and chunks == images else 1
    if bands == 1:
        return x, _Cut(chunks, 1, first, 0, x.shape[1])
    starts = [s for c in first for s in c.starts]
    low, high = min(starts, default=0), max(starts, default=0)
    last = (count - 1) * stride + high + 1
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), (-low, last - x.shape[1], 0), *[(0, 0, 0)] * (x.ndim - 2)])
    rows = count // bands
    first = [c._replace(out=rows, starts=tuple(s - low for s in c.starts)) for c in first]
    return x, _Cut(chunks, bands, first, rows * stride, (rows - 1) * stride + high - low + 1)


def over_batch(
    block: Callable[[jax.Array, list[Comb], int], jax.Array],
    x: jax.Array,
    first: list[Comb],
    shape: Sequence[int],
    size: int,
) -> jax.Array:
    """`block(x, phases of the first axis, its output size)` over the parts of a batch, put together: (N, *shape)."""
    x, cut = _cut(x, first, size)
    if cut.chunks * cut.bands == 1:
        return block(x, first, shape[0])
    tall = cut.first[0].out * len(first) if cut.bands > 1 else shape[0]

    def body(i: jax.Array, y: jax.Array) -> jax.Array:
        part = block(cut.part(x, i, cut.step, cut.height), cut.first, tall)
        at = (0, i // cut.bands, i % cut.bands * tall, *[0] * (y.ndim - 3))
        return lax.dynamic_update_slice(y, part[:, None], at)

    y = lax.full_like(x, 0, shape=(x.shape[0] // cut.chunks, cut.chunks, tall * cut.bands, *shape[1:]))
    y = lax.fori_loop(0, cut.chunks * cut.bands, body, y)
    return y.reshape(x.shape[0], *y.shape[2:])[:, : shape[0]]


def sum_over_batch(
    block: Callable[[jax.Array, jax.Array, Comb], jax.Array], x: jax.Array, y: jax.Array, first: Comb, size: int
) -> jax.Array:
    """The sum of `block(x, y, comb of the first axis)` over the parts of a batch."""
    x, cut = _cut(x, [first], size)
    if cut.chunks * cut.bands == 1:
        return block(x, y, first)
    tall = cut.first[0].out

    def at(i: jax.Array) -> jax.Array:
        return block(cut.part(x, i, cut.step, cut.height), cut.part(y, i, tall, tall), cut.first[0])

    zero = lax.full_like(x, 0, np.promote_types(x.dtype, np.float32), jax.eval_shape(at, 0).shape)
    return lax.fori_loop(0, cut.chunks * cut.bands, lambda i, total: total + at(i), zero)
