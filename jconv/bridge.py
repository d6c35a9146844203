"""Any layer or network as a module of Flax: inside a Linen or an NNX model, with its statistics and its weights.

The trees are jconv's own: `variables["params"]` and `variables["batch_stats"]` of a Linen module are params and state,
so weights go both ways as they are, and an NNX module hands out and takes the same trees.
"""

import functools
from typing import Any

import jax
from flax import linen, nnx

from jconv.layers import Layer, Params, State
from jconv.layers.base import Composite

__all__ = ["NNX", "Linen", "to_linen", "to_nnx"]


def to_linen(layer: Layer, *, name: str | None = None) -> "Linen":
    """A layer as a Linen module.

    Its parameters are the collection "params" and its state is "batch_stats", each a tree as jconv's. In training the
    module is applied with `train=True` and `mutable=["batch_stats"]`, as Linen's own BatchNorm; layers that draw random
    numbers take the stream "dropout".

    Args:
        layer: any layer or network.
        name: the module's name in its parent.

    Returns:
        A Linen module, called as `module(x, train=False)`.

    Example:
        >>> import jax.numpy as jnp, jconv
        >>> net = to_linen(jconv.models.resnet(18, num_classes=10))
        >>> variables = jax.eval_shape(net.init, jax.random.key(0), jnp.ones((1, 64, 64, 3)))
        >>> variables["params"]["fc"]["kernel"].shape, variables["batch_stats"]["bn1"]["mean"].shape
        ((512, 10), (64,))
    """
    return Linen(layer, name=name)


class Linen(linen.Module):
    """What `to_linen` returns."""

    layer: Layer

    @linen.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """The layer's value; in training its new state is left in "batch_stats"."""
        if self.is_initializing():
            params, state = self.layer.init(self.make_rng("params"), x)
        else:
            params, state = _abstract(self.layer, jax.ShapeDtypeStruct(x.shape, x.dtype))
        params = {name: self.param(name, lambda _, tree: tree, tree) for name, tree in params.items()}
        held = {name: self.variable("batch_stats", name, lambda tree: tree, tree) for name, tree in state.items()}
        key = self.make_rng("dropout") if train and self.has_rng("dropout") else None
        y, after = self.layer.apply(params, {name: v.value for name, v in held.items()}, x, train=train, key=key)
        if train and not self.is_initializing():
            for name, variable in held.items():
                variable.value = after[name]
        return y


def to_nnx(layer: Layer, x: jax.Array | jax.ShapeDtypeStruct, *, rngs: nnx.Rngs) -> "NNX":
    """A layer as an NNX module.

    Its parameters are `nnx.Param`, its state is `nnx.BatchStat`. `module.train()` and `module.eval()` switch it, as
    they do NNX's own BatchNorm; it starts in training. Layers that draw random numbers take the stream "dropout".

    Args:
        layer: any layer or network.
        x: an input, of which only shape and dtype are read.
        rngs: keys: "params", and "dropout" where it is needed.

    Returns:
        An NNX module, called as `module(x)`.

    Example:
        >>> import jax.numpy as jnp, jconv
        >>> net = to_nnx(jconv.layers.Conv(16, 3), jnp.ones((1, 8, 8, 3)), rngs=nnx.Rngs(0))
        >>> net(jnp.ones((1, 8, 8, 3))).shape
        (1, 8, 8, 16)
    """
    return NNX(layer, x, rngs)


class NNX(nnx.Module):
    """What `to_nnx` returns."""

    def __init__(self, layer: Layer, x: jax.Array | jax.ShapeDtypeStruct, rngs: nnx.Rngs):
        params, state = layer.init(rngs.params(), x)
        self.layer = layer
        self.params = nnx.data(jax.tree.map(nnx.Param, params))
        self.state = nnx.data(jax.tree.map(nnx.BatchStat, state))
        self.rngs = rngs
        self.use_running_average = False

    def __call__(self, x: jax.Array) -> jax.Array:
        """The layer's value; in training its new state replaces the one that it had."""
        train = not self.use_running_average
        params, state = self.trees()
        key = self.rngs.dropout() if train and _draws(self.layer) else None
        y, after = self.layer.apply(params, state, x, train=train, key=key)
        if train:
            self._fill(self.state, after)
        return y

    def trees(self) -> tuple[Params, State]:
        """jconv's params and state, to save or to apply without Flax."""
        held: Any = (self.params, self.state)
        return jax.tree.map(lambda v: v[...], held, is_leaf=lambda v: isinstance(v, nnx.Variable))

    def take(self, params: Params, state: State) -> None:
        """Put jconv's params and state in place of those here."""
        self._fill(self.params, params)
        self._fill(self.state, state)

    @staticmethod
    def _fill(held: Any, tree: Any) -> None:
        def put(variable: nnx.Variable, value: jax.Array) -> None:
            variable[...] = value

        jax.tree.map(put, held, tree, is_leaf=lambda v: isinstance(v, nnx.Variable))


@functools.lru_cache(maxsize=256)
def _abstract(layer: Layer, x: jax.ShapeDtypeStruct) -> tuple[Params, State]:
    return jax.eval_shape(layer.init, jax.random.key(0), x)


def _draws(layer: Layer) -> bool:
    """Whether the layer, or one below it, draws random numbers in training."""
    below = layer.walk() if isinstance(layer, Composite) else ()
    return layer.stochastic or any(inner.stochastic for _, inner in below)
