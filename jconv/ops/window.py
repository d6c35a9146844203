"""The window arithmetic: how a kernel slides along an axis. Every size, padding and tap count comes from here.

Notation, per axis: n input size, k kernel, s stride, d dilation, (lo, hi) padding, m output size; after
Dumoulin & Visin 2016 (arXiv:1603.07285), section 2 and 5.1.
"""

import operator
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

__all__ = ["Axis", "Padding", "axes", "bins", "per_axis", "transposed_axes", "whole"]

Padding = int | str | Sequence[int | tuple[int, int]] | None
"""What a user may write for padding; see `axes`."""

EDGE_MODES = {"CIRCULAR": "wrap", "REFLECT": "reflect"}  # jnp.pad's names for paddings that are not zeros
SIZED = ("SAME", "SAME_LOWER", *EDGE_MODES)  # they keep the size, up to the stride
NAMED = (*SIZED, "VALID", "CAUSAL")


class Axis(NamedTuple):
    """One spatial axis of a sliding window."""

    kernel: int
    stride: int = 1
    dilation: int = 1
    lo: int = 0
    hi: int = 0
    """Padding; hi is negative where a transposed convolution has outputs that no window reaches."""
    over: int = 0
    """How far beyond the padding the last window reaches, if `ceil` has added it."""

    @property
    def extent(self) -> int:
        """Input elements from a window's first tap to its last: `d (k - 1) + 1`. Its receptive field."""
        return self.dilation * (self.kernel - 1) + 1

    def output_size(self, n: int) -> int:
        """`m = floor((n + lo + hi - d (k - 1) - 1) / s) + 1`, never below 0."""
        return max(0, (n + self.lo + self.hi + self.over - self.extent) // self.stride + 1)

    def ceil(self, n: int) -> "Axis":
        """This axis with m rounded up: one window more if elements are left, and if it begins before n's end.

        That is torch's `ceil_mode`; a window that would begin in the padding after x is not added.
        """
        room = n + self.lo + self.hi - self.extent
        over = -room % self.stride
        return self._replace(over=over) if 0 <= room + over < n + self.lo else self

    def fitted(self, n: int) -> "Axis":
        """This axis with the hi that its windows read: the last ends there. Negative where they leave elements of x."""
        return self._replace(hi=(self.output_size(n) - 1) * self.stride + self.extent - n - self.lo, over=0)

    def taps(self, n: int) -> list[int]:
        """How many taps of each window meet a real input element rather than padding."""
        starts = (i * self.stride - self.lo for i in range(self.output_size(n)))
        spans = ((-(min(0, start) // self.dilation), (n - 1 - start) // self.dilation) for start in starts)
        return [max(0, min(self.kernel - 1, last) - first + 1) for first, last in spans]

    def valid_taps(self, n: int) -> int:
        """How many (output index, tap) pairs touch a real input element rather than padding.

        A dense count is `m k`; this is what XLA multiplies by 2 C_in C_out to get a convolution's FLOPs.
        """
        m, total = self.output_size(n), 0
        for tap in range(self.kernel):
            offset = tap * self.dilation - self.lo  # input index = output index * s + offset
            first = max(0, -(offset // self.stride))
            last = min(m - 1, (n - 1 - offset) // self.stride)
            total += max(0, last - first + 1)
        return total


def whole(name: str, value: Any, meaning: str) -> int:
    """`value` as an int. ValueError unless it is a positive whole number, `meaning` what is expected of it."""
    try:
        number = operator.index(value)
    except TypeError:
        number = 0
    if number < 1:
        raise ValueError(f"{name}: expected {meaning}, got {value!r}")
    return number


def per_axis(name: str, value: Any, rank: int, *, least: int) -> tuple[int, ...]:
    """`value` once per spatial axis: an int means all axes. ValueError unless it is `rank` whole numbers >= `least`."""
    one = not isinstance(value, Iterable) or getattr(value, "ndim", 1) == 0  # an array of no axes is one number
    values: tuple[Any, ...] = (value,) * rank if one else tuple(value)
    try:
        numbers = tuple(map(operator.index, values))
    except TypeError:
        raise ValueError(f"{name}: expected an int or {rank} ints, got {value!r}") from None
    if len(numbers) != rank:
        raise ValueError(
            f"{name}: expected an int or {rank} ints, one for each of the {rank} spatial axes, got {value!r}; "
            f"write one number to mean all axes"
        )
    if min(numbers) < least:
        raise ValueError(f"{name}: expected {'positive' if least else 'non-negative'} sizes, got {value!r}")
    return numbers


def axes(
    sizes: Sequence[int],
    kernel: int | Sequence[int],
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = None,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
) -> tuple[Axis, ...]:
    """The window of each spatial axis, with every form of padding resolved to (lo, hi).

    Args:
        sizes: the input's spatial sizes; their number is the rank.
        kernel, stride, dilation: an int for all axes, or one for each.
        padding: None is torch's symmetric `d (k - 1) // 2`; an int or one int for each axis pads both sides;
            pairs give (lo, hi) for each axis;
            "SAME" makes `m = ceil(n / s)` with the odd element at the end, "SAME_LOWER" at the start;
            "VALID" pads nothing; "CAUSAL" pads `d (k - 1)` at the start, so that no output sees a later input;
            "CIRCULAR" and "REFLECT" have SAME's sizes, with the border filled from the input itself.
        ceil_mode: round m up instead of down; see `Axis.ceil`.

    Raises:
        ValueError: a length that is not the rank, a non-positive size, an unknown padding, an output without elements.
    """
    rank = len(sizes)
    k = per_axis("kernel", kernel, rank, least=1)
    s = per_axis("stride", stride, rank, least=1)
    d = per_axis("dilation", dilation, rank, least=1)
    pads = [_pad(padding, i, rank, n, Axis(k[i], s[i], d[i])) for i, n in enumerate(sizes)]
    window = tuple(Axis(k[i], s[i], d[i], *pads[i]) for i in range(rank))
    if ceil_mode:
        window = tuple(axis.ceil(n) for n, axis in zip(sizes, window, strict=True))
    for i, (n, axis) in enumerate(zip(sizes, window, strict=True)):
        if axis.output_size(n) < 1:
            raise ValueError(
                f"spatial axis {i}: a window of {axis.extent} (kernel {axis.kernel}, dilation {axis.dilation}) does "
                f"not fit an input of {n} with padding ({axis.lo}, {axis.hi}): the output would have no elements; "
                f"expected at least {axis.extent - axis.lo - axis.hi} inputs, or more padding"
            )
    return window


def transposed_axes(
    sizes: Sequence[int],
    kernel: int | Sequence[int],
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = None,
    output_padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
) -> tuple[tuple[Axis, ...], tuple[int, ...]]:
    """The window of a transposed convolution, and its output's sizes `n = (m - 1) s + d (k - 1) + 1 - lo - hi + o`.

    The window is that of the convolution which it is the adjoint of: one that maps those sizes to `sizes`.

    Args:
        sizes: the input's spatial sizes m.
        kernel, stride, dilation: an int for all axes, or one for each.
        padding: as in `axes`, but of names only "VALID" and "SAME", which makes `n = s m`.
        output_padding: o, less than the stride or the dilation, and 0 with "SAME". Below the stride it says which of
            the s sizes that a convolution maps to m; each further stride is cut off the padding at the end, and beyond
            that it is zeros.

    Raises:
        ValueError: as in `axes`; an output_padding that is less than neither, or not 0 with "SAME".
    """
    rank = len(sizes)
    k = per_axis("kernel", kernel, rank, least=1)
    s = per_axis("stride", stride, rank, least=1)
    d = per_axis("dilation", dilation, rank, least=1)
    extra = per_axis("output_padding", output_padding, rank, least=0)
    for o, most in zip(extra, map(max, s, d), strict=True):
        if o >= most:
            raise ValueError(
                f"output_padding: expected less than the stride or the dilation, {most}, got {output_padding!r}"
            )
    window, out = [], []
    for i, m in enumerate(sizes):
        axis = Axis(k[i], s[i], d[i])
        reach, o = axis.extent - axis.stride, extra[i]
        if isinstance(padding, str) and padding.upper() == "SAME":
            if o:
                raise ValueError(
                    f"output_padding: expected 0 with padding 'SAME', which makes outputs of the stride times x's "
                    f"size, got {output_padding!r}; for other sizes give the padding as numbers"
                )
            axis, o = axis._replace(lo=max(0, reach) // 2, hi=max(0, reach) - max(0, reach) // 2), max(0, -reach)
        elif isinstance(padding, str) and padding.upper() != "VALID":
            raise ValueError(f"padding: expected an int, pairs, None, 'SAME' or 'VALID', got {padding!r}")
        else:
            lo, hi = _pad(padding, i, rank, m, axis)
            axis, o = axis._replace(lo=lo, hi=hi - o // axis.stride * axis.stride), o % axis.stride
        n = (m - 1) * axis.stride + axis.extent - axis.lo - axis.hi + o
        if n < 1:
            raise ValueError(
                f"spatial axis {i}: padding ({axis.lo}, {axis.hi}) cuts off all of an output of "
                f"{n + axis.lo + axis.hi}; expected less"
            )
        window.append(axis)
        out.append(n)
    return tuple(window), tuple(out)


def bins(n: int, m: int) -> list[tuple[int, int]]:
    """m windows (start, stop) that cover n elements evenly: `floor(i n / m)` to `ceil((i + 1) n / m)`, as in torch.

    All are of one size where m divides n; elsewhere sizes differ by at most one, and neighbours may overlap.
    """
    return [(i * n // m, -(-(i + 1) * n // m)) for i in range(m)]


def _pad(padding: Padding, i: int, rank: int, n: int, axis: Axis) -> tuple[int, int]:
    reach = axis.extent - 1
    if padding is None:
        return reach // 2, reach // 2
    if isinstance(padding, str):
        less, more = _halves(padding, n, axis) if padding.upper() in SIZED else (0, 0)
        match padding.upper():
            case "SAME" | "CIRCULAR" | "REFLECT":
                return less, more
            case "SAME_LOWER":
                return more, less
            case "VALID":
                return 0, 0
            case "CAUSAL":
                return reach, 0
        raise ValueError(f"padding: expected an int, pairs or one of {', '.join(NAMED)}, got {padding!r}")
    if isinstance(padding, Sequence) and any(isinstance(p, Sequence) for p in padding):
        if len(padding) != rank:
            raise ValueError(f"padding: expected {rank} pairs (lo, hi), one for each spatial axis, got {padding!r}")
        lo, hi = per_axis("padding", padding[i], 2, least=0)
        return lo, hi
    both = per_axis("padding", padding, rank, least=0)[i]
    return both, both


def _halves(padding: str, n: int, axis: Axis) -> tuple[int, int]:
    """What must be added for `m = ceil(n / s)`, the smaller half first."""
    total = max(0, (-(-n // axis.stride) - 1) * axis.stride + axis.extent - n)
    if not isinstance(total, int):
        raise ValueError(
            f"padding: with a stride of {axis.stride}, {padding!r} depends on the size of the image, which is {n} here "
            f"and no number; give the padding as numbers"
        )
    return total // 2, total - total // 2
