"""A convolution as XLA's own instruction, `lax.conv_general_dilated`, and its gradients as JAX defines them.

On a CPU, XLA reads beyond its arrays where padding at the start is negative and at the end is not (openxla/xla#48713),
and aborts on some input gradients of strided convolutions with fewer outputs than taps. `forward` and `input_gradient`
ask neither of it.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from jconv.ops.lowerings.form import Form, Lowering, transposed
from jconv.ops.window import Axis

__all__ = ["LOWERING", "forward", "input_gradient"]

_LAYOUT = {1: ("NWC", "WIO", "NWC"), 2: ("NHWC", "HWIO", "NHWC"), 3: ("NDHWC", "DHWIO", "NDHWC")}


def forward(x: jax.Array, kernel: jax.Array, form: Form) -> jax.Array:
    """(x, kernel) -> y."""
    window = form.window
    used = [a.fitted(n) for a, n in zip(window, form.sizes, strict=True)]
    if any(isinstance(a.hi, int) and a.lo >= a.extent > a.hi + 1 for a in used):  # the gradient pads `extent - 1 - lo`
        x, window = _padded(x, used)
    return _conv(x, kernel, window, form.groups)


def input_gradient(kernel: jax.Array, y: jax.Array, form: Form) -> jax.Array:
    """(kernel, y) -> x; more outputs, which are zero, change nothing."""
    counts = [(a.kernel, m) for a, m in zip(form.window, form.out, strict=True)]
    more = [max(0, k - m) if isinstance(m, int) else 0 for k, m in counts]  # a size without a number is a large one
    if not any(more) or all(a.stride == 1 for a in form.window):
        return _input_gradient(kernel, y, form)
    y = lax.optimization_barrier(lax.pad(y, jnp.zeros((), y.dtype), [(0, 0, 0), *((0, n, 0) for n in more), (0, 0, 0)]))
    sizes = tuple(n + m * a.stride for n, m, a in zip(form.sizes, more, form.window, strict=True))
    x = _input_gradient(kernel, y, form._replace(sizes=sizes))
    return lax.slice(x, [0] * x.ndim, [x.shape[0], *form.sizes, x.shape[-1]])


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


def _padded(x: jax.Array, window: Sequence[Axis]) -> tuple[jax.Array, list[Axis]]:
    """x with the padding that is beyond the window's reach, behind a barrier because XLA would join the two again."""
    inside = [a._replace(lo=min(a.lo, a.extent - 1), hi=min(a.hi, a.extent - 1)) for a in window]
    pads = [(a.lo - b.lo, a.hi - b.hi, 0) for a, b in zip(window, inside, strict=True)]
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *pads, (0, 0, 0)])
    return lax.optimization_barrier(x), inside


_input_gradient, _kernel_gradient = transposed(forward)
LOWERING = Lowering(forward, input_gradient, _kernel_gradient, fits=lambda form, channels, features: "")
