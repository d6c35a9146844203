"""The transposed convolution: the exact adjoint of `conv`, and the uneven overlap that makes its checkerboards."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jconv.ops.conv import check_bias, check_lowering
from jconv.ops.lowerings import Form
from jconv.ops.padding import LAYOUTS, check_input
from jconv.ops.trilinear import solve
from jconv.ops.window import Padding, per_axis, transposed_axes, whole

__all__ = ["conv_transpose", "overlap_map"]


def conv_transpose(
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = 0,
    output_padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    lowering: str = "auto",
) -> jax.Array:
    """Transposed convolution over 1, 2 or 3 spatial axes: the adjoint of `conv` with the same kernel and options.

        y[n, i * stride + t * dilation - padding, c] += x[n, i, f] * kernel[t, c, f]

    so that `<conv(y, kernel), x> = <y, conv_transpose(x, kernel)>` for every x and y.

    Args:
        x: (N, *spatial, C).
        kernel: (*window, features / groups, C): the kernel of the convolution from features to C channels. torch's
            weight becomes it as a convolution's does, by moving its first two axes to the end, in reverse.
        bias: (features,), or None.
        stride: output elements from one window to the next.
        padding: elements cut off the output's borders: an int, one for each axis, pairs (lo, hi), None for
            `dilation (k - 1) // 2`, "VALID" for none, or "SAME" for `stride` times x's size.
        output_padding: elements added at the output's end, fewer than the stride or than the dilation, none with
            "SAME". Fewer than the stride, they say which of the sizes that `conv` maps to x's is meant.
        dilation: output elements from one tap to the next.
        groups: C and features are split into this many groups, each convolved on its own.
        lowering: as in `jconv.conv`.

    Returns:
        (N, *out, features) in x's dtype, `out = (n - 1) stride - lo - hi + dilation (k - 1) + output_padding + 1`.

    Raises:
        ValueError: ranks or channels that do not fit, an output without elements, an unknown padding or lowering.

    Example:
        >>> conv_transpose(jnp.ones((1, 4, 4, 6)), jnp.ones((4, 4, 3, 6)), stride=2, padding=1).shape
        (1, 8, 8, 3)

    References:
        Dumoulin & Visin 2016, arXiv:1603.07285, chapter 4. Zeiler et al. 2010, "Deconvolutional Networks".
    """
    x, kernel = jnp.asarray(x), jnp.asarray(kernel)
    groups = _check(x, kernel, groups)
    bias = check_bias(bias, kernel.shape[-2] * groups)
    window, sizes = transposed_axes(
        x.shape[1:-1],
        kernel.shape[:-2],
        stride=stride,
        padding=padding,
        output_padding=output_padding,
        dilation=dilation,
    )
    form = Form(sizes, window, groups)
    check_lowering(lowering, form, kernel.shape[-2] * groups, kernel.shape[-1])
    y = solve("x", form, lowering, kernel=kernel.astype(x.dtype), y=x)
    return y if bias is None else y + bias.astype(x.dtype)


def _check(x: jax.Array, kernel: jax.Array, groups: int) -> int:
    check_input(x)
    rank = x.ndim - 2
    if kernel.ndim != x.ndim:
        raise ValueError(
            f"kernel: expected {rank} window axes, features / groups and C, for x of shape {x.shape} "
            f"{LAYOUTS[rank]}, got shape {kernel.shape}; reshape the kernel to {rank + 2} axes"
        )
    channels = x.shape[-1]
    if kernel.shape[-1] != channels:
        raise ValueError(
            f"kernel: x of shape {x.shape} has {channels} channels, so expected a kernel of shape "
            f"{(*kernel.shape[:-1], channels)}, got {kernel.shape}; it is the kernel of the convolution that this "
            f"is the adjoint of, so its last axis is for x"
        )
    meaning = f"a positive number that divides the {channels} channels of x"
    if channels % (groups := whole("groups", groups, meaning)):
        raise ValueError(f"groups: expected {meaning}, got {groups}")
    return groups


def overlap_map(
    kernel: int | Sequence[int], stride: int | Sequence[int], *, size: int = 4, rank: int = 2
) -> np.ndarray:
    """How many windows of a transposed convolution reach each output: the pattern behind checkerboard artefacts.

        map[q] = prod over axes of #{(i, t): i * stride + t = q}

    It is uniform inside exactly when the stride divides the kernel; elsewhere some outputs add up more numbers than
    their neighbours do, at every period of the stride.

    Args:
        kernel, stride: an int for all axes, or one for each spatial axis.
        size: periods of the stride to show along each axis, of those that all windows cover.
        rank: the number of axes, where kernel and stride are both ints.

    Returns:
        Counts, `size * stride` along each axis.

    Example:
        >>> overlap_map(3, 2, size=2)
        array([[4, 2, 4, 2],
               [2, 1, 2, 1],
               [4, 2, 4, 2],
               [2, 1, 2, 1]])
        >>> overlap_map((4,), 2)
        array([2, 2, 2, 2, 2, 2, 2, 2])

    References:
        Odena, Dumoulin & Olah 2016, "Deconvolution and Checkerboard Artifacts", Distill, doi:10.23915/distill.00003.
    """
    rank = max((len(v) for v in (kernel, stride) if isinstance(v, Sequence)), default=rank)
    k, s = per_axis("kernel", kernel, rank, least=1), per_axis("stride", stride, rank, least=1)
    [periods] = per_axis("size", size, 1, least=1)
    whole = np.ones((), int)
    for each, step in zip(k, s, strict=True):
        first = -(-(each - 1) // step) * step  # where the first window's reach has ended
        places = np.arange(first, first + periods * step)
        counts = sum(((places - t) % step == 0).astype(int) for t in range(each))
        whole = np.multiply.outer(whole, counts)
    return whole
