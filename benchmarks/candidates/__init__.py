"""Lowerings that were tried and do not win: not in the package, but kept here, so that the table can be made again."""

from jconv.ops.lowerings import Lowering, kn2row, lax, space_to_depth

__all__ = ["CANDIDATES"]

CANDIDATES: dict[str, Lowering] = {
    "space-to-depth, kn2row": space_to_depth.around(kn2row.LOWERING),
    "space-to-depth, lax": space_to_depth.around(lax.LOWERING),
}
