"""A convolution as XLA's own instruction, `lax.conv_general_dilated`."""

import jax
from jax import lax

from jconv.ops.window import Axis

__all__ = ["conv"]

_LAYOUT = {1: ("NWC", "WIO", "NWC"), 2: ("NHWC", "HWIO", "NHWC"), 3: ("NDHWC", "DHWIO", "NDHWC")}


def conv(x: jax.Array, kernel: jax.Array, window: tuple[Axis, ...], groups: int) -> jax.Array:
    """See `jconv.ops.lowerings`."""
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=[a.stride for a in window],
        padding=[(a.lo, a.hi) for a in window],
        rhs_dilation=[a.dilation for a in window],
        dimension_numbers=_LAYOUT[len(window)],
        feature_group_count=groups,
    )
