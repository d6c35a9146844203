"""Random numbers: integer operations of the generator, for each 32-bit word that it makes."""

import math
from typing import TYPE_CHECKING

from jconv.cost.rules.base import Rule, Work

if TYPE_CHECKING:
    from jconv.cost.trace import Op

__all__ = ["RULES", "THREEFRY"]

THREEFRY = 58
"""Operations of Threefry-2x32 for each word: 20 rounds of an addition, a rotation (3) and an exclusive or for two
words, and 6 injections of the key. Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 3.3."""


def words(op: "Op") -> Work:
    """Every 32-bit word that comes out, by Threefry."""
    made = op.outputs[0]
    bits = op.params.get("bit_width", 32)
    keys = 2 if "key" in str(made.dtype) else 1  # words in a key
    return Work(flops=THREEFRY * math.ceil(made.size * keys * bits / 32))


def pair(op: "Op") -> Work:
    """Threefry itself: as many words come out of each of its two results."""
    return Work(flops=THREEFRY * 2 * op.outputs[0].size)


def generator(op: "Op") -> Work:
    """A generator of the hardware's or of XLA's: one operation for each number."""
    return Work(flops=op.outputs[-1].size)


RULES: dict[str, Rule] = {
    **dict.fromkeys(("random_bits", "random_split", "random_fold_in", "random_gamma"), words),
    **dict.fromkeys(("rng_bit_generator", "rng_uniform", "philox2x32", "philox4x32"), generator),
    "random_seed": words,
    "random_clone": generator,
    "threefry2x32": pair,
    "iota_2x32_shape": lambda op: Work(flops=4 * op.outputs[0].size),
}
