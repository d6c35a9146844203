"""What `lowering="auto"` chooses for a convolution, and why."""

from collections.abc import Sequence
from typing import NamedTuple

import jax

from jconv.ops.choose import Choice, choose
from jconv.ops.conv import check_kernel
from jconv.ops.lowerings import Form
from jconv.ops.padding import place
from jconv.ops.window import Padding

__all__ = ["Explanation", "explain"]


class Explanation(NamedTuple):
    """The lowering of a convolution and of its two gradients, each with the reason for it."""

    forward: Choice
    input_gradient: Choice
    kernel_gradient: Choice

    def __str__(self) -> str:
        return "\n".join(f"{name.replace('_', ' '):<16}{c.lowering:<9}{c.why}" for name, c in self._asdict().items())


def explain(
    x: jax.Array | jax.ShapeDtypeStruct,
    kernel: jax.Array | jax.ShapeDtypeStruct,
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    platform: str | None = None,
) -> Explanation:
    """What `conv` with these arguments does on a platform. It prints as a table; nothing is computed.

    Args:
        x, kernel, stride, padding, dilation, groups: as in `jconv.conv`; arrays may be `jax.ShapeDtypeStruct`.
        platform: "cpu", "cuda", "rocm" or "tpu"; None is the default device's.

    Example:
        >>> x, kernel = jax.ShapeDtypeStruct((8, 28, 28, 64), "float32"), jax.ShapeDtypeStruct((3, 3, 1, 64), "float32")
        >>> explain(x, kernel, padding=1, groups=64, platform="cpu").forward.lowering
        'shift'
    """
    check_kernel(x, kernel, groups)
    windows = []

    def run(x: jax.Array) -> jax.Array:
        x, window = place(x, kernel.shape[:-2], stride=stride, padding=padding, dilation=dilation)
        windows.append(window)
        return x

    sizes = jax.eval_shape(run, x).shape[1:-1]
    form = Form(sizes, windows[0], groups)
    on = platform or jax.default_backend()
    return Explanation(
        *(choose(on, slot, form, x.shape[0], x.shape[-1], kernel.shape[-1]) for slot in ("y", "x", "kernel"))
    )
