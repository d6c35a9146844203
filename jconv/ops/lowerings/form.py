"""What a lowering is given and what it offers: a convolution is one trilinear form, `<y, conv(x, kernel)>`.

Two of x, kernel and y are given, and the third is the derivative of the form by it: y is the convolution, x its input
gradient (the transposed convolution), kernel its kernel gradient.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax

from jconv.ops.window import Axis

__all__ = ["SLOTS", "Form", "Lowering", "transposed"]

SLOTS = ("x", "kernel", "y")
"""x (N, *sizes, C), kernel (*window, C / groups, features), y (N, *out, features), all of one dtype."""

Directions = Callable[[jax.Array, jax.Array, "Form"], jax.Array]


class Form(NamedTuple):
    """A convolution but for its batch, channels and features. Padding is zeros."""

    sizes: tuple[int, ...]
    window: tuple[Axis, ...]
    groups: int

    @property
    def out(self) -> tuple[int, ...]:
        """The spatial sizes of y."""
        return tuple(a.output_size(n) for a, n in zip(self.window, self.sizes, strict=True))

    @property
    def taps(self) -> int:
        """Elements of a window."""
        return math.prod(a.kernel for a in self.window)

    def shape(self, slot: str, first: tuple[int, ...], second: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the slot that is left open, from those of the other two in the order of SLOTS."""
        if slot == "y":
            return (first[0], *self.out, second[-1])
        if slot == "x":
            return (second[0], *self.sizes, first[-2] * self.groups)
        return (*(a.kernel for a in self.window), first[-1] // self.groups, second[-1])


class Lowering(NamedTuple):
    """A way to compute a convolution: one function for each slot that may be open, and which forms it is for."""

    y: Directions
    """(x, kernel, form) -> y"""
    x: Directions
    """(kernel, y, form) -> x"""
    kernel: Directions
    """(x, y, form) -> kernel"""
    fits: Callable[[Form, int, int], str]
    """(form, channels, features) -> "" or what it is not for."""


def transposed(forward: Directions) -> tuple[Directions, Directions]:
    """Both gradients of a forward function, by JAX's own transposition."""

    def x(kernel: jax.Array, y: jax.Array, form: Form) -> jax.Array:
        like = jax.ShapeDtypeStruct(form.shape("x", kernel.shape, y.shape), y.dtype)
        return jax.linear_transpose(lambda x: forward(x, kernel, form), like)(y)[0]

    def kernel(x: jax.Array, y: jax.Array, form: Form) -> jax.Array:
        like = jax.ShapeDtypeStruct(form.shape("kernel", x.shape, y.shape), y.dtype)
        return jax.linear_transpose(lambda kernel: forward(x, kernel, form), like)(y)[0]

    return x, kernel
