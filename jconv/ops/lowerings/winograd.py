"""A dense 3×3 convolution by Winograd's minimal filtering: tiles of x and the kernel transformed, multiplied, summed.

With F(m, 3) along each axis, m outputs take m + 2 products instead of 3m. A transform is a few sums of strided slices,
a tile's elements are as many arrays, and the sum over channels is one matmul for each. In chunks, as in `chunked`.

F(2, 3) rounds no worse than the sum itself. F(4, 3) multiplies by numbers up to 8, and its error is up to 16 times that
of `lax`: 1e-6 to 5e-6 of the values' root mean square. That is why `auto` takes the first alone.

Lavin & Gray 2016, "Fast Algorithms for Convolutional Neural Networks", arXiv:1509.09308, sections 4.1 to 4.3.
"""

import math
import operator
from collections.abc import Sequence
from functools import partial, reduce

import jax
import jax.numpy as jnp
import numpy as np

from jconv.ops.lowerings import taps
from jconv.ops.lowerings.chunks import over_batch, sum_over_batch
from jconv.ops.lowerings.form import Form, Lowering
from jconv.ops.lowerings.taps import Comb

__all__ = ["LOWERING", "LOWERING_4"]

INPUT = {
    2: ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)),
    4: (
        (4, 0, -5, 0, 1, 0),
        (0, -4, -4, 1, 1, 0),
        (0, 4, -4, -1, 1, 0),
        (0, -2, -1, 2, 1, 0),
        (0, 2, -1, -2, 1, 0),
        (0, 4, 0, -5, 0, 1),
    ),
}
KERNEL = {
    2: ((1, 0, 0), (1 / 2, 1 / 2, 1 / 2), (1 / 2, -1 / 2, 1 / 2), (0, 0, 1)),
    4: (
        (1 / 4, 0, 0),
        (-1 / 6, -1 / 6, -1 / 6),
        (-1 / 6, 1 / 6, -1 / 6),
        (1 / 24, 1 / 12, 1 / 6),
        (1 / 24, -1 / 12, 1 / 6),
        (0, 0, 1),
    ),
}
OUTPUT = {
    2: ((1, 1, 1, 0), (0, 1, -1, -1)),
    4: ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1)),
}


def forward(x: jax.Array, kernel: jax.Array, form: Form, tile: int) -> jax.Array:
    """(x, kernel) -> y."""
    axes = [taps.forward(a, n)[0] for a, n in zip(form.window, form.sizes, strict=True)]
    return _correlate(x, kernel, axes, form.out, tile)


def input_gradient(kernel: jax.Array, y: jax.Array, form: Form, tile: int) -> jax.Array:
    """(kernel, y) -> x: a convolution of y with the kernel turned round."""
    axes = [taps.backward(a, n)[0] for a, n in zip(form.window, form.sizes, strict=True)]
    kernel = jnp.flip(taps.swapped(kernel, 1), range(len(axes)))
    return _correlate(y, kernel, axes, form.sizes, tile)


def kernel_gradient(x: jax.Array, y: jax.Array, form: Form, tile: int) -> jax.Array:
    """(x, y) -> kernel: the sum over tiles of x times y, both transformed, and transformed back once."""
    axes = [taps.forward(a, n)[0] for a, n in zip(form.window, form.sizes, strict=True)]
    rank, wide = len(axes), np.promote_types(x.dtype, np.float32)

    def block(x: jax.Array, y: jax.Array, first: Comb) -> jax.Array:
        combs = [first, *axes[1:]]
        products = zip(_elements(x, combs, tile, wide), _spread(y, combs, tile, wide), strict=True)
        return jnp.stack([jnp.einsum("tc,tf->cf", _rows(a), _rows(b)) for a, b in products])

    size = _bytes(form.out, tile, x.shape[-1] + y.shape[-1], wide)
    total = sum_over_batch(block, x, y, axes[0], size).reshape(*[tile + 2] * rank, x.shape[-1], y.shape[-1])
    for _ in range(rank):
        total = jnp.tensordot(np.array(KERNEL[tile], wide).T, total, (1, rank - 1))
    return total.astype(x.dtype)


def fits(form: Form, channels: int, features: int, most: int) -> str:
    """Only dense windows of 3 with stride and dilation 1; 6³ elements would take too long to compile."""
    del channels, features
    plain = form.groups == 1 and all((a.kernel, a.stride, a.dilation) == (3, 1, 1) for a in form.window)
    if plain and len(form.window) <= most:
        return ""
    return f"one group, windows of 3 along at most {most} axes, stride and dilation 1, got {form}"


def _lowering(tile: int, most: int) -> Lowering:
    y, x, kernel = (partial(f, tile=tile) for f in (forward, input_gradient, kernel_gradient))
    return Lowering(y, x, kernel, partial(fits, most=most))


LOWERING = _lowering(2, most=3)
LOWERING_4 = _lowering(4, most=2)


def _correlate(x: jax.Array, kernel: jax.Array, axes: list[Comb], sizes: Sequence[int], tile: int) -> jax.Array:
    """x read from each axis' first start on, three taps at a time, times the kernel: (N, *sizes, features)."""
    rank, features, wide = len(axes), kernel.shape[-1], np.promote_types(x.dtype, np.float32)
    kernel = kernel.astype(wide)
    for _ in range(rank):
        kernel = jnp.tensordot(np.array(KERNEL[tile], wide), kernel, (1, rank - 1))
    matrices = kernel.reshape(-1, *kernel.shape[-2:])

    def block(x: jax.Array, first: list[Comb], size: int) -> jax.Array:
        combs = [*first, *axes[1:]]
        parts = [a @ b for a, b in zip(_elements(x, combs, tile, wide), matrices, strict=True)]
        for _ in range(rank):
            n = len(parts) // (tile + 2)
            parts = [out for i in range(n) for out in _times(OUTPUT[tile], parts[i::n])]
        return taps.interleave([p.astype(x.dtype) for p in parts], [tile] * rank, (size, *sizes[1:]), 1)

    size = _bytes(sizes, tile, x.shape[-1] + features, wide)
    return over_batch(block, x, axes[:1], (*sizes, features), size)


def _elements(x: jax.Array, axes: Sequence[Comb], tile: int, wide: np.dtype) -> list[jax.Array]:
    """The transformed tiles of x, by element: (tile + 2)^rank arrays (N, *tiles, channels)."""
    parts = [x.astype(wide)]
    for i, comb in enumerate(axes, start=1):
        low = min(comb.starts)
        reads = Comb(tile, -(-comb.out // tile), tuple(range(low, low + tile + 2)), ())
        parts = [out for part in parts for out in _times(INPUT[tile], taps.slices(part, [reads], i))]
    return parts


def _spread(y: jax.Array, axes: Sequence[Comb], tile: int, wide: np.dtype) -> list[jax.Array]:
    """The adjoint of what makes y of its tiles: (tile + 2)^rank arrays (N, *tiles, features)."""
    parts = [y.astype(wide)]
    for i, comb in enumerate(axes, start=1):
        reads = Comb(tile, -(-comb.out // tile), tuple(range(tile)), ())
        matrix = tuple(zip(*OUTPUT[tile], strict=True))
        parts = [out for part in parts for out in _times(matrix, taps.slices(part, [reads], i))]
    return parts


def _rows(a: jax.Array) -> jax.Array:
    return a.reshape(-1, a.shape[-1])


def _times(matrix: Sequence[Sequence[float]], parts: Sequence[jax.Array]) -> list[jax.Array]:
    """A matrix of small numbers, mostly 0 and ±1, times a vector of arrays."""
    return [
        reduce(operator.add, (p if c == 1 else p * c for c, p in zip(row, parts, strict=True) if c)) for row in matrix
    ]


def _bytes(sizes: Sequence[int], tile: int, channels: int, wide: np.dtype) -> int:
    """The transformed tiles of one image that are in use at a time: a matmul reads and writes one element of each."""
    return math.prod(-(-n // tile) * (tile + 2) for n in sizes) * channels * wide.itemsize // 4
