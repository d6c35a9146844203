"""The convolution as a matrix, and the adjoint of im2col."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jconv.ops.conv import conv
from jconv.ops.lowerings.im2col import im2col
from jconv.ops.padding import check_floating
from jconv.ops.window import EDGE_MODES, Axis, Padding, axes, per_axis

__all__ = ["col2im", "conv_matrix"]


def col2im(
    rows: jax.Array,
    sizes: int | Sequence[int],
    kernel: int | Sequence[int],
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = 0,
    dilation: int | Sequence[int] = 1,
) -> jax.Array:
    """The adjoint of `im2col`: every row's numbers added where they were taken from.

        <im2col(x), rows> = <x, col2im(rows)>

    It is JAX's transpose of `im2col` itself, so the two agree for every padding. It is not the inverse:
    `col2im(im2col(x))` is x times the number of windows that see each element.

    Args:
        rows: (N, *out, prod(kernel) * C), as `im2col` returns.
        sizes: the spatial sizes of the image to make, an int for all axes or one for each.
        kernel, stride, padding, dilation: as they were given to `im2col`.

    Returns:
        (N, *sizes, C) in the dtype of rows; sums are in at least float32.

    Raises:
        ValueError: rows that no image of these sizes has.

    Example:
        >>> col2im(jnp.ones((1, 3, 2)), (4,), 2)[0, :, 0]
        Array([1., 2., 2., 1.], dtype=float32)

    References:
        Dumoulin & Visin 2016, arXiv:1603.07285, section 4.1.
    """
    rows = jnp.asarray(rows)
    check_floating(rows, "rows")
    sizes = _sizes(sizes, rows.ndim - 2)
    taps = math.prod(per_axis("kernel", kernel, len(sizes), least=1))
    window = axes(sizes, kernel, stride=stride, padding=padding, dilation=dilation)
    out = tuple(axis.output_size(n) for axis, n in zip(window, sizes, strict=True))
    if rows.ndim != len(sizes) + 2 or rows.shape[1:-1] != out or rows.shape[-1] % taps:
        raise ValueError(
            f"rows: for an image of sizes {sizes} expected shape (N, {', '.join(map(str, out))}, {taps} C), "
            f"got {rows.shape}; give the window that im2col had"
        )
    image = jax.ShapeDtypeStruct(
        (rows.shape[0], *sizes, rows.shape[-1] // taps), np.promote_types(rows.dtype, np.float32)
    )
    f = partial(im2col, kernel=tuple(a.kernel for a in window), stride=stride, padding=padding, dilation=dilation)
    return jax.linear_transpose(f, image)(rows.astype(image.dtype))[0].astype(rows.dtype)


def conv_matrix(
    kernel: jax.Array,
    sizes: int | Sequence[int],
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    sparse: bool = False,
) -> Any:
    """The matrix of a convolution: the fully connected layer that computes the same.

        conv_matrix(kernel, sizes) @ x.ravel() = conv(x[None], kernel)[0].ravel()

    A row is one feature at one output position, a column one channel at one input position. Most weights are absent,
    because a window is small, and the others are tied, because it slides: of any size of image, the matrix holds no
    more distinct numbers than the kernel has. Its transpose is the transposed convolution.

    Args:
        kernel: (*window, C / groups, features).
        sizes: the spatial sizes of x, an int for all axes or one for each.
        stride, padding, dilation, groups: as in `jconv.conv`.
        sparse: return the weights that are present, and their indices, as `jax.experimental.sparse.BCOO`.

    Returns:
        (prod(out) * features, prod(sizes) * C), an array or a BCOO, in the kernel's dtype and differentiable in it.

    Raises:
        ValueError: what `jconv.conv` would raise for an x of these sizes.

    Example:
        A 3×3 kernel on a 4×4 image has 4 outputs: 36 of 64 weights are there, and only 9 of them are different.

        >>> matrix = conv_matrix(1.0 + jnp.arange(9.0).reshape(3, 3, 1, 1), (4, 4))
        >>> matrix.shape, int((matrix != 0).sum()), np.unique(matrix[matrix != 0]).size
        ((4, 16), 36, 9)

    References:
        Dumoulin & Visin 2016, arXiv:1603.07285, section 4.1. LeCun et al. 1989, "Backpropagation Applied to Handwritten
        Zip Code Recognition", section 3: convolution as weight sharing.
    """
    kernel = jnp.asarray(kernel)
    sizes = _sizes(sizes, kernel.ndim - 2)
    channels, features = kernel.shape[-2] * groups if kernel.ndim > 1 else 0, kernel.shape[-1]
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    image = jax.ShapeDtypeStruct((1, *sizes, channels), np.promote_types(kernel.dtype, np.float32))
    y = jax.eval_shape(partial(conv, groups=groups, **options), image, kernel)

    mode = EDGE_MODES.get(padding.upper()) if isinstance(padding, str) else None
    meets = _meets(sizes, axes(sizes, kernel.shape[:-2], **options), mode)
    position, tap = np.nonzero(meets >= 0)
    position, tap, at = (a[:, None, None] for a in (position, tap, meets[position, tap]))
    c, f = np.ix_(range(kernel.shape[-2]), range(features))
    entry = (tap * kernel.shape[-2] + c) * features + f  # in the kernel, for each (meeting, channel, feature)
    row = np.broadcast_to(position * features + f, entry.shape)
    column = at * channels + f // (features // groups) * kernel.shape[-2] + c

    shape = (y.size, math.prod(sizes) * channels)
    order = np.lexsort((column.ravel(), row.ravel()))
    entry, row, column = (a.ravel()[order] for a in (entry, row, column))
    weights = kernel.ravel()[entry]
    if not sparse:
        return jnp.zeros(shape, kernel.dtype).at[row, column].add(weights)
    from jax.experimental.sparse import BCOO  # half a second to import

    indices = jnp.asarray(np.stack([row, column], axis=1), jnp.int32)
    unique = mode is None  # a tap on the border may meet what another tap meets inside
    return BCOO((weights, indices), shape=shape, indices_sorted=True, unique_indices=unique)


def _sizes(sizes: int | Sequence[int], rank: int) -> tuple[int, ...]:
    """A number for each axis that is meant: as many as are given."""
    return per_axis("sizes", sizes, len(sizes) if isinstance(sizes, Sequence) else rank, least=1)


def _meets(sizes: tuple[int, ...], window: tuple[Axis, ...], mode: str | None) -> np.ndarray:
    """(outputs, taps): the input position, counted along all axes, that each tap meets; -1 is padding."""
    rank, at, inside = len(sizes), np.zeros((), int), np.ones((), bool)
    for i, (n, a) in enumerate(zip(sizes, window, strict=True)):
        how: Any = {"mode": mode} if mode else {"constant_values": -1}
        padded = np.pad(np.arange(n), (a.lo, a.hi), **how)
        along = padded[np.arange(a.output_size(n))[:, None] * a.stride + np.arange(a.kernel) * a.dilation]
        shape = np.ones(2 * rank, int)  # (*out, *taps)
        shape[[i, rank + i]] = along.shape
        along = along.reshape(shape)
        at, inside = at * n + along, inside & (along >= 0)
    return np.where(inside, at, -1).reshape(-1, math.prod(a.kernel for a in window))
