"""Reductions, scans along an axis, and sorting."""

import math
from typing import TYPE_CHECKING, Any

from jconv.cost.rules.base import Rule, Work

if TYPE_CHECKING:
    from jconv.cost.trace import Op

__all__ = ["RULES", "combiner_flops"]


def combiner_flops(body: Any) -> int:
    """Operations in the function of two scalars that a reduction is given; at least 1."""
    jaxpr = getattr(body, "jaxpr", body)
    return max(1, sum(eqn.primitive.name not in ("convert_element_type", "copy") for eqn in jaxpr.eqns))


def reduce(op: "Op") -> Work:
    """One combination for every element but one of each that is kept."""
    return Work(flops=op.inputs[0].size - op.outputs[0].size)


def reduce_by(op: "Op") -> Work:
    """`lax.reduce` with a function of the user's."""
    return Work(flops=combiner_flops(op.params["jaxpr"]) * (op.inputs[0].size - op.outputs[0].size))


def cumulative(op: "Op") -> Work:
    """One combination for every element but the first along the axis; what the best sequential algorithm needs."""
    n = op.inputs[0].shape[op.params["axis"]]
    combinations = op.inputs[0].size // max(1, n) * max(0, n - 1)
    logs = op.primitive == "cumlogsumexp"
    return Work(flops=combinations, transcendentals=2 * combinations if logs else 0)


def sort(op: "Op") -> Work:
    """`n ceil(log2 n)` comparisons for each row of n. XLA takes the logarithm of all elements instead."""
    n = op.inputs[0].shape[op.params["dimension"]] if op.inputs[0].shape else 1
    return Work(flops=op.inputs[0].size * _log2(n))


def top_k(op: "Op") -> Work:
    """`n ceil(log2 k)` comparisons for each row of n: a heap of k."""
    k = op.params.get("k") or op.params.get("reduction_input_size_override") or 2
    return Work(flops=op.inputs[0].size * max(1, _log2(int(k))))


def _log2(n: int) -> int:
    return math.ceil(math.log2(n)) if n > 1 else 0


NAMES = [f"reduce_{name}" for name in ("sum", "max", "min", "prod", "and", "or", "xor")]
RULES: dict[str, Rule] = {
    **dict.fromkeys((*NAMES, "argmax", "argmin"), reduce),
    **dict.fromkeys([f"cum{name}" for name in ("sum", "prod", "max", "min", "logsumexp")], cumulative),
    "reduce": reduce_by,
    "sort": sort,
    "top_k": top_k,
    "approx_top_k": top_k,
}
