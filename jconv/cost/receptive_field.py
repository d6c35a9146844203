"""Receptive fields: what an output sees by its windows, and what it sees in effect, measured by gradients."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jconv.cost.fields import Fields, propagate
from jconv.cost.layers import scopes_of, span_of
from jconv.cost.phases import phases_of
from jconv.cost.rules import RULES
from jconv.cost.trace import Value, trace
from jconv.ops.window import whole

__all__ = ["Effective", "Field", "effective_receptive_field", "receptive_field"]


class Field(NamedTuple):
    """What one output sees of the input, along each spatial axis."""

    size: tuple[int, ...]
    """Input elements; 0 is all of them, as after a mean over the image."""
    jump: tuple[float, ...]
    """Input elements from one output to the next: the product of the strides."""
    padding: tuple[float, ...]
    """Effective padding: how far the field of the first output begins before the input."""


def receptive_field(fn: Callable, *args: Any, argument: int = -1, statistics: bool = False) -> dict[str, Field]:
    """The receptive field of every layer, from the function's jaxpr: branches, dilation, any framework.

        size <- size + (k - 1) d jump,  padding <- padding + p jump,  jump <- jump s,  and the union where branches meet

    Args:
        fn: the function.
        args: its arguments, arrays or ShapeDtypeStructs.
        argument: the number of the argument that is the input.
        statistics: whether what is averaged over the whole image and then used everywhere counts (BatchNorm's moments
            in training, squeeze-and-excitation, borders filled from the other side). Published numbers leave it out.

    Returns:
        By path of the layer, in order; "" is the largest output that sees the input. Spatial axes are those along which
        some window slides.

    Raises:
        ValueError: an argument that is not there or is not one array, a function that does not trace.

    Example:
        >>> import jconv
        >>> from jconv.layers import Conv, MaxPool, Sequential
        >>> net = Sequential(conv1=Conv(8, 7, stride=2), pool=MaxPool(3, stride=2), conv2=Conv(8, 3))
        >>> x = jax.ShapeDtypeStruct((1, 64, 64, 3), "float32")
        >>> params, state = jax.eval_shape(net.init, jax.random.key(0), x)
        >>> for path, field in receptive_field(net.apply, params, state, x).items():
        ...     print(path or "the whole", field.size, field.jump, field.padding)
        the whole (19, 19) (4.0, 4.0) (9.0, 9.0)
        conv1 (7, 7) (2.0, 2.0) (3.0, 3.0)
        pool (11, 11) (4.0, 4.0) (5.0, 5.0)
        conv2 (19, 19) (4.0, 4.0) (9.0, 9.0)

    References:
        Araujo, Norris & Sim 2019, "Computing Receptive Fields of Convolutional Neural Networks", Distill.
    """
    if not -len(args) <= argument < len(args) or len(jax.tree.leaves(args[argument])) != 1:
        raise ValueError(f"argument: expected the number of one of the {len(args)} arguments, an array, got {argument}")
    block, given, made = trace(fn, *args, opaque=RULES)
    (x,) = jax.tree.leaves(given[argument])
    fields = propagate(block, x, statistics=statistics)
    axes = fields.spatial or tuple(range(1, max(1, len(x.shape) - 1)))
    fields = Fields(fields.seen, axes)
    scopes = scopes_of(block, {}, phases_of(block, products=()), params=_others(given, x), fields=fields)
    output = max(jax.tree.leaves(made), key=lambda v: (bool(fields.seen.get(v)), v.size))  # statistics may be larger
    found = {"": Field(*span_of(fields, output))}
    for path, scope in scopes.items():
        if path and scope.jump:
            found[path] = Field(scope.receptive_field, scope.jump, scope.padding)
    return found


def _others(given: Any, x: Value) -> dict[Value, str]:
    return {v: "" for v in jax.tree.leaves(given) if v is not x}


class Effective(NamedTuple):
    """An effective receptive field."""

    map: np.ndarray
    """(*spatial): the mean of |d y / d x| over samples and channels; it sums to 1."""
    size: float
    """The side of a square with as many pixels as have more than 4.55 % of the largest, Luo et al.'s measure."""


def effective_receptive_field(
    fn: Callable[[jax.Array], jax.Array],
    shape: tuple[int, ...],
    *,
    key: jax.Array,
    samples: int = 16,
    at: tuple[int, ...] | None = None,
) -> Effective:
    """Which inputs move one output, measured by gradients.

        mean |d (w · y[at]) / d x| over normal x and random signs w of the channels

    Args:
        fn: x -> y, with x (N, *spatial, C) and y (N, *out, features).
        shape: of x.
        key: a PRNG key, for the inputs and the signs.
        samples: how many inputs to average over.
        at: the output's position, one index for each spatial axis; None is the middle.

    Returns:
        The map and its size.

    Raises:
        ValueError: an output without spatial axes, or a position outside of it.

    Example:
        >>> import jconv
        >>> box = lambda x: jconv.ops.avg_pool(x, 5, stride=1, padding=2)
        >>> effective_receptive_field(box, (1, 16, 16, 1), key=jax.random.key(0)).size
        5.0

    References:
        Luo et al. 2016, "Understanding the Effective Receptive Field in Deep Convolutional Neural Networks",
        arXiv:1701.04128, section 3.
    """
    out = jax.eval_shape(fn, jax.ShapeDtypeStruct(shape, jnp.float32)).shape
    if len(out) < 3:
        raise ValueError(
            f"fn: expected an output (N, *spatial, features), got shape {out}; take features before the mean"
        )
    whole("samples", samples, "a positive number of inputs")
    where = tuple(n // 2 for n in out[1:-1]) if at is None else tuple(at)
    if len(where) != len(out) - 2 or not all(0 <= i < n for i, n in zip(where, out[1:-1], strict=True)):
        raise ValueError(f"at: expected an index for each of the spatial sizes {out[1:-1]}, got {at}")

    def sample(key: jax.Array) -> jax.Array:
        noise, signs = jax.random.split(key)
        x = jax.random.normal(noise, shape)
        w = jax.random.rademacher(signs, (out[0], out[-1]), jnp.float32)
        gradient = jax.grad(lambda x: (fn(x)[:, *where] * w).sum())(x)
        return jnp.abs(gradient).mean((0, -1))

    total = sum(jax.jit(sample)(k) for k in jax.random.split(key, samples))
    values = np.asarray(total, np.float64)
    values = values / max(values.sum(), np.finfo(np.float64).tiny)
    pixels = np.count_nonzero(values > 0.0455 * values.max())
    return Effective(values, float(pixels ** (1 / values.ndim)))
