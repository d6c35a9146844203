"""Anti-aliased sub-sampling: a low-pass filter before the stride; Zhang 2019, arXiv:1904.11486."""

from collections.abc import Sequence
from functools import reduce

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jconv.ops.filters import binomial
from jconv.ops.padding import check_input
from jconv.ops.pool import max_pool
from jconv.ops.window import Padding, axes, per_axis

__all__ = ["blur_pool", "max_blur_pool"]


def blur_pool(x: jax.Array, kernel: int | Sequence[int] = 3, *, stride: int | Sequence[int] = 2) -> jax.Array:
    """Low-pass, then sub-sample: a binomial filter along each axis, its borders reflected.

    The filter is row `kernel - 1` of Pascal's triangle over its sum: [1, 1] / 2, [1, 2, 1] / 4, [1, 3, 3, 1] / 8, ...
    Output i lies at input `i * stride`, as in the paper: (kernel - 1) // 2 elements are added before x, and kernel // 2
    after it. An axis too short to be reflected once is reflected to and fro; one of a single element comes out as it
    was. The filter is separable, so it is computed as shifted sums, one axis at a time, in at least float32.

    Args:
        x: (N, *spatial, C).
        kernel: taps along each axis, an int for all axes or one for each.
        stride: input elements from one window to the next.

    Returns:
        (N, *out, C) in x's dtype, `out = ceil(n / stride)`.

    Raises:
        ValueError: a kernel or a stride that is not positive, or not one for each axis.

    Example:
        >>> blur_pool(jnp.array([0.0, 4.0, 0.0, 0.0]).reshape(1, 4, 1)).ravel()
        Array([2., 1.], dtype=float32)

    References:
        Zhang 2019, "Making Convolutional Networks Shift-Invariant Again", arXiv:1904.11486, section 3.2.
    """
    check_input(x)
    taps = per_axis("kernel", kernel, x.ndim - 2, least=1)
    window = axes(x.shape[1:-1], taps, stride=stride, padding=[((k - 1) // 2, k // 2) for k in taps])
    y = x.astype(np.promote_types(x.dtype, np.float32))
    for dim, (n, a) in enumerate(zip(x.shape[1:-1], window, strict=True), start=1):
        pads = [(0, 0)] * x.ndim
        pads[dim] = (a.lo, a.hi)
        padded = jnp.pad(y, pads, mode="reflect")
        span = (a.output_size(n) - 1) * a.stride + 1
        shifted = (lax.slice_in_dim(padded, i, i + span, a.stride, axis=dim) for i in range(a.kernel))
        y = reduce(jnp.add, (float(w) * z for w, z in zip(binomial(a.kernel), shifted, strict=True)))
    return y.astype(x.dtype)


def max_blur_pool(
    x: jax.Array,
    kernel: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    padding: Padding = 0,
    blur: int | Sequence[int] = 3,
) -> jax.Array:
    """`max_pool` without its aliasing: the largest value of every window, densely, then `blur_pool` with the stride.

    The sizes are those of `max_pool` with the same kernel, stride and padding, which it takes the place of.

    Args:
        x: (N, *spatial, C).
        kernel, stride, padding: as in `max_pool`; stride None is the kernel.
        blur: the kernel of `blur_pool`.

    Returns:
        (N, *out, C) in x's dtype.

    Raises:
        ValueError: as `max_pool` and `blur_pool`.

    Example:
        >>> max_blur_pool(jnp.ones((1, 8, 8, 3)), 3, stride=2, padding=1).shape
        (1, 4, 4, 3)

    References:
        Zhang 2019, "Making Convolutional Networks Shift-Invariant Again", arXiv:1904.11486, section 3.2.
    """
    dense = max_pool(x, kernel, stride=1, padding=padding)
    return blur_pool(dense, blur, stride=kernel if stride is None else stride)
