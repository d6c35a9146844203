"""A convolution whose windows do not overlap, above all 1×1: what they read, as rows, times a matrix."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jconv.ops.lowerings import taps
from jconv.ops.lowerings.form import Form, Lowering
from jconv.ops.lowerings.taps import Comb
from jconv.ops.window import Axis

__all__ = ["LOWERING"]


def forward(x: jax.Array, kernel: jax.Array, form: Form) -> jax.Array:
    """(x, kernel) -> y."""
    y = _dot(_rows(x, form), _matrix(kernel), (1, 0))
    return y.reshape(form.shape("y", x.shape, kernel.shape))


def input_gradient(kernel: jax.Array, y: jax.Array, form: Form) -> jax.Array:
    """(kernel, y) -> x: zero where no window reads."""
    rank, channels = len(form.window), kernel.shape[-2]
    read = _dot(y.reshape(-1, y.shape[-1]), _matrix(kernel), (1, 1))
    read = read.reshape(-1, *form.out, *(a.kernel for a in form.window), channels)
    read = read.transpose(0, *(i + j * rank for i in range(1, 1 + rank) for j in (0, 1)), 1 + 2 * rank)
    read = read.reshape(-1, *(m * a.kernel for a, m in zip(form.window, form.out, strict=True)), channels)
    pads = [(0, 0, 0)] * read.ndim
    for i, (a, n) in enumerate(zip(form.window, form.sizes, strict=True), start=1):
        # XLA mistakes a crop beside gaps in an axis of one element (openxla/xla#48715)
        step = 1 if read.shape[i] == 1 else _step(a)
        pads[i] = (-a.lo, n + a.lo - (read.shape[i] - 1) * step - 1, step - 1)
    return lax.pad(read, jnp.zeros((), read.dtype), pads)


def kernel_gradient(x: jax.Array, y: jax.Array, form: Form) -> jax.Array:
    """(x, y) -> kernel."""
    kernel = _dot(_rows(x, form), y.reshape(-1, y.shape[-1]), (0, 0))
    return kernel.reshape(form.shape("kernel", x.shape, y.shape))


def fits(form: Form, channels: int, features: int) -> str:
    """Only dense convolutions whose windows do not overlap: of one element, or as large as their stride."""
    del channels, features
    apart = all(a.kernel == 1 or (a.kernel == a.stride and a.dilation == 1) for a in form.window)
    return "" if apart and form.groups == 1 else f"one group and windows of one element or of their stride, got {form}"


LOWERING = Lowering(forward, input_gradient, kernel_gradient, fits)


def _step(axis: Axis) -> int:
    """From one element that is read to the next."""
    return axis.stride if axis.kernel == 1 else 1


def _rows(x: jax.Array, form: Form) -> jax.Array:
    """(N * windows, elements of a window * C)."""
    rank, channels = len(form.window), x.shape[-1]
    combs = [Comb(_step(a), m * a.kernel, (-a.lo,), (0,)) for a, m in zip(form.window, form.out, strict=True)]
    [read] = taps.slices(x, combs, 1)
    split = read.reshape(-1, *(n for a, m in zip(form.window, form.out, strict=True) for n in (m, a.kernel)), channels)
    split = split.transpose(0, *range(1, 2 * rank, 2), *range(2, 2 * rank + 1, 2), 2 * rank + 1)
    return split.reshape(-1, form.taps * channels)


def _matrix(kernel: jax.Array) -> jax.Array:
    """(elements of a window * C, features)."""
    return kernel.reshape(math.prod(kernel.shape[:-1]), kernel.shape[-1])


def _dot(a: jax.Array, b: jax.Array, contract: tuple[int, int]) -> jax.Array:
    wide = np.promote_types(a.dtype, np.float32)
    return lax.dot_general(a, b, (((contract[0],), (contract[1],)), ((), ())), preferred_element_type=wide).astype(
        a.dtype
    )
