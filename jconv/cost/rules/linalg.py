"""Factorisations, triangular solves and FFTs: the operation counts of the textbooks, by leading term.

Golub & Van Loan 2013, "Matrix Computations", 4th edition: tables of sections 3.1, 3.2, 4.2, 5.2, 8.3 and 8.6.
Van Loan 1992, "Computational Frameworks for the Fast Fourier Transform", section 1.4.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from jconv.cost.rules.base import Rule, Work

if TYPE_CHECKING:
    from jconv.cost.trace import Op

__all__ = ["RULES"]


def matrices(count: Callable[[int, int], float]) -> Rule:
    """`count(m, n)` FLOPs for each m × n matrix of the first operand."""

    def rule(op: "Op") -> Work:
        *batch, m, n = op.inputs[0].shape
        return Work(flops=round(math.prod(batch) * count(m, n)))

    return rule


def triangular_solve(op: "Op") -> Work:
    """n² for each right-hand side."""
    a, b = op.inputs
    return Work(flops=b.size * a.shape[-1])


def fft(op: "Op") -> Work:
    """`5 n log2 n` for each transform of n complex numbers, half of it for real ones."""
    lengths = op.params["fft_lengths"]
    n = math.prod(lengths)
    real = "R" in getattr(op.params["fft_type"], "name", str(op.params["fft_type"])).upper().replace("FFT", "")
    wide = max(op.inputs[0].size, op.outputs[0].size)
    return Work(flops=round(wide * 5 * math.log2(max(n, 1)) / (2 if real else 1)))


def _short(m: int, n: int) -> tuple[int, int]:
    return max(m, n), min(m, n)


def _qr(m: int, n: int) -> float:
    m, n = _short(m, n)
    return 2 * n * n * (m - n / 3)


def _lu(m: int, n: int) -> float:
    m, n = _short(m, n)
    return n * n * (m - n / 3)


def _svd(m: int, n: int) -> float:
    m, n = _short(m, n)
    return 6 * m * n * n + 20 * n**3


RULES: dict[str, Rule] = {
    "cholesky": matrices(lambda m, n: n**3 / 3),
    "cholesky_update": matrices(lambda m, n: 6 * n * n),
    "eig": matrices(lambda m, n: 25 * n**3),
    "eigh": matrices(lambda m, n: 9 * n**3),
    "fft": fft,
    "geqp3": matrices(_qr),
    "geqrf": matrices(_qr),
    "hessenberg": matrices(lambda m, n: 10 * n**3 / 3),
    "householder_product": matrices(_qr),
    "lu": matrices(_lu),
    "ormqr": matrices(_qr),
    "qr": matrices(_qr),
    "schur": matrices(lambda m, n: 25 * n**3),
    "svd": matrices(_svd),
    "symmetric_product": matrices(lambda m, n: 2 * m * m * n),
    "triangular_solve": triangular_solve,
    "tridiagonal": matrices(lambda m, n: 4 * n**3 / 3),
    "tridiagonal_solve": lambda op: Work(flops=8 * op.outputs[0].size),
}
