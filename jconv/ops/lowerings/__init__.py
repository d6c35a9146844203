"""The ways to compute one convolution: one file each, one signature, `lowering(x, kernel, window, groups) -> y`.

x (N, *spatial, C) and kernel (*window, C / groups, features) have one dtype and are checked; padding is zeros.
"""

from jconv.ops.lowerings import auto, im2col, lax
from jconv.ops.lowerings.auto import Lowering

__all__ = ["LOWERINGS", "Lowering", "lowering_of"]

LOWERINGS: dict[str, Lowering] = {"auto": auto.conv, "lax": lax.conv, "im2col": im2col.conv}


def lowering_of(name: str) -> Lowering:
    """The lowering of that name; ValueError if there is none."""
    if name not in LOWERINGS:
        raise ValueError(f"lowering: expected one of {', '.join(map(repr, LOWERINGS))}, got {name!r}")
    return LOWERINGS[name]
