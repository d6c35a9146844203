"""Xception: Inception taken to its end, thirty-four depthwise separable convolutions with residual connections."""

import dataclasses
from collections.abc import Callable
from itertools import pairwise

import jax

from jconv.layers import (
    Activation,
    BatchNorm,
    Conv,
    Dropout,
    GlobalAvgPool,
    Identity,
    Layer,
    Linear,
    MaxPool,
    Residual,
    Sequential,
    child,
    depthwise,
)
from jconv.models.network import Network, sized

__all__ = ["VARIANTS", "Block", "xception"]

VARIANTS: dict[str, dict] = {"legacy_xception": {}, "xception": {}}  # timm's new name and its old one


@dataclasses.dataclass(frozen=True, repr=False)
class Block(Residual):
    """A Residual with its branch at `rep` and the layers of its shortcut at its own path, where timm has them."""

    branch: Layer = child("rep")
    shortcut: Layer = child("", default=Identity())


def xception(
    *,
    width: float = 1.0,
    num_classes: int = 1000,
    dropout: float = 0.5,
    act: str | Callable[[jax.Array], jax.Array] = "relu",
) -> Network:
    """Xception: an entry flow that strides by 16, eight equal blocks, an exit flow, a mean, a classifier.

    A block is three separable convolutions, each a depthwise 3×3 and a 1×1 without an activation in between. An
    image has 299 pixels in the paper, and the first two convolutions do not pad.

    Args:
        width: multiplies all features.
        num_classes: features of the classifier `fc`; 0 ends the network with the pooled features.
        dropout: before the classifier.
        act: the activation.

    Returns:
        A Network with timm's paths, (N, H, W, C) -> (N, num_classes), and features "stem", "block1", "block2",
        "block11", "exit", those of blocks after the activation that the next one begins with.

    Raises:
        ValueError: a width that is not above 0.

    Example:
        >>> net = xception()
        >>> params, _ = jax.eval_shape(net.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 299, 299, 3), "float32"))
        >>> sum(p.size for p in jax.tree.leaves(params))
        22855952

    References:
        Chollet 2016, "Xception", arXiv:1610.02357, figure 5; dropout: section 4.
    """
    sized(num_classes=num_classes, width=width)

    def scaled(features: int) -> int:
        return max(1, round(features * width))

    def separable(channels: int, features: int) -> Layer:
        first = depthwise(scaled(channels), 3, bias=False)
        return Sequential(conv1=first, pointwise=Conv(scaled(features), 1, bias=False))

    def block(*features: int, stride: int = 1, start: bool = True) -> Layer:
        layers: list[Layer] = []
        for before, after in pairwise(features):
            layers += [Activation(act), separable(before, after), BatchNorm()]
        branch = Sequential(*layers[0 if start else 1 :], *([MaxPool(3, stride=stride)] if stride > 1 else []))
        if stride == 1:
            return Block(branch)
        skip = Conv(scaled(features[-1]), 1, stride=stride, bias=False)
        return Block(branch, Sequential(skip=skip, skipbn=BatchNorm()))

    def plain(features: int, stride: int = 1) -> Conv:
        return Conv(scaled(features), 3, stride=stride, padding=0, bias=False)

    entry = {
        "conv1": plain(32, 2), "bn1": BatchNorm(), "act1": Activation(act),
        "conv2": plain(64), "bn2": BatchNorm(), "act2": Activation(act),
        "block1": block(64, 128, 128, stride=2, start=False),
        "block2": block(128, 256, 256, stride=2),
        "block3": block(256, 728, 728, stride=2),
    }  # fmt: skip
    middle = {f"block{i}": block(728, 728, 728, 728) for i in range(4, 12)}
    leave = {
        "block12": block(728, 728, 1024, stride=2),
        "conv3": separable(1024, 1536), "bn3": BatchNorm(), "act3": Activation(act),
        "conv4": separable(1536, 2048), "bn4": BatchNorm(), "act4": Activation(act),
        "global_pool": GlobalAvgPool(),
    }  # fmt: skip
    head: dict[str, Layer] = {"drop": Dropout(dropout)} if dropout and num_classes else {}
    if num_classes:
        head["fc"] = Linear(num_classes)
    starts = {f"block{i}": f"block{i + 1}.rep.0" for i in (1, 2, 11)}
    return Network({**entry, **middle, **leave, **head}, stages={"stem": "act2", **starts, "exit": "act4"})
