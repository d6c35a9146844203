"""What a rule returns, and what many rules share."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from jconv.cost.trace import Op

__all__ = ["Rule", "Window", "Work", "each_output", "free", "names"]


class Window(NamedTuple):
    """How an op looks at its input: the geometry of a convolution, a pooling or a matrix product."""

    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    padding: tuple[tuple[int, int], ...] = ()
    groups: int = 1
    channels: int = 0
    features: int = 0
    """0 where each channel is looked at on its own, as in a pooling."""

    @property
    def fan_in(self) -> int:
        """Numbers that each output is made of: `prod(kernel) channels / groups`."""
        return math.prod(self.kernel) * self.channels // self.groups if self.features else math.prod(self.kernel)


class Work(NamedTuple):
    """What one run of an op costs. Bytes are those of operands and results unless said."""

    macs: int = 0
    """Multiply-adds, every tap of a window counted."""
    macs_valid: int | None = None
    """Multiply-adds of taps that touch a real input element; None is all of them."""
    flops: int = 0
    """Operations beside those multiply-adds, each of which is 2 more."""
    transcendentals: int = 0
    read: int | None = None
    """Bytes read, where they are not those of the operands."""
    written: int | None = None
    """Bytes written, where they are not those of the results."""
    window: Window | None = None
    macs_adjoint: int | None = None
    """Dense multiply-adds if the op is the gradient of another's input: as many as that one has."""


Rule = Callable[["Op"], Work]


def names(text: str) -> list[str]:
    """The words of a text: a long list of primitives is easier to read without quotes."""
    return text.split()


def each_output(flops: int = 0, transcendentals: int = 0) -> Rule:
    """So many operations for each element of the first result."""

    def rule(op: "Op") -> Work:
        n = op.outputs[0].size
        return Work(flops=flops * n, transcendentals=transcendentals * n)

    return rule


def free(op: "Op") -> Work:
    """Another name for the same memory, or a word to the compiler."""
    del op
    return Work(read=0, written=0)
