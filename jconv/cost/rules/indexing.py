"""Gather and scatter, slices in and out: bytes are those of the elements that are touched, not of the whole array."""

from typing import TYPE_CHECKING

from jconv.cost.rules.base import Rule, Work

if TYPE_CHECKING:
    from jconv.cost.trace import Op

__all__ = ["RULES"]


def gather(op: "Op") -> Work:
    """Reads what it returns, and the indices."""
    return Work(read=op.outputs[0].bytes + sum(v.bytes for v in op.inputs[1:]))


def scatter(op: "Op") -> Work:
    """Overwrites; the array that it changes is changed in place."""
    *_, indices, updates = op.inputs
    return Work(read=indices.bytes + updates.bytes, written=updates.bytes)


def scatter_combine(op: "Op") -> Work:
    """Reads, combines and writes every element of the updates."""
    *_, indices, updates = op.inputs
    return Work(flops=updates.size, read=indices.bytes + 2 * updates.bytes, written=updates.bytes)


def update_slice(op: "Op") -> Work:
    """Overwrites a slice in place."""
    update = op.inputs[1]
    return Work(read=update.bytes, written=update.bytes)


COMBINERS = [f"scatter{sep}{name}" for name in ("add", "mul", "min", "max", "sub") for sep in "-_"]
RULES: dict[str, Rule] = {
    **dict.fromkeys(("gather", "dynamic_slice", "slice"), gather),
    "scatter": scatter,
    **dict.fromkeys(COMBINERS, scatter_combine),
    "dynamic_update_slice": update_slice,
}
