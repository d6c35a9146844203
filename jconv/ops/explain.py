"""What `lowering="auto"` chooses for a convolution, and why."""

from collections.abc import Sequence
from typing import NamedTuple

import jax

from jconv.ops.choose import Choice, choose
from jconv.ops.conv import check_kernel, check_lowering
from jconv.ops.lowerings import Form
from jconv.ops.padding import place
from jconv.ops.trilinear import PLATFORMS
from jconv.ops.window import Padding

__all__ = ["Explanation", "explain"]


class Explanation(NamedTuple):
    """The lowering of a convolution and of its two gradients, each with the reason for it."""

    forward: Choice
    input_gradient: Choice
    kernel_gradient: Choice

    def __str__(self) -> str:
        wide = 2 + max(len(c.lowering) for c in self)
        return "\n".join(
            f"{name.replace('_', ' '):<17}{c.lowering:<{wide}}{c.why}" for name, c in self._asdict().items()
        )


def explain(
    x: jax.Array | jax.ShapeDtypeStruct,
    kernel: jax.Array | jax.ShapeDtypeStruct,
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    lowering: str = "auto",
    flip: bool = False,
    platform: str | None = None,
) -> Explanation:
    """What `conv` with these arguments does on a platform. It prints as a table; nothing is computed.

    `conv_transpose` is the input gradient of the convolution with the same kernel, and its input gradient is that one's
    forward pass.

    Args:
        x, kernel, stride, padding, dilation, groups, lowering, flip: as in `jconv.conv`; arrays may be
            `jax.ShapeDtypeStruct`.
        platform: "cpu", "cuda", "rocm" or "tpu"; None is the default device's.

    Raises:
        ValueError: what `conv` would raise; an unknown platform.

    Example:
        >>> x, kernel = jax.ShapeDtypeStruct((8, 28, 28, 64), "float32"), jax.ShapeDtypeStruct((3, 3, 1, 64), "float32")
        >>> explain(x, kernel, padding=1, groups=64, platform="cpu").forward.lowering
        'shift'
    """
    del flip  # a kernel turned round is computed in the same way
    groups = check_kernel(x, kernel, groups)
    on = platform or jax.default_backend()
    if on not in (*PLATFORMS, jax.default_backend()):
        raise ValueError(f"platform: expected one of {', '.join(map(repr, PLATFORMS))}, got {platform!r}")
    windows = []

    def run(x: jax.Array) -> jax.Array:
        x, window = place(x, kernel.shape[:-2], stride=stride, padding=padding, dilation=dilation)
        windows.append(window)
        return x

    sizes = jax.eval_shape(run, x).shape[1:-1]
    form, channels, features = Form(sizes, windows[0], groups), x.shape[-1], kernel.shape[-1]
    check_lowering(lowering, form, channels, features)
    if lowering != "auto":
        return Explanation(*[Choice(lowering, "you asked for it")] * 3)
    return Explanation(*(choose(on, slot, form, x.shape[0], channels, features) for slot in ("y", "x", "kernel")))
