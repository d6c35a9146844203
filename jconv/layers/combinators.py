"""Layers made of layers: one after another, side by side, around a shortcut, through a gate."""

import copy
import dataclasses
from collections.abc import Callable
from functools import reduce
from typing import Self

import jax
import jax.numpy as jnp

from jconv.layers.base import Composite, Layer, Run, child
from jconv.layers.simple import Identity

__all__ = ["Beside", "Highway", "Parallel", "Residual", "Sequential"]


@dataclasses.dataclass(frozen=True, repr=False, init=False)
class Sequential(Composite):
    """`y = f_k(... f_2(f_1(x)))`. Layers given by position are named "0", "1", ..., as torch names them.

    A name that begins with an underscore adds nothing to the paths: that layer's own layers stand at this one's path.

    >>> from jconv.layers import Activation, BatchNorm, Conv
    >>> print(Sequential(conv=Conv(8, 3), bn=BatchNorm(), act=Activation("relu")))
    Sequential
      conv: Conv(8, 3)
      bn: BatchNorm()
      act: Activation('relu')
    """

    layers: tuple[tuple[str, Layer], ...] = dataclasses.field(repr=False)

    def __init__(self, *layers: Layer, **named: Layer):
        pairs = (*((str(i), layer) for i, layer in enumerate(layers)), *named.items())
        for name, layer in pairs:
            if not isinstance(layer, Layer):
                raise ValueError(f"{name}: expected a Layer, got {layer!r}; wrap a function as Activation(function)")
            if name in named and name.isdecimal() and int(name) < len(layers):
                raise ValueError(f"a layer's name: {name!r} is that of the layer given by position; give it another")
            if not name or "." in name:
                raise ValueError(f"a layer's name is one part of a path: expected no dot in it, got {name!r}")
        object.__setattr__(self, "layers", pairs)

    def children(self) -> dict[str, Layer]:
        """The layers by name, in order."""
        return dict(self.layers)

    def child_path(self, name: str) -> str:
        """The name, or nothing if it begins with an underscore."""
        return "" if name.startswith("_") else name

    def with_child(self, name: str, layer: Layer) -> Self:
        """This sequence with another layer of that name."""
        new = copy.copy(self)
        object.__setattr__(new, "layers", tuple((n, layer if n == name else old) for n, old in self.layers))
        return new

    def wire(self, run: Run, x: jax.Array) -> jax.Array:
        """One after another, past those that are `Beside`."""
        for name, layer in self.layers:
            y = run(name, x)
            x = x if isinstance(layer, Beside) else y
        return x


@dataclasses.dataclass(frozen=True, repr=False)
class Beside(Composite):
    """A layer that a Sequential runs on x and does not go through, as an auxiliary head: `outputs` returns its value.

    Its statistics move in training as any other layer's. Where nobody takes its value or its state, XLA drops what it
    computes. Szegedy et al. 2014, arXiv:1409.4842, section 5.

        >>> from jconv.layers import Linear
        >>> net = Sequential(body=Linear(8), aux=Beside(Linear(2)), head=Linear(3))
        >>> x = jnp.ones((1, 4))
        >>> arrays = net.init(jax.random.key(0), x)
        >>> {path: y.shape for path, y in net.outputs(*arrays, x, at=["head", "aux"])[0].items()}
        {'head': (1, 3), 'aux': (1, 2)}
    """

    layer: Layer = child("")

    def wire(self, run: Run, x: jax.Array) -> jax.Array:
        """The layer's own value."""
        return run("layer", x)


@dataclasses.dataclass(frozen=True, repr=False)
class Residual(Composite):
    """`y = act(branch(x) + shortcut(x))`; He et al. 2015, arXiv:1512.03385, equation 1.

    The branch's layers stand at the block's own path and the shortcut at `downsample`, where torch has them.
    """

    branch: Layer = child("")
    shortcut: Layer = child("downsample", default=Identity())
    act: Layer = Identity()

    def wire(self, run: Run, x: jax.Array) -> jax.Array:
        """`act(branch(x) + shortcut(x))`."""
        branch, shortcut = run("branch", x), run("shortcut", x)
        if branch.shape != shortcut.shape:
            raise ValueError(
                f"Residual: expected branch and shortcut to have one shape, got {branch.shape} and {shortcut.shape} "
                f"for x of shape {x.shape}; give it a shortcut that changes features and stride as the branch does"
            )
        return run("act", branch + shortcut)


@dataclasses.dataclass(frozen=True, repr=False)
class Highway(Composite):
    """`y = t * transform(x) + (1 - t) * x` with `t = sigmoid(gate(x))`: it learns how much of x to carry on.

    Give the gate's bias a negative start, `Conv(8, 3, bias_init=Constant(-2.0))`, so that a deep network begins by
    carrying. Srivastava, Greff & Schmidhuber 2015, arXiv:1505.00387, equations 3 and 4.
    """

    transform: Layer
    gate: Layer

    def wire(self, run: Run, x: jax.Array) -> jax.Array:
        """Each element of x or of its transform, or something between."""
        h, gate = run("transform", x), run("gate", x)
        if not x.shape == h.shape == gate.shape:
            raise ValueError(
                f"Highway: expected transform and gate to keep x's shape {x.shape}, got {h.shape} and {gate.shape}; "
                f"change features and stride in a layer between two of these"
            )
        return x + jax.nn.sigmoid(gate) * (h - x)


def concatenate(values: list[jax.Array]) -> jax.Array:
    """The values side by side along the channel axis."""
    _check_same("shape but for the channels", [v.shape[:-1] for v in values], values)
    return jnp.concatenate(values, axis=-1)


def add(values: list[jax.Array]) -> jax.Array:
    """The sum of the values."""
    _check_same("shape", [v.shape for v in values], values)
    return reduce(jnp.add, values)


def _check_same(what: str, shapes: list[tuple[int, ...]], values: list[jax.Array]) -> None:
    if len(set(shapes)) > 1:
        raise ValueError(
            f"Parallel: expected branches of one {what}, got {', '.join(str(v.shape) for v in values)}; "
            f"give them the same strides and paddings"
        )


@dataclasses.dataclass(frozen=True, repr=False, init=False)
class Parallel(Sequential):
    """`y = combine([f_1(x), ..., f_k(x)])`: every layer on the same x; `concatenate` channels, or `add`, or yours.

    Szegedy et al. 2014, "Going deeper with convolutions", arXiv:1409.4842, figure 2.

        >>> from jconv.layers import Conv
        >>> split = Parallel(Conv(8, 1), Conv(16, 3))
        >>> x = jnp.ones((1, 4, 4, 3))
        >>> split.apply(*split.init(jax.random.key(0), x), x)[0].shape
        (1, 4, 4, 24)
    """

    combine: Callable[[list[jax.Array]], jax.Array] = dataclasses.field(kw_only=True, default=concatenate)

    def __init__(self, *layers: Layer, combine: Callable[[list[jax.Array]], jax.Array] = concatenate, **named: Layer):
        super().__init__(*layers, **named)
        object.__setattr__(self, "combine", combine)

    def wire(self, run: Run, x: jax.Array) -> jax.Array:
        """Side by side."""
        return self.combine([run(name, x) for name, _ in self.layers])
