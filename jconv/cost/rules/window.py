"""Poolings: reductions over a sliding window, and their gradients. Counted dense, padding included, as XLA does."""

import math
from typing import TYPE_CHECKING

from jconv.cost.rules.base import Rule, Window, Work
from jconv.cost.rules.reduction import combiner_flops

if TYPE_CHECKING:
    from jconv.cost.trace import Op

__all__ = ["RULES", "pool_window"]


def pool_window(op: "Op") -> Window:
    """The geometry of a pooling, along the axes that it moves or looks along."""
    p = op.params
    kernel = p["window_dimensions"]
    ones = (1,) * len(kernel)
    stride, dilation = p["window_strides"], p.get("window_dilation") or ones
    spatial = [d for d, (k, s) in enumerate(zip(kernel, stride, strict=True)) if k > 1 or s > 1]

    def at(values: tuple) -> tuple:
        return tuple(values[d] for d in spatial)

    channels = op.outputs[0].shape[-1] if op.outputs[0].shape else 0
    return Window(at(kernel), at(stride), at(dilation), at(p["padding"]), channels=channels)


def reduce_window(op: "Op") -> Work:
    """`taps - 1` combinations for each output."""
    taps = math.prod(op.params["window_dimensions"])
    each = combiner_flops(op.params["jaxpr"]) if "jaxpr" in op.params else 1
    return Work(flops=op.outputs[0].size * max(0, taps - 1) * each, window=pool_window(op))


def scatter_window(op: "Op") -> Work:
    """The gradient of max-pooling: find the winner of every window again, and add where it was."""
    taps = math.prod(op.params["window_dimensions"])
    return Work(flops=op.inputs[0].size * taps, window=pool_window(op))


def gather_window(op: "Op") -> Work:
    """The tangent of max-pooling: the winner of every window, and what is at its place."""
    taps = math.prod(op.params["window_dimensions"])
    return Work(flops=op.outputs[0].size * max(0, taps - 1), window=pool_window(op))


RULES: dict[str, Rule] = {
    **dict.fromkeys(("reduce_window", "reduce_window_sum", "reduce_window_max", "reduce_window_min"), reduce_window),
    **dict.fromkeys(("select_and_scatter_add", "select_and_scatter"), scatter_window),
    "select_and_gather_add": gather_window,
}
