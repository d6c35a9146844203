"""A convolution as a matmul and then a sum of shifts: every position of the input times every tap, shifted and added.

The reverse order of im2col: nothing is laid out before the matmul, and what comes after it is one fused loop. The
matmul is over the positions of the input, so that a strided convolution would compute what it does not need; its input
gradient, which reads y at every position, does not. In chunks, as in `chunked`.

Vasudevan, Anderson & Gregg 2017, "Parallel Multi Channel Convolution using General Matrix Multiplication",
arXiv:1704.04428, section III.B.
"""

import itertools
import math
import operator
from collections.abc import Sequence
from functools import reduce

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jconv.ops.lowerings import chunked, taps
from jconv.ops.lowerings.chunks import by_group, merge, over_batch
from jconv.ops.lowerings.form import Form, Lowering
from jconv.ops.lowerings.taps import Comb

__all__ = ["LOWERING"]


def forward(x: jax.Array, kernel: jax.Array, form: Form) -> jax.Array:
    """(x, kernel) -> y."""
    axes = [taps.forward(a, n) for a, n in zip(form.window, form.sizes, strict=True)]
    columns, groups = _columns(kernel, form.groups)
    return _correlate(x, columns.swapaxes(1, 2).reshape(groups, columns.shape[2], -1), 1, axes, form, form.out)


def input_gradient(kernel: jax.Array, y: jax.Array, form: Form) -> jax.Array:
    """(kernel, y) -> x."""
    axes = [taps.backward(a, n) for a, n in zip(form.window, form.sizes, strict=True)]
    columns, groups = _columns(kernel, form.groups)
    return _correlate(y, columns.reshape(groups, -1, columns.shape[-1]), 2, axes, form, form.sizes)


def fits(form: Form, channels: int, features: int) -> str:
    """Any convolution, though one that strides computes more than it needs."""
    del form, channels, features
    return ""


LOWERING = Lowering(forward, input_gradient, chunked.LOWERING.kernel, fits)


def _columns(kernel: jax.Array, groups: int) -> tuple[jax.Array, int]:
    """The kernel by groups, merged where they are narrow: (groups, taps, channels, features); and their number."""
    kernel, groups = merge(kernel, groups)
    columns = kernel.reshape(-1, kernel.shape[-2], groups, kernel.shape[-1] // groups)
    return jnp.moveaxis(columns, 2, 0), groups


def _correlate(
    x: jax.Array, columns: jax.Array, contract: int, axes: Sequence[list[Comb]], form: Form, sizes: Sequence[int]
) -> jax.Array:
    """x times every tap, each product shifted to where it is read, and summed: (N, *sizes, features).

    Args:
        columns: (groups, channels, taps * features), or its transpose; `contract` is the axis of channels.
    """
    groups, channels = len(columns), columns.shape[contract]
    features = columns.size // (channels * form.taps)  # of all groups
    wide = np.promote_types(x.dtype, np.float32)
    indices = list(itertools.product(*(range(a.kernel) for a in form.window)))

    def block(x: jax.Array, first: list[Comb], size: int) -> jax.Array:
        x = by_group(x, groups)
        products = lax.dot_general(
            x.reshape(groups, -1, channels), columns, (((2,), (contract,)), ((0,), (0,))), preferred_element_type=wide
        ).reshape(*x.shape[:-1], len(indices), features // groups)
        parts = []
        for combs in taps.phases([first, *axes[1:]]):
            reads = []
            for pairs in itertools.product(*(zip(c.taps, c.starts, strict=True) for c in combs)):
                tap = indices.index(tuple(t for t, _ in pairs))
                one = [c._replace(starts=(start,), taps=(t,)) for c, (t, start) in zip(combs, pairs, strict=True)]
                reads += taps.slices(lax.index_in_dim(products, tap, -2, keepdims=False), one, 2)
            shape = (groups, x.shape[1], *(c.out for c in combs), features // groups)
            parts.append(reduce(operator.add, reads) if reads else lax.full_like(x, 0, wide, shape))
        y = taps.interleave([p.astype(x.dtype) for p in parts], [len(a) for a in axes], (size, *sizes[1:]), 2)
        return jnp.moveaxis(y, 0, -2).reshape(*y.shape[1:-1], features)

    size = math.prod(x.shape[1:-1]) * len(indices) * features * wide.itemsize
    return over_batch(block, x, axes[0], (*sizes, features), size)
