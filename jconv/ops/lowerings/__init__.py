"""The ways to compute one convolution and its gradients: one file each, one signature, see `form.Lowering`."""

from jconv.ops.lowerings import chunked, fft, im2col, kn2row, lax, matmul, shift, space_to_depth, winograd
from jconv.ops.lowerings.form import SLOTS, Form, Lowering

__all__ = ["LOWERINGS", "SLOTS", "Form", "Lowering"]

LOWERINGS: dict[str, Lowering] = {
    "lax": lax.LOWERING,
    "im2col": im2col.LOWERING,
    "chunked": chunked.LOWERING,
    "kn2row": kn2row.LOWERING,
    "winograd": winograd.LOWERING,
    "winograd4": winograd.LOWERING_4,
    "space_to_depth": space_to_depth.LOWERING,
    "shift": shift.LOWERING,
    "matmul": matmul.LOWERING,
    "fft": fft.LOWERING,
}
