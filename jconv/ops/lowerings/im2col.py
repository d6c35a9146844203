"""A convolution as patches times a matrix: every window laid out as a row, one matmul per group.

Chellapilla, Puri & Simard 2006, "High Performance Convolutional Neural Networks for Document Processing", section 3.
"""

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from jconv.ops.lowerings.form import Form, Lowering, transposed
from jconv.ops.padding import check_input, place
from jconv.ops.window import Axis, Padding

__all__ = ["LOWERING", "forward", "im2col", "patches"]


def patches(x: jax.Array, window: tuple[Axis, ...]) -> jax.Array:
    """Every window of x: (N, *out, taps, C), taps in row-major order; a tap is one strided slice of the padded x."""
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((a.lo, a.hi, 0) for a in window), (0, 0, 0)])
    out = [a.output_size(n - a.lo - a.hi) for a, n in zip(window, x.shape[1:-1], strict=True)]
    strides = (1, *(a.stride for a in window), 1)

    def tap(index: tuple[int, ...]) -> jax.Array:
        start = [i * a.dilation for i, a in zip(index, window, strict=True)]
        stop = [o + (m - 1) * a.stride + 1 for o, m, a in zip(start, out, window, strict=True)]
        return lax.slice(x, (0, *start, 0), (x.shape[0], *stop, x.shape[-1]), strides)

    return jnp.stack([tap(i) for i in itertools.product(*(range(a.kernel) for a in window))], axis=-2)


def forward(x: jax.Array, kernel: jax.Array, form: Form) -> jax.Array:
    """(x, kernel) -> y."""
    rows = patches(x, form.window)
    *lead, taps, channels = rows.shape
    features, groups = kernel.shape[-1], form.groups
    if groups == 1:
        return rows.reshape(*lead, taps * channels) @ kernel.reshape(taps * channels, features)
    rows = rows.reshape(*lead, taps, groups, channels // groups)
    columns = kernel.reshape(taps, channels // groups, groups, features // groups)
    return jnp.einsum("...tgc,tcgf->...gf", rows, columns).reshape(*lead, features)


LOWERING = Lowering(forward, *transposed(forward), fits=lambda form, channels, features: "")


def im2col(
    x: jax.Array,
    kernel: int | Sequence[int],
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = 0,
    dilation: int | Sequence[int] = 1,
) -> jax.Array:
    """The patches of x that a convolution multiplies by its kernel.

    Args:
        x: (N, *spatial, C), 1 to 3 spatial axes.
        kernel: the window's size, an int for all axes or one for each.
        stride, padding, dilation: as in `jconv.conv`.

    Returns:
        (N, *out, prod(kernel) * C): a row per output position, tap-major, so that
        `im2col(x, k.shape[:-2]) @ k.reshape(-1, k.shape[-1])` is `conv(x, k)`.

    Example:
        >>> im2col(jnp.ones((1, 4, 4, 3)), 3, stride=2, padding=1).shape
        (1, 2, 2, 27)
    """
    x = jnp.asarray(x)
    check_input(x)
    x, window = place(x, kernel, stride=stride, padding=padding, dilation=dilation)
    rows = patches(x, window)
    return rows.reshape(*rows.shape[:-2], rows.shape[-2] * rows.shape[-1])
