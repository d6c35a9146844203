"""The input that weights were made for, where none is given: its channels and axes are those of the first kernel."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import jax
import numpy as np

from jconv.layers import Composite, ConvTranspose, Layer, Linear, Params, State
from jconv.weights.names import compare, needs, renamed, ways

__all__ = ["Fit", "fit"]

SIZES = (224, 32, 28, 299, 16, 48, 64, 96, 128, 160, 192, 256, 288, 320, 384, 448, 512)
"""Of images, in pixels; only a network that flattens them has other parameters for one than for another."""


class Fit(NamedTuple):
    """A network on an input, and how the source's names are called in it."""

    x: jax.ShapeDtypeStruct
    params: Params
    """Shapes."""
    state: State
    names: dict[str, str]
    """From the source's to those here."""


def fit(model: Layer, tensors: Mapping[str, np.ndarray], x: jax.ShapeDtypeStruct | None = None) -> Fit:
    """The network on x, or on the first input on which it has the shapes that these tensors have.

    If there is none it is the one with the fewest other shapes.

    Raises:
        ValueError: no input could be found that the network takes.
    """
    if x is not None:
        return _on(model, tensors, x)
    best, fewest, first, error = None, 0, None, None
    for candidate in _inputs(model, tensors):
        try:
            found = _on(model, tensors, candidate)
        except (TypeError, ValueError) as e:  # too small an image, or not of whole numbers
            error = error or e
            continue
        needed = needs(found.params, found.state)
        wrong = len(compare({found.names[n]: t for n, t in tensors.items()}, needed).shapes)
        if best is None or wrong < fewest:
            best, fewest = found, wrong
        if not wrong or needed == first:  # the size does not matter
            break
        first = first or needed
    if best is None:
        raise ValueError("x: give an input as the network takes it, of which only shape and dtype are read") from error
    return best


def _on(model: Layer, tensors: Mapping[str, np.ndarray], x: jax.ShapeDtypeStruct) -> Fit:
    params, state = jax.eval_shape(model.init, jax.random.key(0), x)
    return Fit(x, params, state, renamed(tensors, needs(params, state), getattr(model, "renames", ())))


def _inputs(model: Layer, tensors: Mapping[str, np.ndarray]) -> Iterator[jax.ShapeDtypeStruct]:
    """Inputs for the network's first kernel, under any of its names; images in colour if it is not there."""
    layers = model.walk() if isinstance(model, Composite) else [("", model)]
    names = [{ours: theirs for theirs, ours in way.items()} for way in ways(tensors, getattr(model, "renames", ()))]
    for path, layer in layers:
        if not isinstance(getattr(layer, "features", None), int):
            continue
        name = f"{path}.weight" if path else "weight"
        theirs = next((way[name] for way in names if name in way), None)
        if theirs is None or tensors[theirs].ndim < 2:
            break
        first, second, *window = tensors[theirs].shape
        channels = first if isinstance(layer, ConvTranspose) else second * getattr(layer, "groups", 1)
        if window and not isinstance(layer, Linear):
            yield from (jax.ShapeDtypeStruct((1, *(n for _ in window), channels), "float32") for n in SIZES)
        else:
            yield jax.ShapeDtypeStruct((1, channels), "float32")
            yield jax.ShapeDtypeStruct((1, SIZES[0]), "int32")  # of tokens, which the layer embeds
        return
    yield from (jax.ShapeDtypeStruct((1, n, n, 3), "float32") for n in SIZES)
