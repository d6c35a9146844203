"""What one run of a primitive costs: a table of rules by name, one file for each family.

A rule takes an `Op` (`primitive`, `params`, `inputs`, `outputs`) and returns its `Work`. What XLA's own cost analysis
counts is counted in the same way wherever it has a meaning: `xla/service/hlo_cost_analysis.cc` is the reference, and
differences are said where they are made.
"""

from collections.abc import Callable

from jconv.cost.rules import convolution, elementwise, indexing, linalg, movement, random, reduction, window
from jconv.cost.rules.base import Rule, Window, Work

__all__ = ["RULES", "Rule", "Window", "Work", "register"]

RULES: dict[str, Rule] = {
    **convolution.RULES,
    **elementwise.RULES,
    **indexing.RULES,
    **linalg.RULES,
    **movement.RULES,
    **random.RULES,
    **reduction.RULES,
    **window.RULES,
}


def register(name: str, *more: str) -> Callable[[Rule], Rule]:
    """Adds a rule for a primitive, or takes another one for it, by name: `@cost.register("my_kernel")`.

    Args:
        name, more: the names of the primitives, as a jaxpr prints them.

    Returns:
        The decorator of a function `Op -> Work`.

    Example:
        >>> @register("my_attention")
        ... def my_attention(op):
        ...     batch, queries, features = op.inputs[0].shape
        ...     return Work(macs=2 * batch * queries**2 * features)
        >>> del RULES["my_attention"]
    """

    def add(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys((name, *more), rule))
        return rule

    return add
