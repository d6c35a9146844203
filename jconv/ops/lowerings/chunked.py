"""A convolution as im2col in chunks: some images at a time, their windows laid out as rows that stay in cache.

The patches of a whole batch are `window` times as large as x, and writing them to fresh memory takes longer than the
matmul that reads them. Those of a chunk are written, multiplied and forgotten. Groups are the batch of one batched
matmul; groups of few channels are merged into one block-diagonal group, because a matmul of 4 columns is mostly
overhead.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jconv.ops.lowerings import taps
from jconv.ops.lowerings.chunks import by_group, diagonal, merge, merged, over_batch, sum_over_batch
from jconv.ops.lowerings.form import Form, Lowering
from jconv.ops.lowerings.taps import Comb

__all__ = ["LOWERING"]


def forward(x: jax.Array, kernel: jax.Array, form: Form) -> jax.Array:
    """(x, kernel) -> y."""
    axes = [taps.forward(a, n) for a, n in zip(form.window, form.sizes, strict=True)]
    wide, groups = merge(kernel, form.groups)
    return _correlate(x, wide, axes, form.out, groups)


def input_gradient(kernel: jax.Array, y: jax.Array, form: Form) -> jax.Array:
    """(kernel, y) -> x: a small convolution of y for each phase of the stride, interleaved."""
    axes = [taps.backward(a, n) for a, n in zip(form.window, form.sizes, strict=True)]
    wide, groups = merge(taps.swapped(kernel, form.groups), form.groups)
    return _correlate(y, wide, axes, form.sizes, groups)


def kernel_gradient(x: jax.Array, y: jax.Array, form: Form) -> jax.Array:
    """(x, y) -> kernel: the sum over chunks of their patches times y."""
    [combs] = taps.phases([taps.forward(a, n) for a, n in zip(form.window, form.sizes, strict=True)])
    _, *window, channels, features = (0, *form.shape("kernel", x.shape, y.shape))
    m = merged(channels, form.groups)
    groups, channels = form.groups // m, channels * m
    wide = np.promote_types(x.dtype, np.float32)

    def block(x: jax.Array, y: jax.Array, first: Comb) -> jax.Array:
        rows = _rows(by_group(x, groups), (first, *combs[1:]))
        columns = by_group(y, groups).reshape(groups, rows.shape[1], -1)
        return lax.dot_general(columns, rows, (((1,), (1,)), ((0,), (0,))), preferred_element_type=wide)

    size = math.prod(form.out) * form.taps * x.shape[-1] * x.dtype.itemsize
    total = sum_over_batch(block, x, y, combs[0], size)  # (groups, features of a group, taps * channels)
    total = total.reshape(groups, -1, *window, channels)
    total = jnp.moveaxis(total, (0, 1), (-2, -1))  # (*window, channels, groups, features of a group)
    return diagonal(total, m).reshape(*window, -1, features).astype(x.dtype)


LOWERING = Lowering(forward, input_gradient, kernel_gradient, fits=lambda form, channels, features: "")


def _correlate(
    x: jax.Array, kernel: jax.Array, axes: Sequence[list[Comb]], sizes: Sequence[int], groups: int
) -> jax.Array:
    """x read by every phase's taps, times the kernel's: (N, *sizes, features)."""
    *_, channels, features = kernel.shape
    todo = []
    for combs in taps.phases(axes):
        columns = taps.of_kernel(kernel, combs).reshape(-1, channels, groups, features // groups)
        columns = jnp.moveaxis(columns, 2, 0).reshape(groups, -1, features // groups)
        todo.append((combs, columns))

    def block(x: jax.Array, first: list[Comb], size: int) -> jax.Array:
        x = by_group(x, groups)
        parts = []
        for i, (combs, columns) in enumerate(todo):
            here = (first[i // (len(todo) // len(first))], *combs[1:])
            shape = (groups, x.shape[1], *(c.out for c in here), features // groups)
            if not columns.size:  # the kernel is smaller than the stride
                parts.append(jnp.zeros(shape, x.dtype))
                continue
            wide = np.promote_types(x.dtype, np.float32)
            rows = _rows(x, here)
            part = lax.dot_general(rows, columns, (((2,), (1,)), ((0,), (0,))), preferred_element_type=wide)
            parts.append(part.astype(x.dtype).reshape(shape))
        y = taps.interleave(parts, [len(a) for a in axes], (size, *sizes[1:]), 2)
        return jnp.moveaxis(y, 0, -2).reshape(*y.shape[1:-1], features)

    most = max((columns.shape[1] * math.prod(c.out for c in combs) for combs, columns in todo), default=0)
    return over_batch(block, x, axes[0], (*sizes, features), most * groups * x.dtype.itemsize)


def _rows(x: jax.Array, combs: Sequence[Comb]) -> jax.Array:
    """The patches of x (groups, N, *sizes, channels): (groups, N * windows, taps * channels)."""
    read = jnp.concatenate(taps.slices(x, combs, 2), axis=-1)
    return read.reshape(len(x), -1, read.shape[-1])
