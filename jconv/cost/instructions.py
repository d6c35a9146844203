"""What one run of an HLO instruction costs, by the conventions of XLA's own cost analysis.

`xla/service/hlo_cost_analysis.cc` is the reference: convolutions count valid taps, poolings dense ones, a loop's body
once, a conditional its most expensive branch, an unknown custom call nothing.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from jconv.cost.hlo_text import Array, Computation, Instruction, Module
from jconv.cost.rules.base import names
from jconv.cost.rules.convolution import conv_macs
from jconv.ops.window import Axis

__all__ = ["NESTED", "PRODUCTS", "Run", "run"]

ELEMENTWISE = names("""
    abs add and bitcast-convert ceil clamp compare complex convert count-leading-zeros divide floor imag is-finite
    maximum minimum multiply negate not or popcnt real reduce-precision remainder round-nearest-afz
    round-nearest-even select shift-left shift-right-arithmetic shift-right-logical sign stochastic-convert subtract xor
""")
TRANSCENDENTAL = names("""
    atan2 cbrt cosine erf exponential exponential-minus-one log log-plus-one logistic power rsqrt sine sqrt tan tanh
    rng rng-bit-generator
""")
PRODUCTS = ("convolution", "dot", "ragged-dot")
NESTED = ("fusion", "call", "while", "conditional", "async-start")
"""Instructions that stand for those of the computations that they call."""


class Run(NamedTuple):
    """FLOPs and transcendentals of one run."""

    flops: int = 0
    transcendentals: int = 0

    def times(self, n: int) -> "Run":
        """So often."""
        return Run(self.flops * n, self.transcendentals * n)


def run(instruction: Instruction, computation: Computation, module: Module) -> Run:
    """The cost of an instruction; nothing for those that only stand for others, and for movement."""
    if instruction.opcode in ELEMENTWISE:
        return Run(instruction.size)
    if instruction.opcode in TRANSCENDENTAL:
        return Run(0, sum(s.size for s in instruction.shapes))
    rule = RULES.get(instruction.opcode)
    return rule(instruction, computation, module) if rule else Run()


Rule = Callable[[Instruction, Computation, Module], Run]


def _scalar(name: str, module: Module) -> Run:
    """A function of scalars that a reduction is given."""
    inner = module.computations[name]
    found = [run(i, inner, module) for i in inner.instructions.values()]
    return Run(sum(r.flops for r in found), sum(r.transcendentals for r in found))


def _shape(i: Instruction, computation: Computation, operand: int) -> Array:
    return computation.instructions[i.operands[operand]].shapes[0]


def _reduce(i: Instruction, c: Computation, m: Module) -> Run:
    return _scalar(i.called[0], m).times(_shape(i, c, 0).size - i.size)


def _taps(i: Instruction) -> int:
    return math.prod(map(int, _field(i, "size").split("x")))


def _reduce_window(i: Instruction, c: Computation, m: Module) -> Run:
    del c
    return _scalar(i.called[0], m).times(i.size * (_taps(i) - 1))


def _select_and_scatter(i: Instruction, c: Computation, m: Module) -> Run:
    source = _shape(i, c, 1).size
    select, scatter = (_scalar(name, m) for name in i.called)
    return Run(*(a * source * (_taps(i) - 1) + b * source for a, b in zip(select, scatter, strict=True)))


def _scatter(i: Instruction, c: Computation, m: Module) -> Run:
    return _scalar(i.called[0], m).times(_shape(i, c, len(i.operands) - 1).size)


def _map(i: Instruction, c: Computation, m: Module) -> Run:
    del c
    return _scalar(i.called[0], m).times(i.size)


def _sort(i: Instruction, c: Computation, m: Module) -> Run:
    del m
    n = _shape(i, c, 0).size
    return Run(n * max(0, (n - 1).bit_length()))


def _dot(i: Instruction, c: Computation, m: Module) -> Run:
    del m
    x = _shape(i, c, 0)
    return Run(2 * i.size * math.prod(x[d] for d in i.numbers("lhs_contracting_dims")))


def _convolution(i: Instruction, c: Computation, m: Module) -> Run:
    del m
    x, kernel, y = _shape(i, c, 0), _shape(i, c, 1), i.shapes[0]
    left, right, out = i.attribute("dim_labels").replace("->", "_").split("_")
    rank = sum(label.isdigit() for label in left)
    ones = "x".join(["1"] * rank)

    def along(field: str, default: str = ones) -> list[str]:
        return (_field(i, field) or default).split("x") if rank else []

    pads = [tuple(map(int, p.split("_"))) for p in along("pad", "x".join(["0_0"] * rank))]
    stride, dilation, holes = ([int(n) for n in along(f)] for f in ("stride", "rhs_dilate", "lhs_dilate"))
    sizes, taps, outputs = (
        [shape[labels.index(str(d))] for d in range(rank)] for shape, labels in ((x, left), (kernel, right), (y, out))
    )
    axes = [Axis(k, s, d, lo, hi) for k, s, d, (lo, hi) in zip(taps, stride, dilation, pads, strict=True)]
    _, valid = conv_macs(
        sizes,
        axes,
        batch=x[left.index("b")] // int(i.attribute("batch_group_count") or 1),
        channels=kernel[right.index("i")],  # of a group
        features=y[out.index("f")],
        outputs=outputs,
        holes=holes,
    )
    return Run(2 * valid)


def _field(i: Instruction, name: str) -> str:
    """A field of the window: `3x3` of `window={size=3x3 pad=1_1x1_1}`."""
    found = [part.partition("=")[2] for part in i.attribute("window").split() if part.startswith(f"{name}=")]
    return found[0] if found else ""


def _fft(i: Instruction, c: Computation, m: Module) -> Run:
    del c, m
    return Run(8 * i.size * sum(n.bit_length() - 1 for n in i.numbers("fft_length")))


def _cholesky(i: Instruction, c: Computation, m: Module) -> Run:
    del m
    a = _shape(i, c, 0)
    return Run(a[-1] * a.size // 3)


def _triangular_solve(i: Instruction, c: Computation, m: Module) -> Run:
    del m
    return Run(2 * _shape(i, c, 0)[-1] * _shape(i, c, 1).size)


def _combine(i: Instruction, c: Computation, m: Module) -> Run:
    del c, m
    return Run(sum(s.size for s in i.shapes))


RULES: dict[str, Rule] = {
    "all-reduce": _combine,
    "cholesky": _cholesky,
    "convolution": _convolution,
    "dot": _dot,
    "fft": _fft,
    "map": _map,
    "reduce": _reduce,
    "reduce-scatter": _combine,
    "reduce-window": _reduce_window,
    "scatter": _scatter,
    "select-and-scatter": _select_and_scatter,
    "sort": _sort,
    "triangular-solve": _triangular_solve,
}
