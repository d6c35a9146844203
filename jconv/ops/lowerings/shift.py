"""A depthwise convolution as shifted products: no patches and no matmul, a sum over taps of one shift times one number.

For convolutions with one channel a group. The forward pass and the input gradient are one fused loop each; the kernel
gradient is one reduction with an accumulator for each tap, over each image on its own, so that images run in parallel.
"""

import operator
from functools import reduce

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jconv.ops.lowerings import taps
from jconv.ops.lowerings.form import Form, Lowering

__all__ = ["LOWERING"]


def forward(x: jax.Array, kernel: jax.Array, form: Form) -> jax.Array:
    """(x, kernel) -> y."""
    axes = [taps.forward(a, n) for a, n in zip(form.window, form.sizes, strict=True)]
    [combs] = taps.phases(axes)
    x = _repeat(x, kernel.shape[-1] // x.shape[-1])
    return _sum_of_shifts(x, kernel, combs)


def input_gradient(kernel: jax.Array, y: jax.Array, form: Form) -> jax.Array:
    """(kernel, y) -> x: a sum of shifts for each phase of the stride, interleaved."""
    axes = [taps.backward(a, n) for a, n in zip(form.window, form.sizes, strict=True)]
    parts = [_sum_of_shifts(y, kernel, combs) for combs in taps.phases(axes)]
    x = taps.interleave(parts, [len(a) for a in axes], form.sizes, 1)
    return x.reshape(*x.shape[:-1], form.groups, -1).sum(-1) if x.shape[-1] != form.groups else x


def kernel_gradient(x: jax.Array, y: jax.Array, form: Form) -> jax.Array:
    """(x, y) -> kernel."""
    [combs] = taps.phases([taps.forward(a, n) for a, n in zip(form.window, form.sizes, strict=True)])
    wide = np.promote_types(x.dtype, np.float32)
    x, dy = _repeat(x, y.shape[-1] // x.shape[-1]).astype(wide), y.astype(wide)
    products = [read * dy for read in taps.slices(x, combs, 1)]
    spatial = range(1, x.ndim - 1)

    def add(a: list[jax.Array], b: list[jax.Array]) -> list[jax.Array]:
        return list(map(operator.add, a, b))

    sums = lax.reduce(products, [np.zeros((), wide)] * len(products), add, spatial)  # (N, features) for each tap
    kernel = jnp.stack([s.sum(0) for s in sums])
    return kernel.reshape((*form.shape("kernel", x.shape, y.shape)[:-2], 1, -1)).astype(y.dtype)


def fits(form: Form, channels: int, features: int) -> str:
    """Only depthwise convolutions."""
    del features
    return "" if form.groups == channels else f"one channel a group, got {channels} in {form.groups} groups"


LOWERING = Lowering(forward, input_gradient, kernel_gradient, fits)


def _repeat(x: jax.Array, times: int) -> jax.Array:
    return x if times == 1 else jnp.repeat(x, times, axis=-1)


def _sum_of_shifts(x: jax.Array, kernel: jax.Array, combs: tuple[taps.Comb, ...]) -> jax.Array:
    wide = np.promote_types(x.dtype, np.float32)
    weights = kernel[np.ix_(*(c.taps for c in combs))].reshape(-1, kernel.shape[-1]).astype(wide)
    if not len(weights):  # the kernel is smaller than the stride
        return jnp.zeros((x.shape[0], *(c.out for c in combs), x.shape[-1]), x.dtype)
    read = taps.slices(x, combs, 1)
    return reduce(operator.add, (r.astype(wide) * w for r, w in zip(read, weights, strict=True))).astype(x.dtype)
