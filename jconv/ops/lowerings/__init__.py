"""The ways to compute one convolution: one file each, one signature, `lowering(x, kernel, window, groups) -> y`.

x (N, *spatial, C) and kernel (*window, C / groups, features) have one dtype and are checked; padding is zeros.
"""

from collections.abc import Callable

import jax

from jconv.ops.lowerings import im2col, lax
from jconv.ops.window import Axis

__all__ = ["LOWERINGS", "Lowering", "choose"]

Lowering = Callable[[jax.Array, jax.Array, tuple[Axis, ...], int], jax.Array]

LOWERINGS: dict[str, Lowering] = {"lax": lax.conv, "im2col": im2col.conv}


def choose(name: str) -> Lowering:
    """The lowering of that name. "auto" is XLA's own convolution, `lax`."""
    if name == "auto":
        return LOWERINGS["lax"]
    if name not in LOWERINGS:
        raise ValueError(f"lowering: expected 'auto' or one of {', '.join(map(repr, LOWERINGS))}, got {name!r}")
    return LOWERINGS[name]
