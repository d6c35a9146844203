"""A depthwise convolution as shifted products: no patches and no matmul, a sum over taps of one shift times one number.

For convolutions with one channel a group. The forward pass and the input gradient are one fused loop each; the kernel
gradient is one reduction with an accumulator for each tap, over rows or images on their own: XLA splits what it does
not reduce among threads.
"""

import operator
from collections.abc import Sequence
from functools import reduce

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jconv.ops.lowerings import taps
from jconv.ops.lowerings.form import Form, Lowering
from jconv.ops.lowerings.taps import Comb

__all__ = ["LOWERING"]

FEW = 9
"""Taps whose sums over a row are worth being written before they are added up. Of more of them, those would be larger
than x by far."""


def forward(x: jax.Array, kernel: jax.Array, form: Form) -> jax.Array:
    """(x, kernel) -> y."""
    combs = [taps.forward(a, n)[0] for a, n in zip(form.window, form.sizes, strict=True)]
    x = _repeat(x, kernel.shape[-1] // x.shape[-1])
    return _dot(taps.slices(x, combs, 1), kernel.reshape(-1, kernel.shape[-1]))


def input_gradient(kernel: jax.Array, y: jax.Array, form: Form) -> jax.Array:
    """(kernel, y) -> x.

    Each phase of a stride takes the shifts that any phase takes, with a weight of zero where one is not its own. Those
    are some products too many, but x is written in order: phases that are interleaved afterwards take longer.
    """
    axes = [taps.backward(a, n) for a, n in zip(form.window, form.sizes, strict=True)]
    rank, features = len(axes), y.shape[-1]
    reads, weights = [], kernel[..., 0, :]
    for i, phases in enumerate(axes):
        starts = sorted({start for comb in phases for start in comb.starts})
        reads.append(Comb(1, phases[0].out, tuple(starts), ()))
        own = [dict(zip(comb.starts, comb.taps, strict=True)) for comb in phases]
        index = np.array([[taken.get(start, form.window[i].kernel) for taken in own] for start in starts])
        weights = jnp.take(weights, index, axis=2 * i, mode="fill", fill_value=0)
    weights = weights.transpose(*range(0, 2 * rank, 2), *range(1, 2 * rank, 2), 2 * rank)
    weights = weights.reshape(-1, *(n for phases in axes for n in (1, len(phases))), features)
    split = [n for comb in reads for n in (comb.out, 1)]
    x = _dot([r.reshape(-1, *split, features) for r in taps.slices(y, reads, 1)], weights)
    x = x.reshape(-1, *(comb.out * len(phases) for comb, phases in zip(reads, axes, strict=True)), features)
    x = lax.slice(x, [0] * x.ndim, (x.shape[0], *form.sizes, features))
    return x.reshape(*x.shape[:-1], form.groups, -1).sum(-1) if features != form.groups else x


def kernel_gradient(x: jax.Array, y: jax.Array, form: Form) -> jax.Array:
    """(x, y) -> kernel."""
    [combs] = taps.phases([taps.forward(a, n) for a, n in zip(form.window, form.sizes, strict=True)])
    wide = np.promote_types(x.dtype, np.float32)
    x, dy = _repeat(x, y.shape[-1] // x.shape[-1]).astype(wide), y.astype(wide)
    products = [read * dy for read in taps.slices(x, combs, 1)]
    reduced = range(x.ndim - 2 if form.taps <= FEW else 1, x.ndim - 1)  # each row, or each image

    def add(a: list[jax.Array], b: list[jax.Array]) -> list[jax.Array]:
        return list(map(operator.add, a, b))

    sums = lax.reduce(products, [np.zeros((), wide)] * len(products), add, reduced)
    kernel = jnp.stack([s.sum(range(s.ndim - 1)) for s in sums])
    return kernel.reshape((*form.shape("kernel", x.shape, y.shape)[:-2], 1, -1)).astype(y.dtype)


def fits(form: Form, channels: int, features: int) -> str:
    """Only depthwise convolutions."""
    del features
    return "" if form.groups == channels else f"one channel a group, got {channels} in {form.groups} groups"


LOWERING = Lowering(forward, input_gradient, kernel_gradient, fits)


def _repeat(x: jax.Array, times: int) -> jax.Array:
    return x if times == 1 else jnp.repeat(x, times, axis=-1)


def _dot(reads: Sequence[jax.Array], weights: jax.Array) -> jax.Array:
    """The sum of what each shift reads times its weight."""
    wide = np.promote_types(reads[0].dtype, np.float32)
    terms = (r.astype(wide) * w for r, w in zip(reads, weights.astype(wide), strict=True))
    return reduce(operator.add, terms).astype(reads[0].dtype)
