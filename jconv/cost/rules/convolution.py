"""Convolutions and matrix products: where the multiply-adds are."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jconv.cost.rules.base import Rule, Window, Work
from jconv.ops.window import Axis

if TYPE_CHECKING:
    from jconv.cost.trace import Op

__all__ = ["RULES", "conv_macs", "conv_work", "valid_pairs"]


def valid_pairs(n: int, axis: Axis, *, outputs: int, hole: int = 1) -> int:
    """(output index, tap) pairs whose input element is real: inside the n, and not in a hole between dilated ones.

    Args:
        n: input elements along the axis.
        axis: the window over the input with its holes; padding may be negative, as gradients have it.
        outputs: how many outputs are computed.
        hole: elements from one input to the next once it is dilated (`lhs_dilation`).
    """
    if hole == 1 and axis.lo >= 0 and outputs == axis.output_size(n):
        return axis.valid_taps(n)
    total = 0
    end = (n - 1) * hole  # the last real element of the dilated input
    for tap in range(axis.kernel):
        offset = tap * axis.dilation - axis.lo
        first = max(0, -(offset // axis.stride))
        last = min(outputs - 1, (end - offset) // axis.stride)
        if last < first:
            continue
        if hole == 1:
            total += last - first + 1
            continue
        common = math.gcd(axis.stride, hole)  # i * stride + offset = 0 (mod hole)
        if offset % common:
            continue
        period = hole // common
        start = (-offset // common * pow(axis.stride // common, -1, period)) % period if period > 1 else 0
        ahead = first + (start - first) % period
        total += max(0, (last - ahead) // period + 1)
    return total


def conv_macs(
    sizes: Sequence[int],
    axes: Sequence[Axis],
    *,
    batch: int,
    channels: int,
    features: int,
    groups: int = 1,
    outputs: Sequence[int] | None = None,
    holes: Sequence[int] | None = None,
) -> tuple[int, int]:
    """Multiply-adds of a convolution, dense and valid.

        dense = batch prod(outputs) prod(kernel) (channels / groups) features,  valid: prod of valid pairs instead

    Holes are not counted as taps: along an axis that has them, dense is `n k`, every input once with every tap, as is
    usual for a transposed convolution; or `n m` in its kernel's gradient, where the outputs are the taps.

    Args:
        sizes: the input's spatial sizes.
        axes: the window of each spatial axis.
        batch, channels, features, groups: as in `jconv.conv`; a gradient by batch groups divides its batch.
        outputs: spatial sizes of the output, if they are not what `axes` say.
        holes: `lhs_dilation` of each axis.

    Returns:
        (dense, valid).
    """
    outputs = outputs if outputs is not None else [a.output_size(n) for a, n in zip(axes, sizes, strict=True)]
    holes = holes or (1,) * len(axes)
    each = batch * (channels // groups) * features
    along = list(zip(sizes, axes, outputs, holes, strict=True))
    valid = math.prod(valid_pairs(n, a, outputs=m, hole=b) for n, a, m, b in along)
    dense = math.prod(m * a.kernel if b == 1 else n * min(m, a.kernel) for n, a, m, b in along)
    return each * dense, each * valid


def conv_work(op: "Op") -> Work:
    """`lax.conv_general_dilated`: forward, and both gradients, which are convolutions with holes or by batch groups."""
    p, (x, kernel), y = op.params, op.inputs, op.outputs[0]
    lhs, rhs, out = p["dimension_numbers"]
    axes = tuple(
        Axis(kernel.shape[k], stride, dilation, lo, hi)
        for k, stride, dilation, (lo, hi) in zip(
            rhs[2:], p["window_strides"], p["rhs_dilation"], p["padding"], strict=True
        )
    )
    groups, batch_groups = p["feature_group_count"], p["batch_group_count"]
    channels, features = x.shape[lhs[1]], y.shape[out[1]]
    macs, valid = conv_macs(
        [x.shape[d] for d in lhs[2:]],
        axes,
        batch=x.shape[lhs[0]] // batch_groups,
        channels=channels,
        features=features,
        groups=groups,
        outputs=[y.shape[d] for d in out[2:]],
        holes=p["lhs_dilation"],
    )
    each = x.shape[lhs[0]] // batch_groups * (channels // groups) * features
    moves = zip(lhs[2:], out[2:], axes, strict=True)
    adjoint = each * math.prod((x.shape[d] if a.stride == 1 else y.shape[e]) * a.kernel for d, e, a in moves)
    window = _geometry(axes, groups * batch_groups, channels, features)
    return Work(macs, valid, window=window, macs_adjoint=adjoint)


def jconv_work(op: "Op") -> Work:
    """jconv's own convolution: the convolution and both its gradients have the same multiply-adds, dense and valid."""
    form, slot = op.params["form"], op.params["slot"]
    given = dict(zip((s for s in ("x", "kernel", "y") if s != slot), op.inputs, strict=True)) | {slot: op.outputs[0]}
    (batch, *_, channels), features = given["x"].shape, given["y"].shape[-1]
    macs, valid = conv_macs(
        form.sizes, form.window, batch=batch, channels=channels, features=features, groups=form.groups
    )
    window = _geometry(form.window, form.groups, *((features, channels) if slot == "x" else (channels, features)))
    return Work(macs, valid, window=window)


def _geometry(axes: Sequence[Axis], groups: int, channels: int, features: int) -> Window:
    return Window(
        kernel=tuple(a.kernel for a in axes),
        stride=tuple(a.stride for a in axes),
        dilation=tuple(a.dilation for a in axes),
        padding=tuple((a.lo, a.hi) for a in axes),
        groups=groups,
        channels=channels,
        features=features,
    )


def dot_work(op: "Op") -> Work:
    """`lax.dot_general`: the free and batch sizes of both sides, times what is summed over."""
    x, w = op.inputs[:2]
    (contract, right), (batch, _) = op.params["dimension_numbers"]
    summed = math.prod(x.shape[d] for d in contract)
    features = w.size // max(1, math.prod(w.shape[d] for d in (*right, *op.params["dimension_numbers"][1][1])))
    groups = math.prod(x.shape[d] for d in batch)
    window = Window(groups=groups, channels=summed * groups, features=features * groups)
    return Work(op.outputs[0].size * summed, window=window)


def ragged_dot_work(op: "Op") -> Work:
    """`lax.ragged_dot_general`: every row of x times the matrix of its group."""
    numbers = op.params["ragged_dot_dimension_numbers"]
    (contract, _), _ = numbers.dot_dimension_numbers
    ragged = set(numbers.lhs_ragged_dimensions)
    summed = math.prod(op.inputs[0].shape[d] for d in contract)
    groups = op.inputs[2].shape[-1] if ragged & set(contract) else 1  # summed over in groups: each row once
    return Work(op.outputs[0].size // groups * summed)


RULES: dict[str, Rule] = {
    "conv_general_dilated": conv_work,
    "dot_general": dot_work,
    "jconv_conv": jconv_work,
    "ragged_dot_general": ragged_dot_work,
}
