"""A network without arrays: its parameters as shapes, how many, and the shapes of its stages and value."""

from typing import Any

import jax

from jconv.models import Network

__all__ = ["abstract", "count", "maps"]


def abstract(net: Network, *shape: int) -> tuple[Any, Any, jax.ShapeDtypeStruct]:
    """Parameters, state and an input of this shape; without one, an image of 64×64."""
    x = jax.ShapeDtypeStruct(shape or (1, 64, 64, 3), "float32")
    params, state = jax.eval_shape(net.init, jax.random.key(0), x)
    return params, state, x


def count(net: Network, *shape: int) -> int:
    """The number of parameters, for an input of this shape as `abstract` has it."""
    return sum(p.size for p in jax.tree.leaves(abstract(net, *shape)[0]))


def maps(net: Network, *shape: int) -> dict[str, tuple[int, ...]]:
    """The shape of one example's features, by stage, and of the network's value as "value"."""
    arrays = abstract(net, *shape)
    found, _ = jax.eval_shape(net.features, *arrays)
    value, _ = jax.eval_shape(net.apply, *arrays)
    return {name: y.shape[1:] for name, y in (*found.items(), ("value", value))}
