"""Stems: what turns an image into the first stage's features. The table holds them all; `stem` builds one."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax

from jconv.layers import Activation, BatchNorm, BlurPool, Conv, Layer, MaxPool, Sequential
from jconv.models.network import known

__all__ = ["STEMS", "Stem", "StemConv", "stem_layers"]


class StemConv(NamedTuple):
    """One convolution of a stem; features are those of a network of width 64."""

    features: int
    kernel: int
    stride: int = 1
    padding: tuple[int, int] | None = None


class Stem(NamedTuple):
    """A stem: its convolutions, each followed by BatchNorm and activation, and whether it ends in a 3×3/2 pool."""

    convs: tuple[StemConv, ...]
    pool: bool = True


def _deep(*features: int) -> Stem:
    return Stem(tuple(StemConv(f, 3, 1 if i else 2) for i, f in enumerate(features)))


def _pairs(stem: Stem) -> Stem:
    """Each 3×3 as two 2×2 that together see the same 3×3 and keep its size: one pads the end, the next the start."""
    halves = ((StemConv(c.features, 2, 1, (0, 1)), StemConv(c.features, 2, c.stride, (1, 0))) for c in stem.convs)
    return Stem(tuple(conv for pair in halves for conv in pair))


STEMS: dict[str, Stem] = {
    "a": Stem((StemConv(64, 7, 2),)),
    "c": _deep(32, 32, 64),
    "s": _deep(64, 64, 128),
    "t": _deep(24, 32, 64),
    "5x5": Stem((StemConv(32, 5, 2),)),
    "2x2": _pairs(_deep(32, 32, 64)),
    "patch": Stem((StemConv(64, 4, 4, (0, 0)),), pool=False),
    "cifar": Stem((StemConv(64, 3),), pool=False),
}

POOLS = ("max", "conv", "none")


def stem_layers(
    stem: str | Layer, *, width: int, pool: str | None, blur: int, act: str | Callable[[jax.Array], jax.Array]
) -> tuple[dict[str, Layer], int, int]:
    """The layers before the first stage, by name, the features they end with and their stride; see `resnet`."""
    if isinstance(stem, Layer):
        conv1, (features, strided), pooled = stem, _measured(stem), True
    else:
        convs, pooled = STEMS[known("stem", stem, STEMS)]
        layers, features, strided = list[Layer](), 0, math.prod(c.stride for c in convs)
        for c in convs:
            features = c.features * width // 64
            padding = c.padding and (c.padding, c.padding)
            conv = Conv(features, c.kernel, stride=c.stride, padding=padding, bias=False)
            layers += [conv, BatchNorm(), Activation(act)]
        conv1 = Sequential(*layers[:-2]) if len(convs) > 1 else layers[0]  # the last two are bn1 and act1
    first: dict[str, Layer] = {"conv1": conv1, "bn1": BatchNorm(), "act1": Activation(act)}
    pool = known("stem_pool", pool, POOLS) if pool is not None else ("max" if pooled else "none")
    stride, blurs = (1, [BlurPool(blur)]) if blur else (2, [])
    if pool == "conv":
        conv = Conv(features, 3, stride=stride, bias=False)
        first["maxpool"] = Sequential(conv, *blurs, BatchNorm(), Activation(act))
    elif pool == "max":
        first["maxpool"] = Sequential(MaxPool(3, stride=1), *blurs) if blur else MaxPool(3, stride=2)
    return first, features, strided if pool == "none" else 2 * strided


def _measured(stem: Layer) -> tuple[int, int]:
    """The features that a stem returns for a colour image, and its stride: how much more of an image a pixel takes."""

    def run(x: jax.Array) -> jax.Array:
        return stem.apply(*stem.init(jax.random.key(0), x), x)[0]

    small, large = (jax.eval_shape(run, jax.ShapeDtypeStruct((1, n, n, 3), "float32")).shape for n in (64, 128))
    return small[-1], 64 // max(1, large[1] - small[1])
