"""Any layer or network as a module of Flax: inside a Linen or an NNX model, with its statistics and its weights.

The trees are jconv's own: `variables["params"]` and `variables["batch_stats"]` of a Linen module are params and state,
so weights go both ways as they are, and an NNX module hands out and takes the same trees.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
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
        A Linen module, called as `module(x, train=False)`. In training it raises ValueError where a layer draws random
        numbers and there is no stream "dropout".

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
        train = train and not self.is_initializing()
        make = functools.partial(self.make_rng, "dropout") if self.has_rng("dropout") else None
        key = _key(self.layer, make, 'apply(..., rngs={"dropout": key})') if train else None
        y, after = self.layer.apply(params, {name: v.value for name, v in held.items()}, x, train=train, key=key)
        if train:
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
        An NNX module, called as `module(x)`. In training it raises ValueError where a layer draws random numbers and
        there is no stream "dropout".

    Raises:
        ValueError: no stream "params" in rngs.

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
        if not hasattr(rngs, "params"):
            raise ValueError(f'rngs: expected a stream "params", got {list(rngs)}; pass rngs=nnx.Rngs(0)')
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
        make = getattr(self.rngs, "dropout", None)
        key = _key(self.layer, make, "to_nnx(..., rngs=nnx.Rngs(0, dropout=1))") if train else None
        y, after = self.layer.apply(params, state, x, train=train, key=key)
        if train:
            self._fill(self.state, after)
        return y

    def trees(self) -> tuple[Params, State]:
        """jconv's params and state, to save or to apply without Flax.

        Example:
            >>> import jax.numpy as jnp, jconv
            >>> net = to_nnx(jconv.layers.Conv(16, 3), jnp.ones((1, 8, 8, 3)), rngs=nnx.Rngs(0))
            >>> jax.tree.map(jnp.shape, net.trees())
            ({'bias': (16,), 'kernel': (3, 3, 3, 16)}, {})
        """
        held: Any = (self.params, self.state)
        return jax.tree.map(lambda v: v[...], held, is_leaf=lambda v: isinstance(v, nnx.Variable))

    def take(self, params: Params, state: State) -> None:
        """Put jconv's params and state in place of those here; ValueError, and nothing is put, if they do not fit.

        Example:
            >>> import jax.numpy as jnp, jconv
            >>> conv, x = jconv.layers.Conv(16, 3), jnp.ones((1, 8, 8, 3))
            >>> net, (params, state) = to_nnx(conv, x, rngs=nnx.Rngs(0)), conv.init(jax.random.key(1), x)
            >>> net.take(params, state)
            >>> bool((net.trees()[0]["kernel"] == params["kernel"]).all())
            True
        """
        for what, held, tree in zip(("params", "state"), self.trees(), (params, state), strict=True):
            _check(what, held, tree)
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


def _key(layer: Layer, make: Callable[[], jax.Array] | None, remedy: str) -> jax.Array | None:
    """A key from Flax's stream, if a layer draws random numbers in training."""
    drawing = _drawing(layer)
    if drawing and make is None:
        raise ValueError(
            f"rngs: {', '.join(map(str, drawing))} of this {type(layer).__name__} draws random numbers in training, "
            f'expected a stream "dropout", got none; use {remedy}'
        )
    return make() if drawing and make else None


def _drawing(layer: Layer) -> list[Layer]:
    """The layers that draw random numbers in training, each once; a rate of 0 draws none."""
    if isinstance(layer, Composite):
        return list(dict.fromkeys(leaf for inner in layer.children().values() for leaf in _drawing(inner)))
    return [layer] if layer.stochastic and getattr(layer, "rate", 1) else []


def _check(what: str, held: Any, tree: Any) -> None:
    """ValueError with every path at which a tree differs from the one that it is to replace."""
    shapes, given = _shapes(held), _shapes(tree)
    wrong = [f"no {path}" for path in shapes if path not in given]
    wrong += [f"{path} of shape {given[path]}, which is not here" for path in given if path not in shapes]
    wrong += [
        f"{path} of shape {given[path]} for {shape}"
        for path, shape in shapes.items()
        if path in given and given[path] != shape
    ]
    if wrong:
        raise ValueError(
            f"{what}: expected the tree that this module has, see trees(); got {'; '.join(wrong)}. jconv.weights.load "
            f"makes one from other names and sizes"
        )


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): np.shape(leaf) for path, leaf in leaves}
