"""A convolution as XLA's own instruction, `lax.conv_general_dilated`, and its gradients as JAX defines them."""

import jax
from jax import lax

from jconv.ops.lowerings.form import Form, Lowering, transposed

__all__ = ["LOWERING", "forward"]

_LAYOUT = {1: ("NWC", "WIO", "NWC"), 2: ("NHWC", "HWIO", "NHWC"), 3: ("NDHWC", "DHWIO", "NDHWC")}


def forward(x: jax.Array, kernel: jax.Array, form: Form) -> jax.Array:
    """(x, kernel) -> y."""
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=[a.stride for a in form.window],
        padding=[(a.lo, a.hi) for a in form.window],
        rhs_dilation=[a.dilation for a in form.window],
        dimension_numbers=_LAYOUT[len(form.window)],
        feature_group_count=form.groups,
    )


LOWERING = Lowering(forward, *transposed(forward), fits=lambda form, channels, features: "")
