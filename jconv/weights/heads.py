"""Which tensors belong to a network's classifiers: those that another number of classes would change."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax

from jconv.layers import Beside, Composite, Layer
from jconv.weights.names import Shape, needs

__all__ = ["heads", "left_over"]


def heads(model: Layer, x: jax.ShapeDtypeStruct) -> list[set[str]]:
    """The names of the tensors of each classifier: the network's, and those of its auxiliary heads.

    A classifier is the last layer that decides how many features the value has: with twice its `features` the network
    still is one, and its value, or that of an auxiliary head, has twice as many. Its tensors are all whose shapes
    change with it, so those of a norm after it too.

    Example:
        >>> from jconv.layers import BatchNorm, Conv, GlobalAvgPool, Sequential
        >>> net = Sequential(conv1=Conv(8, 3), conv2=Conv(8, 3, bias=False), bn2=BatchNorm(), pool=GlobalAvgPool())
        >>> [names] = heads(net, jax.ShapeDtypeStruct((1, 8, 8, 3), "float32"))
        >>> sorted(names)
        ['bn2.bias', 'bn2.running_mean', 'bn2.running_var', 'bn2.weight', 'conv2.weight']
    """
    if not isinstance(model, Composite):
        return []
    found = []
    needed, values = _shapes(model, x)
    for path, layer in reversed(list(model.walk())):
        features: Any = getattr(layer, "features", None)
        if features not in values.values():
            continue
        try:
            wider = model.replace(path, dataclasses.replace(layer, features=2 * features))  # pyright: ignore[reportCallIssue]
            others, widths = _shapes(wider, x)
        except (TypeError, ValueError):  # what follows takes this number of features and no other
            continue
        if decided := {value for value, n in values.items() if n == features and widths[value] == 2 * n}:
            found.append({name for name, shape in others.items() if shape != needed[name]})
            values = {value: n for value, n in values.items() if value not in decided}
    return found


def left_over(model: Layer, x: jax.ShapeDtypeStruct, unexpected: Mapping[str, Shape]) -> bool:
    """Whether these tensors are the classifiers that a network without classes does not have.

    They are if each kernel among them takes the features of the network's value, or of an auxiliary head's, and all
    have the same number of features: linear layers on what the network returns, perhaps with a norm.
    """
    kernels = [shape for shape in unexpected.values() if len(shape) > 1]
    values = set(_shapes(model, x)[1].values())
    return (
        bool(kernels)
        and all(shape[1] in values for shape in kernels)
        and len({shape[:1] for shape in unexpected.values()}) == 1
    )


def _shapes(model: Layer, x: jax.ShapeDtypeStruct) -> tuple[dict[str, Shape], dict[str, int]]:
    """What the network needs, and the features of its value, under "", and of its auxiliary heads' by their paths."""
    params, state = jax.eval_shape(model.init, jax.random.key(0), x)
    values: dict[str, Any] = {"": jax.eval_shape(model.apply, params, state, x)[0]}
    if isinstance(model, Composite):
        paths = [path for path, layer in model.walk() if isinstance(layer, Beside)]
        if paths:
            values |= jax.eval_shape(lambda p, s, x: model.outputs(p, s, x, paths)[0], params, state, x)
    return needs(params, state), {path: value.shape[-1] for path, value in values.items()}
