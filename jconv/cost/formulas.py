"""The textbook's formulas as plain functions of whole numbers: sizes, parameters, multiply-adds, complexity of a stack.

Everything here is dense: every tap of the kernel counts, also where it meets padding. Notation, per axis: n input size,
k kernel, s stride, p padding, d dilation, m output size; C_in channels, C_out features, g groups.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from jconv.ops.window import Axis, axes, per_axis

__all__ = [
    "StackLayer",
    "conv_macs",
    "conv_ops",
    "conv_params",
    "linear_macs",
    "linear_params",
    "output_size",
    "receptive_field_of_stack",
    "stack_space",
    "stack_time",
]


def output_size(n: int, kernel: int, *, stride: int = 1, padding: int = 0, dilation: int = 1) -> int:
    """`m = floor((n + 2 p - d (k - 1) - 1) / s) + 1`.

    Example:
        >>> [output_size(28, 5, stride=2, padding=2), output_size(14, 3, stride=2, padding=1)]
        [14, 7]

    References:
        Dumoulin & Visin 2016, arXiv:1603.07285, relationship 6 and section 5.1.
    """
    return Axis(kernel, stride, dilation, padding, padding).output_size(n)


def conv_params(
    kernel: int | Sequence[int], channels: int, features: int, *, groups: int = 1, bias: bool = True, rank: int = 2
) -> int:
    """`k^rank C_in / g C_out`, and C_out for a bias.

    Example:
        >>> conv_params(7, 3, 64, bias=False)
        9408

    Raises:
        ValueError: groups that do not divide the channels and the features.
    """
    if groups < 1 or channels % groups or features % groups:
        raise ValueError(
            f"groups: expected a number that divides {channels} channels and {features} features, got {groups}"
        )
    return math.prod(per_axis("kernel", kernel, rank, least=1)) * channels // groups * features + bias * features


def conv_macs(
    out: Sequence[int], kernel: int | Sequence[int], channels: int, features: int, *, groups: int = 1, batch: int = 1
) -> int:
    """`N prod(m) k^rank C_in / g C_out` for an output of spatial sizes `out`.

    Example:
        >>> conv_macs((112, 112), 7, 3, 64)
        118013952
    """
    taps = conv_params(kernel, channels, features, groups=groups, bias=False, rank=len(out))
    return batch * math.prod(out) * taps


def linear_params(channels: int, features: int, *, bias: bool = True) -> int:
    """`C_in C_out`, and C_out for a bias."""
    return channels * features + bias * features


def linear_macs(channels: int, features: int, *, rows: int = 1) -> int:
    """`rows C_in C_out`."""
    return rows * channels * features


class StackLayer(NamedTuple):
    """A layer of He & Sun's stacks: square kernels and square maps."""

    channels: int
    """n_{l-1}"""
    kernel: int
    """s_l"""
    features: int
    """n_l"""
    size: int
    """m_l, the side of its output"""


def stack_time(layers: Iterable[StackLayer]) -> int:
    """Time complexity of a stack of convolutions, in multiply-adds: `sum_l n_{l-1} s_l² n_l m_l²`.

    Example:
        >>> stack_time([StackLayer(3, 7, 64, 112)])
        118013952

    References:
        He & Sun 2015, "Convolutional Neural Networks at Constrained Time Cost", arXiv:1412.1710, equation 1.
    """
    return sum(n * s**2 * f * m**2 for n, s, f, m in layers)


def stack_space(layers: Iterable[StackLayer]) -> int:
    """Space complexity of a stack: its weights and its maps, `sum_l s_l² n_{l-1} n_l + sum_l m_l² n_l` numbers.

    Example:
        >>> stack_space([StackLayer(3, 7, 64, 112)])
        812224
    """
    return sum(s**2 * n * f + m**2 * f for n, s, f, m in layers)


def receptive_field_of_stack(layers: Iterable[tuple[int, int]]) -> int:
    """What one output of a chain sees along an axis: `1 + sum_l (k_l - 1) prod_{i<l} s_i`, layers as (kernel, stride).

    Example:
        >>> receptive_field_of_stack([(3, 1), (3, 1)]), receptive_field_of_stack([(3, 1)] * 3)
        (5, 7)

    References:
        Araujo, Norris & Sim 2019, "Computing Receptive Fields of Convolutional Neural Networks", Distill, equation 2.
    """
    size, jump = 1, 1
    for kernel, stride in layers:
        size += (kernel - 1) * jump
        jump *= stride
    return size


def conv_ops(conv: Any, x: Any, *, convention: str = "exact") -> tuple[int, int]:
    """Multiplications and additions of a convolution, each multiplication and addition on its own; a bias apart.

        multiplications = m² C_out k² C_in;  additions = m² C_out (k² C_in - 1), or by the forum m² C_out C_in (k² - 1)

    The forum's convention adds up every channel's window and forgets to add up the channels.

    Args:
        conv: anything with `features, kernel, stride, padding, dilation, groups`: a `jconv.layers.Conv`.
        x: (N, *spatial, C): an array, anything with a shape, or the shape.
        convention: "exact" or "forum".

    Returns:
        (multiplications, additions).

    Raises:
        ValueError: another convention, or a convolution that does not fit x.

    Example:
        >>> from jconv.layers import Conv
        >>> conv = Conv(6, 3, stride=2, padding=1)
        >>> conv_ops(conv, (1, 4, 4, 3)), conv_ops(conv, (1, 4, 4, 3), convention="forum")
        ((648, 624), (648, 576))
    """
    if convention not in ("exact", "forum"):
        raise ValueError(f"convention: expected 'exact' or 'forum', got {convention!r}")
    batch, *sizes, channels = getattr(x, "shape", x)
    if channels % conv.groups or conv.features % conv.groups:
        raise ValueError(
            f"conv: its {conv.groups} groups do not divide the {channels} channels of x "
            f"and its {conv.features} features"
        )
    window = axes(sizes, conv.kernel, stride=conv.stride, padding=conv.padding, dilation=conv.dilation)
    outputs = batch * conv.features * math.prod(a.output_size(n) for a, n in zip(window, sizes, strict=True))
    taps, channels = math.prod(a.kernel for a in window), channels // conv.groups
    additions = channels * (taps - 1) if convention == "forum" else channels * taps - 1
    return outputs * taps * channels, outputs * additions
