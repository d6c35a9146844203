"""Fixed filters by name: edge detectors, low-passes, and what they do to each channel of an image."""

import difflib
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jconv.ops.conv import conv
from jconv.ops.padding import LAYOUTS, check_input
from jconv.ops.window import Padding

__all__ = ["FIXED", "SEPARABLE", "apply_filter", "binomial", "box", "filter_kernel", "gaussian", "identity"]


def binomial(size: int) -> np.ndarray:
    """Row `size - 1` of Pascal's triangle over its sum: [1, 1] / 2, [1, 2, 1] / 4, ...; variance (size - 1) / 4."""
    taps = np.ones(1)
    for _ in range(size - 1):
        taps = np.convolve(taps, [0.5, 0.5])
    return taps


def gaussian(size: int, *, sigma: float | None = None) -> np.ndarray:
    """`exp(-t² / (2 sigma²))` over its sum, t from the middle; sigma None is that of the binomial filter."""
    width = sigma or (size - 1) ** 0.5 / 2 or 1.0  # one tap is 1 at any width
    taps = np.exp(-0.5 * ((np.arange(size) - (size - 1) / 2) / width) ** 2)
    return taps / taps.sum()


def box(size: int) -> np.ndarray:
    """`1 / size`: the mean."""
    return np.full(size, 1 / size)


def identity(size: int) -> np.ndarray:
    """1 in the middle, just before it if size is even."""
    return np.eye(size)[(size - 1) // 2]


SEPARABLE: dict[str, Callable[..., np.ndarray]] = {
    "binomial": binomial,
    "box": box,
    "gaussian": gaussian,
    "identity": identity,
}
"""The taps along one axis by name; over more axes a filter is their product. Each sums to 1."""

_ACROSS = {"prewitt": (1, 1, 1), "scharr": (3, 10, 3), "sobel": (1, 2, 1)}
_UP = (-1, 0, 1)
FIXED: dict[str, np.ndarray] = {
    **{f"{name}_x": np.outer(across, _UP) for name, across in _ACROSS.items()},
    **{f"{name}_y": np.outer(_UP, across) for name, across in _ACROSS.items()},
    "laplacian": np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]]),
    "laplacian8": np.array([[1, 1, 1], [1, -8, 1], [1, 1, 1]]),
    "sharpen": np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]]),
    "top_edge": np.array([[-1, -1, -1], [0, 0, 0], [1, 1, 1]]),
    "bottom_edge": np.array([[1, 1, 1], [0, 0, 0], [-1, -1, -1]]),
    "left_edge": np.array([[-1, 0, 1], [-1, 0, 1], [-1, 0, 1]]),
    "right_edge": np.array([[1, 0, -1], [1, 0, -1], [1, 0, -1]]),
    "diagonal1": np.array([[0, -1, 1], [-1, 1, 0], [1, 0, 0]]),
    "diagonal2": np.array([[1, -1, 0], [0, 1, -1], [0, 0, 1]]),
}
"""Filters of 3×3 taps over rows and columns by name, as they are written, without a scale."""


def filter_kernel(
    name: str, *, size: int | None = None, sigma: float | None = None, rank: int = 2, channels: int = 1
) -> jax.Array:
    """A fixed filter as the kernel of a depthwise convolution, `conv(x, kernel, groups=channels)`.

    ============================================  =====================================================
    "sobel_x", "scharr_x", "prewitt_x"            positive where x rises from left to right
    "sobel_y", "scharr_y", "prewitt_y"            positive where x rises from top to bottom
    "laplacian", "laplacian8"                     sum of 4 or 8 neighbours, minus 4 or 8 times the middle
    "sharpen"                                     x minus its laplacian
    "top_edge", "bottom_edge", "left_edge",       the edge detectors of the fast.ai course
    "right_edge", "diagonal1", "diagonal2"
    "binomial", "box", "gaussian", "identity"     low-passes of any size over 1 to 3 axes; they sum to 1
    ============================================  =====================================================

    Args:
        name: one of the above.
        size: taps along each axis, 3 if None; only for the last row.
        sigma: standard deviation of "gaussian", in elements; None is `sqrt(size - 1) / 2`, that of "binomial".
        rank: spatial axes; those that are not in the last row have 2.
        channels: the channels of the image.

    Returns:
        (*window, 1, channels), float32, the same filter for each channel.

    Raises:
        ValueError: an unknown name, a rank, size or sigma that the filter cannot have.

    Example:
        >>> filter_kernel("sobel_x")[..., 0, 0]
        Array([[-1.,  0.,  1.],
               [-2.,  0.,  2.],
               [-1.,  0.,  1.]], dtype=float32)

    References:
        Howard & Gugger 2020, "Deep Learning for Coders with fastai and PyTorch", chapter 13, for the edge detectors.
    """
    return _kernel(name, size, sigma, rank, channels, jnp.float32)


def apply_filter(
    x: jax.Array,
    name: str,
    *,
    size: int | None = None,
    sigma: float | None = None,
    stride: int | Sequence[int] = 1,
    padding: Padding = "REFLECT",
    dilation: int | Sequence[int] = 1,
    lowering: str = "auto",
) -> jax.Array:
    """Each channel of x filtered by a fixed filter: `conv(x, filter_kernel(name), groups=C)`.

    Args:
        x: (N, *spatial, C).
        name, size, sigma: as in `filter_kernel`.
        stride, padding, dilation, lowering: as in `jconv.conv`. The default padding keeps the size, and makes no edges
            of the image's borders.

    Returns:
        (N, *out, C) in x's dtype.

    Raises:
        ValueError: as `filter_kernel` and `jconv.conv`.

    Example:
        >>> apply_filter(jnp.arange(4.0).reshape(1, 1, 4, 1) * jnp.ones((1, 3, 1, 1)), "left_edge")[0, 1].ravel()
        Array([0., 6., 6., 0.], dtype=float32)
    """
    check_input(x)
    kernel = _kernel(name, size, sigma, x.ndim - 2, x.shape[-1], x.dtype)
    return conv(x, kernel, stride=stride, padding=padding, dilation=dilation, groups=x.shape[-1], lowering=lowering)


def _kernel(name: str, size: int | None, sigma: float | None, rank: int, channels: int, dtype: Any) -> jax.Array:
    _check(name, size, sigma, rank)
    if name in FIXED:
        window = FIXED[name]
    else:
        options = {"sigma": sigma} if name == "gaussian" else {}
        window = reduce(np.multiply.outer, [SEPARABLE[name](3 if size is None else size, **options)] * rank)
    return jnp.asarray(np.broadcast_to(window[..., None, None], (*window.shape, 1, channels)), dtype)


def _check(name: str, size: int | None, sigma: float | None, rank: int) -> None:
    known = sorted(FIXED | SEPARABLE)
    if name not in known:
        close = difflib.get_close_matches(name, known, cutoff=0.5)
        meant = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
        raise ValueError(f"name: no filter {name!r}; {meant}There are {', '.join(map(repr, known))}")
    if rank not in LAYOUTS or (name in FIXED and rank != 2):
        over = "2 spatial axes" if name in FIXED else "1 to 3 spatial axes"
        raise ValueError(f"rank: {name!r} filters over {over}, got {rank}; filters of any rank: {', '.join(SEPARABLE)}")
    if size is not None and (name in FIXED or size < 1):
        raise ValueError(
            f"size: {name!r} is 3×3, got {size}; leave size out"
            if name in FIXED
            else f"size: expected a positive number of taps, got {size}"
        )
    if sigma is not None and (name != "gaussian" or sigma <= 0):
        raise ValueError(
            f"sigma: expected a positive width, got {sigma}"
            if name == "gaussian"
            else f"sigma: {name!r} has none, got {sigma}; leave it out, or use 'gaussian'"
        )
