"""A strided convolution with the positions of a stride as channels, along the last spatial axis: there a mere reshape.

For stems: 3 channels are too few to read at a time, and `3 * stride` are more. The kernel is padded with zeros to whole
blocks of `stride` taps, so that 7×7/2 takes 56 products for each of its 49. Then as in `chunked`.

Ying et al. 2018, "Image Classification at Supercomputer Scale", arXiv:1811.06992, section 3.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jconv.ops.lowerings import chunked
from jconv.ops.lowerings.form import Form, Lowering
from jconv.ops.window import Axis

__all__ = ["LOWERING", "around"]


class _Blocks(NamedTuple):
    """How the last spatial axis is cut into blocks of its stride."""

    axis: Axis
    blocks: int
    """Blocks that are read."""
    lo: int
    hi: int
    """Padding of x to those; negative where it cuts."""
    first: int
    """The kernel's first tap within its blocks."""


def around(inner: Lowering) -> Lowering:
    """Blocks to channels, then another lowering."""

    def forward(x: jax.Array, kernel: jax.Array, form: Form) -> jax.Array:
        """(x, kernel) -> y."""
        deep, b = _deep(form)
        return inner.y(_fold(x, b), _fold_kernel(kernel, form, b), deep)

    def input_gradient(kernel: jax.Array, y: jax.Array, form: Form) -> jax.Array:
        """(kernel, y) -> x."""
        deep, b = _deep(form)
        x = inner.x(_fold_kernel(kernel, form, b), y, deep)
        x = x.reshape(*x.shape[:-2], b.blocks * b.axis.stride, -1)
        return _pad(x, -2, -b.lo, -b.hi)

    def kernel_gradient(x: jax.Array, y: jax.Array, form: Form) -> jax.Array:
        """(x, y) -> kernel."""
        deep, b = _deep(form)
        kernel = inner.kernel(_fold(x, b), y, deep)
        *window, blocks, _, features = kernel.shape
        kernel = kernel.reshape(*window, blocks * b.axis.stride, -1, features)
        return lax.slice_in_dim(kernel, b.first, b.first + b.axis.extent, b.axis.dilation, axis=len(window))

    return Lowering(forward, input_gradient, kernel_gradient, fits)


def fits(form: Form, channels: int, features: int) -> str:
    """Only dense convolutions whose last axis strides."""
    del channels, features
    strides = form.groups == 1 and form.window[-1].stride > 1
    return "" if strides else f"one group and a stride along the last axis, got {form}"


LOWERING = around(chunked.LOWERING)


def _deep(form: Form) -> tuple[Form, _Blocks]:
    """The convolution of blocks, which has stride 1 along the last axis."""
    axis, n, out = form.window[-1], form.sizes[-1], form.out[-1]
    start = -axis.lo // axis.stride  # the block in which the first window begins
    first = -axis.lo - start * axis.stride
    taps = -(-(first + axis.extent) // axis.stride)
    count = max(out + taps - 1, 0)
    blocks = _Blocks(axis, count, -start * axis.stride, (start + count) * axis.stride - n, first)
    return Form((*form.sizes[:-1], count), (*form.window[:-1], Axis(taps)), 1), blocks


def _fold(x: jax.Array, b: _Blocks) -> jax.Array:
    """(N, ..., size, C) -> (N, ..., blocks, stride * C)."""
    x = _pad(x, -2, b.lo, b.hi)
    return x.reshape(*x.shape[:-2], b.blocks, -1)


def _fold_kernel(kernel: jax.Array, form: Form, b: _Blocks) -> jax.Array:
    """(..., taps, C, features) -> (..., blocks, stride * C, features)."""
    after = -(b.first + b.axis.extent) % b.axis.stride
    kernel = _pad(kernel, -3, b.first, after, b.axis.dilation - 1)
    *window, taps, _, features = kernel.shape
    return kernel.reshape(*window, taps // b.axis.stride, -1, features)


def _pad(a: jax.Array, axis: int, lo: int, hi: int, between: int = 0) -> jax.Array:
    pads = [(0, 0, 0)] * a.ndim
    pads[axis] = (lo, hi, between)
    return lax.pad(a, jnp.zeros((), a.dtype), pads)
