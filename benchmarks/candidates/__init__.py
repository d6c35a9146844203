"""Lowerings that were tried and do not win: not in the package, but kept here, so that the table can be made again."""

from benchmarks.candidates import fft, space_to_depth, winograd
from jconv.ops.lowerings import Lowering, kn2row, lax

__all__ = ["CANDIDATES"]

CANDIDATES: dict[str, Lowering] = {
    "Winograd F(2, 3)": winograd.LOWERING,
    "Winograd F(4, 3)": winograd.LOWERING_4,
    "FFT": fft.LOWERING,
    "space-to-depth, chunked": space_to_depth.LOWERING,
    "space-to-depth, kn2row": space_to_depth.around(kn2row.LOWERING),
    "space-to-depth, lax": space_to_depth.around(lax.LOWERING),
}
