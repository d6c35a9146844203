"""The convolution as a JAX primitive: the trilinear form `<y, conv(x, kernel)>` with one of its three slots open.

With y open it is the convolution, with x open its transpose, with kernel open its kernel gradient; the derivative of
each by one of its operands is another of the three. So derivatives of every order and mode, batching and the choice of
a lowering, for each slot and for the platform that the program is lowered for, are each said once.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jconv.ops.choose import choose
from jconv.ops.lowerings import LOWERINGS, SLOTS, Form
from jconv.ops.sharding import Split, automatic, split

__all__ = ["PLATFORMS", "conv_p", "solve"]

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
"""As JAX names what a program is lowered for."""

conv_p = Primitive("jconv_conv")


def solve(slot: str, form: Form, lowering: str, **given: jax.Array) -> jax.Array:
    """The value of the open slot, from the other two: `solve("y", form, "auto", x=x, kernel=kernel)`."""
    config: Any = jax.config
    precision = config.jax_default_matmul_precision  # of now: when the program is lowered it may be another
    return _solve(slot, form, lowering, precision, given)


def _solve(slot: str, form: Form, lowering: str, precision: str | None, given: dict[str, jax.Array]) -> jax.Array:
    operands = _alike(*(given[s] for s in SLOTS if s != slot))

    def solved(*operands: jax.Array) -> jax.Array:
        if lowering == "lax":  # JAX's own operation, with JAX's own derivatives
            return getattr(LOWERINGS["lax"], slot)(*operands, form)
        return conv_p.bind(*operands, slot=slot, form=form, lowering=lowering, precision=precision)

    return automatic(solved, *operands, out=lambda: _split(slot, form, *map(split, operands)))


def _split(slot: str, form: Form, first: Split, second: Split) -> Split:
    """How the open slot is split, from the other two: y like x's images and the kernel's features, and so on."""
    if slot == "kernel":
        *_, channels = first
        *_, features = second
        return (*(None,) * len(form.window), channels if form.groups == 1 else None, features)
    if slot == "y":
        return (*first[:-1], second[-1])
    return (*second[:-1], first[-2] if form.groups == 1 else None)


def _alike(*operands: jax.Array) -> list[jax.Array]:
    """Under `shard_map`, an operand that is the same on all devices is marked as one that differs, like the other."""
    own = [_varying(a) for a in operands]
    missing = [tuple(frozenset().union(*own) - axes) for axes in own]
    if not any(missing):
        return list(operands)
    mark = functools.partial(lax.pcast, to="varying") if hasattr(lax, "pcast") else getattr(lax, "pvary")  # noqa: B009
    return [mark(a, axes) if axes else a for a, axes in zip(operands, missing, strict=True)]


def _varying(a: jax.Array) -> frozenset[str]:
    """The mesh axes along which an array differs, which jax has kept in `vma` and, since 0.10, in `mat`."""
    kind = jax.typeof(a)
    return getattr(kind, "vma", None) or getattr(getattr(kind, "mat", None), "varying", frozenset())


def compute(
    first: jax.Array, second: jax.Array, *, slot: str, form: Form, lowering: str, precision: str | None, platform: str
) -> jax.Array:
    """The open slot in terms of JAX's own operations."""
    with jax.default_matmul_precision(precision):  # pyright: ignore[reportArgumentType]
        return _computed(first, second, slot, form, lowering, platform)


def _computed(first: jax.Array, second: jax.Array, slot: str, form: Form, lowering: str, platform: str) -> jax.Array:
    if lowering == "auto" or 0 in (*first.shape, *second.shape):
        lowering, _ = choose(platform, slot, form, *_counts(slot, form, first, second))
        if platform == "cpu":  # which multiplies narrow numbers slowly, and adds them up in float32 anyway
            dtype, wide = first.dtype, np.promote_types(first.dtype, np.float32)
            return getattr(LOWERINGS[lowering], slot)(first.astype(wide), second.astype(wide), form).astype(dtype)
    return getattr(LOWERINGS[lowering], slot)(first, second, form)


def _counts(slot: str, form: Form, first: jax.Array, second: jax.Array) -> tuple[int, int, int]:
    """Batch, channels and features of a form with this slot open."""
    shapes = dict(zip((s for s in SLOTS if s != slot), (first.shape, second.shape), strict=True))
    shapes[slot] = form.shape(slot, first.shape, second.shape)
    return shapes["x"][0], shapes["x"][-1], shapes["y"][-1]


@conv_p.def_abstract_eval
def _(first: Any, second: Any, *, slot: str, form: Form, lowering: str, precision: str | None) -> Any:
    del lowering, precision
    like = second if slot == "x" else first  # the one with images
    return like.update(shape=form.shape(slot, first.shape, second.shape), weak_type=False)


@functools.lru_cache(maxsize=1024)
def _compiled(**how: Any) -> Any:
    return jax.jit(functools.partial(conv_p.bind, **how))


@conv_p.def_impl
def _(first: jax.Array, second: jax.Array, **how: Any) -> jax.Array:
    return _compiled(**how)(first, second)


for each in (*PLATFORMS, None):
    rule = mlir.lower_fun(functools.partial(compute, platform=each or "this platform"), multiple_results=False)
    mlir.register_lowering(conv_p, rule, platform=each)


def _by_operand(which: int) -> Any:
    """The derivative by one operand: a cotangent takes the open slot's place, and the operand's slot opens."""

    def rule(
        cotangent: jax.Array, *operands: Any, slot: str, form: Form, lowering: str, precision: str | None
    ) -> jax.Array:
        names = [s for s in SLOTS if s != slot]
        given = {slot: cotangent, names[1 - which]: operands[1 - which]}
        return _solve(names[which], form, lowering, precision, given)

    return rule


ad.defbilinear(conv_p, _by_operand(0), _by_operand(1))


def _batched(
    operands: Any, axes: Any, *, slot: str, form: Form, lowering: str, precision: str | None
) -> tuple[jax.Array, int]:
    """Under `jax.vmap`: more images where only x or y is mapped, and else more groups."""
    names = [s for s in SLOTS if s != slot]
    given = dict(zip(names, operands, strict=True))
    mapped = {s: axis for s, axis in zip(names, axes, strict=True) if axis is not None}
    size = next(given[s].shape[axis] for s, axis in mapped.items())
    if slot != "kernel" and "kernel" not in mapped:
        [(name, axis)] = mapped.items()
        images = jnp.moveaxis(given[name], axis, 0)
        given[name] = images.reshape(size * images.shape[1], *images.shape[2:])
        out = _solve(slot, form, lowering, precision, given)
        return out.reshape(*images.shape[:2], *out.shape[1:]), 0
    if not isinstance(size, int) or size == 0:  # no number of groups
        with jax.default_matmul_precision(precision):  # pyright: ignore[reportArgumentType]
            return jax.vmap(functools.partial(getattr(LOWERINGS["lax"], slot), form=form), axes)(*operands), 0
    for name, a in given.items():
        many = jnp.moveaxis(a, mapped[name], -2) if name in mapped else jnp.repeat(a[..., None, :], size, axis=-2)
        given[name] = many.reshape(*many.shape[:-2], math.prod(many.shape[-2:]))
    form = form._replace(groups=form.groups * size)
    _, *counts = _counts(slot, form, *given.values())
    if lowering != "auto" and LOWERINGS[lowering].fits(form, *counts):
        lowering = "auto"  # of one group, it is not for many
    out = _solve(slot, form, lowering, precision, given)
    return out.reshape(*out.shape[:-1], size, out.shape[-1] // size), out.ndim - 1


batching.primitive_batchers[conv_p] = _batched
