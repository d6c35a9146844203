"""Resizing: nearest and linear interpolation, and the convolution that follows it where one would up-sample."""

import math
from collections.abc import Iterable, Sequence
from numbers import Real

import jax
import jax.numpy as jnp
import numpy as np

from jconv.ops.conv import conv
from jconv.ops.padding import check_input
from jconv.ops.window import Padding, per_axis

__all__ = ["resize", "resize_conv"]

METHODS = ("nearest", "bilinear")


def resize(
    x: jax.Array,
    *,
    size: int | Sequence[int] | None = None,
    scale: float | Sequence[float] | None = None,
    method: str = "nearest",
) -> jax.Array:
    """x at another resolution, by interpolation between half-pixel centres: output i lies at `(i + 1/2) n / m - 1/2`.

    Nothing is low-passed: to make an image much smaller, pool or blur it.

    Args:
        x: (N, *spatial, C).
        size: outputs along each axis, an int for all axes or one for each. Give this or scale.
        scale: outputs for each input, a number for all axes or one for each; the size is `floor(n * scale)`, and the
            interpolation that of the size.
        method: "nearest", torch's "nearest-exact", which is its "nearest" too where m is a multiple of n;
            or "bilinear", linear along every axis, borders repeated, torch's with `align_corners=False`.

    Returns:
        (N, *size, C) in x's dtype.

    Raises:
        ValueError: both or neither of size and scale, an output without elements, an unknown method.

    Example:
        >>> resize(jnp.array([1.0, 3.0]).reshape(1, 2, 1), scale=2, method="bilinear").ravel()
        Array([1. , 1.5, 2.5, 3. ], dtype=float32)
    """
    check_input(x)
    sizes = _sizes(x.shape[1:-1], size, scale)
    if method == "nearest":
        for dim, m in enumerate(sizes, start=1):
            x = _nearest(x, dim, m)
        return x
    if method == "bilinear":
        wide = x.astype(np.promote_types(x.dtype, np.float32))
        y = jax.image.resize(wide, (x.shape[0], *sizes, x.shape[-1]), "linear", antialias=False)
        return y.astype(x.dtype)
    raise ValueError(f"method: expected one of {', '.join(map(repr, METHODS))}, got {method!r}")


def resize_conv(
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None = None,
    *,
    scale: float | Sequence[float] = 2,
    method: str = "nearest",
    padding: Padding = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    lowering: str = "auto",
) -> jax.Array:
    """Up-sampling without a checkerboard: `conv(resize(x, scale), kernel, bias)`.

    A transposed convolution whose stride does not divide its kernel meets some outputs more often than others; here
    every output has as many taps.

    Args:
        x: (N, *spatial, C).
        kernel, bias, padding, dilation, groups, lowering: as in `jconv.conv`; padding "SAME" keeps the resized size.
        scale, method: as in `resize`.

    Returns:
        (N, *out, features) in x's dtype.

    Raises:
        ValueError: as `resize` and `jconv.conv`.

    Example:
        >>> resize_conv(jnp.ones((1, 4, 4, 8)), jnp.ones((3, 3, 8, 5)), padding="SAME").shape
        (1, 8, 8, 5)

    References:
        Odena, Dumoulin & Olah 2016, "Deconvolution and Checkerboard Artifacts", Distill, doi:10.23915/distill.00003.
    """
    y = resize(x, scale=scale, method=method)
    return conv(y, kernel, bias, padding=padding, dilation=dilation, groups=groups, lowering=lowering)


def _sizes(
    inputs: Sequence[int], size: int | Sequence[int] | None, scale: float | Sequence[float] | None
) -> tuple[int, ...]:
    if size is not None and scale is None:
        return per_axis("size", size, len(inputs), least=1)
    if size is not None or scale is None:
        raise ValueError(f"resize: expected one of size and scale, got size={size}, scale={scale}")
    scales = tuple(scale) if isinstance(scale, Iterable) else (scale,) * len(inputs)
    if len(scales) != len(inputs) or not all(isinstance(s, Real) for s in scales):
        raise ValueError(f"scale: expected a number or {len(inputs)}, one for each spatial axis, got {scale!r}")
    sizes = tuple(math.floor(n * s) for n, s in zip(inputs, scales, strict=True))
    if min(sizes) < 1:
        raise ValueError(f"scale: {scale!r} makes sizes {sizes} of {tuple(inputs)}; expected at least 1 on each axis")
    return sizes


def _nearest(x: jax.Array, dim: int, m: int) -> jax.Array:
    n = x.shape[dim]
    if m % n == 0:
        return jnp.repeat(x, m // n, axis=dim)
    index = (2 * np.arange(m) + 1) * n // (2 * m)  # floor((i + 1/2) n / m), without rounding
    return jnp.take(x, index, axis=dim, mode="clip")
