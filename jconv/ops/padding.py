"""An input made ready for its window: the border filled where the padding is not zeros."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jconv.ops.window import EDGE_MODES, Axis, Padding, axes

__all__ = ["LAYOUTS", "check_floating", "check_input", "place"]

LAYOUTS = {1: "(N, W, C)", 2: "(N, H, W, C)", 3: "(N, D, H, W, C)"}


def check_input(x: jax.Array | jax.ShapeDtypeStruct) -> None:
    """ValueError unless x is a batch of floating-point values with 1 to 3 spatial axes, none empty, and channels."""
    if len(x.shape) - 2 not in LAYOUTS:
        raise ValueError(
            f"x: expected {', '.join(LAYOUTS.values())}, got shape {x.shape}; "
            f"a single image needs a batch axis: x[None]"
        )
    if 0 in x.shape[1:-1]:
        raise ValueError(f"x: expected positive spatial sizes, got shape {x.shape}")
    check_floating(x)


def check_floating(x: jax.Array | jax.ShapeDtypeStruct, name: str = "x") -> None:
    """ValueError unless x has real, floating-point numbers."""
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(
            f"{name}: expected a floating-point array, got {x.dtype}; cast it first: {name}.astype(jnp.float32)"
        )


def place(
    x: jax.Array,
    kernel: int | Sequence[int],
    *,
    stride: int | Sequence[int],
    padding: Padding,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
) -> tuple[jax.Array, tuple[Axis, ...]]:
    """x and its window (`jconv.ops.window.axes`); an edge padding is already in x, and gone from the window."""
    window = axes(x.shape[1:-1], kernel, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode)
    name = padding.upper() if isinstance(padding, str) else ""
    if name not in EDGE_MODES:
        return x, window
    for n, axis in zip(x.shape[1:-1], window, strict=True):
        most, need = n - (name == "REFLECT"), max(axis.lo, axis.hi)
        if need > most:
            raise ValueError(f"padding: {name} can take at most {most} elements from an axis of {n}, needs {need}")
    x = jnp.pad(x, [(0, 0), *((a.lo, a.hi) for a in window), (0, 0)], mode=EDGE_MODES[name])
    return x, tuple(a._replace(lo=0, hi=0) for a in window)
