"""A convolution with a window of one element: the positions that it reads, times a matrix."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jconv.ops.lowerings import taps
from jconv.ops.lowerings.form import Form, Lowering

__all__ = ["LOWERING"]


def _read(x: jax.Array, form: Form) -> jax.Array:
    """The one slice of x that the window's one element reads."""
    combs = [taps.forward(a, n)[0] for a, n in zip(form.window, form.sizes, strict=True)]
    [read] = taps.slices(x, combs, 1)
    return read


def _dot(a: jax.Array, b: jax.Array, contract: tuple[int, int]) -> jax.Array:
    wide = np.promote_types(a.dtype, np.float32)
    return lax.dot_general(a, b, (((contract[0],), (contract[1],)), ((), ())), preferred_element_type=wide).astype(
        a.dtype
    )


def forward(x: jax.Array, kernel: jax.Array, form: Form) -> jax.Array:
    """(x, kernel) -> y."""
    read = _read(x, form)
    rows = read.reshape(-1, x.shape[-1])
    return _dot(rows, kernel.reshape(kernel.shape[-2:]), (1, 0)).reshape(*read.shape[:-1], -1)


def input_gradient(kernel: jax.Array, y: jax.Array, form: Form) -> jax.Array:
    """(kernel, y) -> x: zero where no window reads."""
    read = _dot(y.reshape(-1, y.shape[-1]), kernel.reshape(kernel.shape[-2:]), (1, 1)).reshape(*y.shape[:-1], -1)
    pads = [(0, 0, 0)] * read.ndim
    for i, (a, n, m) in enumerate(zip(form.window, form.sizes, form.out, strict=True), start=1):
        pads[i] = (-a.lo, n + a.lo - (m - 1) * a.stride - 1, a.stride - 1)
    return lax.pad(read, jnp.zeros((), read.dtype), pads)


def kernel_gradient(x: jax.Array, y: jax.Array, form: Form) -> jax.Array:
    """(x, y) -> kernel."""
    rows = _read(x, form).reshape(-1, x.shape[-1])
    kernel = _dot(rows, y.reshape(-1, y.shape[-1]), (0, 0))
    return kernel.reshape(form.shape("kernel", x.shape, y.shape))


def fits(form: Form, channels: int, features: int) -> str:
    """Only dense 1×1 convolutions."""
    del channels, features
    return "" if form.taps == 1 and form.groups == 1 else f"a window of one element and one group, got {form}"


LOWERING = Lowering(forward, input_gradient, kernel_gradient, fits)
