"""Operations on each element: one FLOP each, or one transcendental, as XLA counts them.

Integer and logical operations count as well, as they do there. A special function (erf_inv, lgamma, Bessel, ...) is one
transcendental here; XLA counts the polynomial that it expands to.
"""

from typing import TYPE_CHECKING

from jconv.cost.rules.base import Rule, Work, each_output, names

if TYPE_CHECKING:
    from jconv.cost.trace import Op

__all__ = ["RULES"]

ARITHMETIC = names("""
    abs add add_any and ceil clamp clz complex conj div eq eq_to floor ge gt imag is_finite le le_to lt lt_to max min
    mul mulhi ne neg nextafter not or population_count real reciprocal rem round select_n shift_left
    shift_right_arithmetic shift_right_logical sign square sub xor
""")
TRANSCENDENTAL = names("""
    acos acosh asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt cos cosh digamma erf erf_inv erfc exp exp2 expm1
    igamma igamma_grad_a igammac lgamma log log1p polygamma pow regularized_incomplete_beta rsqrt sin sinh sqrt
    tan tanh zeta
""")


def integer_pow(op: "Op") -> Work:
    """`x ** n` by repeated squaring: a multiplication for each bit below the first, one more for each further 1."""
    n = abs(op.params["y"])
    products = n.bit_length() + n.bit_count() - 2 if n else 0
    return Work(flops=(products + (op.params["y"] < 0)) * op.outputs[0].size)


RULES: dict[str, Rule] = {
    **dict.fromkeys(ARITHMETIC, each_output(flops=1)),
    **dict.fromkeys(TRANSCENDENTAL, each_output(transcendentals=1)),
    "integer_pow": integer_pow,
    "logistic": each_output(flops=3, transcendentals=1),  # 1 / (1 + exp(-x))
}
