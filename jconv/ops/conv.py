"""The convolution: check the input, resolve the window, run a lowering."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jconv.ops.lowerings import LOWERINGS, Form
from jconv.ops.padding import LAYOUTS, check_input, place
from jconv.ops.trilinear import solve
from jconv.ops.window import Padding, whole

__all__ = ["check_bias", "check_kernel", "check_lowering", "conv"]


def conv(
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    lowering: str = "auto",
    flip: bool = False,
) -> jax.Array:
    """Convolution (cross-correlation) over 1, 2 or 3 spatial axes.

        y[n, i, f] = bias[f] + sum_{t, c} x[n, i * stride + t * dilation - padding, c] * kernel[t, c, f]

    with i and t running over all spatial axes, and c over the channels of f's group.

    Args:
        x: (N, *spatial, C).
        kernel: (*window, C / groups, features). It is cast to x's dtype, and so is the bias.
        bias: (features,), or None.
        stride: input elements from one window to the next, an int for all axes or one for each.
        padding: elements added around x: an int, one for each axis, pairs (lo, hi), None for `dilation (k - 1) // 2`,
            "SAME", "SAME_LOWER", "VALID", "CAUSAL", "CIRCULAR" or "REFLECT"; see `jconv.ops.window.axes`.
        dilation: input elements from one tap to the next, an int for all axes or one for each.
        groups: channels and features are split into this many groups, each convolved on its own.
        lowering: how to compute it and its gradients: "auto" chooses for each of them and for the platform; or one of
            `jconv.ops.lowerings.LOWERINGS`. All agree to rounding; a Fourier transform, which "auto" takes for large
            windows, spreads what is not finite over its whole image.
        flip: reverse the kernel along the spatial axes: convolution in the mathematician's sense.

    Returns:
        (N, *out, features) in x's dtype, `out = (n + lo + hi - dilation (k - 1) - 1) // stride + 1`.

    Raises:
        ValueError: ranks or channels that do not fit, a window that does not fit x, an unknown padding or lowering.

    Example:
        >>> conv(jnp.ones((1, 4, 4, 3)), jnp.ones((3, 3, 3, 6)), stride=2, padding=1).shape
        (1, 2, 2, 6)

    References:
        Dumoulin & Visin 2016, "A guide to convolution arithmetic for deep learning", arXiv:1603.07285.
    """
    x, kernel = jnp.asarray(x), jnp.asarray(kernel)
    groups = check_kernel(x, kernel, groups)
    bias = check_bias(bias, kernel.shape[-1])
    x, window = place(x, kernel.shape[:-2], stride=stride, padding=padding, dilation=dilation)
    if flip:
        kernel = jnp.flip(kernel, range(len(window)))
    form = Form(x.shape[1:-1], window, groups)
    check_lowering(lowering, form, x.shape[-1], kernel.shape[-1])
    y = solve("y", form, lowering, x=x, kernel=kernel.astype(x.dtype))
    return y if bias is None else y + bias.astype(x.dtype)


def check_kernel(x: jax.Array | jax.ShapeDtypeStruct, kernel: jax.Array | jax.ShapeDtypeStruct, groups: int) -> int:
    """The number of groups. ValueError unless x is an input, and kernel a kernel for it in so many groups."""
    check_input(x)
    rank = x.ndim - 2
    if kernel.ndim != x.ndim:
        raise ValueError(
            f"kernel: expected {rank} window axes, C_in / groups and features, for x of shape {x.shape} "
            f"{LAYOUTS[rank]}, got shape {kernel.shape}; reshape the kernel to {rank + 2} axes"
        )
    if jnp.issubdtype(kernel.dtype, jnp.complexfloating):
        raise ValueError(f"kernel: expected real numbers, got {kernel.dtype}; convolve with its two parts apart")
    channels, features = x.shape[-1], kernel.shape[-1]
    meaning = f"a positive number that divides the {channels} channels of x and the {features} features of the kernel"
    groups = whole("groups", groups, meaning)
    if channels % groups or features % groups:
        raise ValueError(f"groups: expected {meaning}, got {groups}")
    if kernel.shape[-2] * groups != channels:
        raise ValueError(
            f"kernel: x of shape {x.shape} has {channels} channels in {groups} group(s), so expected a kernel of shape "
            f"{(*kernel.shape[:-2], channels // groups, features)}, got {kernel.shape}"
        )
    return groups


def check_bias(bias: ArrayLike | None, features: int) -> jax.Array | None:
    """The bias as an array. ValueError unless it is one number for each feature."""
    if bias is not None and (bias := jnp.asarray(bias)).shape != (features,):
        raise ValueError(f"bias: expected shape ({features},), one for each feature, got {bias.shape}")
    return bias


def check_lowering(lowering: str, form: Form, channels: int, features: int) -> None:
    """ValueError unless there is a lowering of that name and it computes this form."""
    if lowering == "auto":
        return
    if not isinstance(lowering, str) or lowering not in LOWERINGS:
        raise ValueError(f"lowering: expected one of {', '.join(map(repr, ('auto', *LOWERINGS)))}, got {lowering!r}")
    if unfit := LOWERINGS[lowering].fits(form, channels, features):
        raise ValueError(f"lowering: {lowering!r} is only for {unfit}; lowering='auto' takes one that fits")
