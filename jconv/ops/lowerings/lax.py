"""A convolution as XLA's own instruction, `lax.conv_general_dilated`, and its gradients as JAX defines them.

On a CPU, XLA computes some of those wrong and dies of others: it reads beyond its arrays where padding at the start is
negative (openxla/xla#48713), and aborts on some input gradients of strided convolutions whose maps are smaller than the
window. Such forms are rare, and go by way of `_larger`.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from jconv.ops.lowerings.form import Form, Lowering, transposed
from jconv.ops.window import Axis

__all__ = ["LOWERING", "forward"]

_LAYOUT = {1: ("NWC", "WIO", "NWC"), 2: ("NHWC", "HWIO", "NHWC"), 3: ("NDHWC", "DHWIO", "NDHWC")}


def forward(x: jax.Array, kernel: jax.Array, form: Form) -> jax.Array:
    """(x, kernel) -> y."""
    beyond = any(max(a.lo, a.hi) >= a.extent for a in form.window)
    strided = any(a.stride > 1 for a in form.window)
    if beyond or (strided and any(m < a.kernel for a, m in zip(form.window, form.out, strict=True))):
        return _larger(x, kernel, form)
    return _conv(x, kernel, form.window, form.groups)


def _conv(x: jax.Array, kernel: jax.Array, window: Sequence[Axis], groups: int) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=[a.stride for a in window],
        padding=[(a.lo, a.hi) for a in window],
        rhs_dilation=[a.dilation for a in window],
        dimension_numbers=_LAYOUT[len(window)],
        feature_group_count=groups,
    )


def _larger(x: jax.Array, kernel: jax.Array, form: Form) -> jax.Array:
    """`forward` with padding only within the window's reach, at least a kernel of outputs, and nothing left unread.

    What is missing of x is padded before, and what is too much of y is cut off after; barriers keep XLA from making
    one convolution of it all.
    """
    pads, window = [], []
    for a, n, m in zip(form.window, form.sizes, form.out, strict=True):
        hi = (max(m, a.kernel) - 1) * a.stride + a.extent - n - a.lo
        within = a._replace(lo=min(a.lo, a.extent - 1), hi=min(max(hi, 0), a.extent - 1))
        pads.append((a.lo - within.lo, hi - within.hi, 0))
        window.append(within)
    wide = lax.optimization_barrier(lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *pads, (0, 0, 0)]))
    y = lax.optimization_barrier(_conv(wide, kernel, window, form.groups))
    return lax.slice(y, [0] * y.ndim, form.shape("y", x.shape, kernel.shape))


LOWERING = Lowering(forward, *transposed(forward), fits=lambda form, channels, features: "")
