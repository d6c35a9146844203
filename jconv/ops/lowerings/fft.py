"""A convolution with a large kernel by the fast Fourier transform: both transformed, multiplied, summed over channels.

    y = F⁻¹(F(x) · conj(F(kernel)))

Its time hardly depends on the kernel's size. Circular, over just enough zeros that what wraps round meets only those.
With a stride, some of it is thrown away.
Its rounding is that of the largest values everywhere, and small where a window has many elements; what is not finite
spreads over its whole image.

Mathieu, Henaff & LeCun 2014, "Fast Training of Convolutional Networks through FFTs", arXiv:1312.5851, section 2.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jconv.ops.lowerings.form import Form, Lowering, transposed
from jconv.ops.window import Axis

__all__ = ["LOWERING", "Work", "work"]


def forward(x: jax.Array, kernel: jax.Array, form: Form) -> jax.Array:
    """(x, kernel) -> y."""
    rank, wide, groups = len(form.window), np.promote_types(x.dtype, np.float32), form.groups
    spatial, lengths = range(-rank, 0), [_length(a, n) for a, n in zip(form.window, form.sizes, strict=True)]
    holes = [(0, 0, a.dilation - 1) for a in form.window]
    kernel = lax.pad(kernel.astype(wide), jnp.zeros((), wide), [*holes, (0, 0, 0), (0, 0, 0)])
    a = jnp.fft.rfftn(jnp.moveaxis(x.astype(wide), -1, 1), lengths, spatial)  # (N, C, *frequencies)
    b = jnp.fft.rfftn(jnp.moveaxis(kernel, (-2, -1), (0, 1)), lengths, spatial).conj()  # (C / groups, F, *frequencies)
    shape = a.shape[2:]
    if groups == x.shape[-1] == kernel.shape[-1]:
        y = a * b[0]
    else:
        a = a.reshape(len(x), groups, -1, *shape)
        b = b.reshape(len(b), groups, -1, *shape)
        y = jnp.einsum("ngc...,cgf...->ngf...", a, b).reshape(len(x), -1, *shape)
    y = jnp.fft.irfftn(y, lengths, spatial)
    y = jnp.roll(y, [a.lo for a in form.window], spatial)
    ends = [(m - 1) * a.stride + 1 for a, m in zip(form.window, form.out, strict=True)]
    y = lax.slice(y, [0] * y.ndim, [*y.shape[:2], *ends], [1, 1, *(a.stride for a in form.window)])
    return jnp.moveaxis(y, 1, -1).astype(x.dtype)


class Work(NamedTuple):
    """What a convolution takes this way: real operations, and bytes of everything transformed."""

    transforms: float
    products: int
    bytes: int


def work(form: Form, batch: int, channels: int, features: int) -> Work:
    """`2.5 n log2 n` operations for the transform of n real elements, 4 for each of the n / 2 products of a pair."""
    n = math.prod(_length(a, size) for a, size in zip(form.window, form.sizes, strict=True))
    kernels = channels * features // form.groups
    images = batch * (channels + features) + kernels
    return Work(images * 2.5 * n * math.log2(n), 2 * n * batch * kernels, 4 * n * images)


LOWERING = Lowering(forward, *transposed(forward), fits=lambda form, channels, features: "")


def _length(axis: Axis, n: int) -> int:
    """The least length without a prime factor above 5 over which y wraps round zeros only."""
    least = max(
        n + max(axis.lo, axis.hi, 0), (axis.kernel - 1) * axis.dilation + 1, (axis.output_size(n) - 1) * axis.stride + 1
    )
    return next(m for m in range(least, 2 * least + 1) if _smooth(m))


def _smooth(n: int) -> bool:
    for p in (2, 3, 5):
        while n % p == 0:
            n //= p
    return n == 1
