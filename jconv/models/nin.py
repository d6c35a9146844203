"""Network in Network: 1×1 convolutions as a small network at every position, and a mean instead of linear layers."""

from collections.abc import Callable
from typing import NamedTuple

import jax

from jconv.layers import Activation, AvgPool, Conv, Dropout, GlobalAvgPool, Layer, MaxPool
from jconv.models.network import Network, known, sized

__all__ = ["FORMS", "VARIANTS", "Block", "nin"]


class Block(NamedTuple):
    """A window and its features, those of the two 1×1 convolutions after it, and the pool that ends the block."""

    kernel: int
    features: tuple[int, int, int]
    stride: int = 1
    padding: int | None = None
    pool: str = "max"
    dropout: bool = False


FORMS: dict[str, tuple[Block, ...]] = {  # the last block's last features are the classes
    "cifar": (
        Block(5, (192, 160, 96), dropout=True),
        Block(5, (192, 192, 192), pool="avg", dropout=True),
        Block(3, (192, 192, 0)),
    ),
    "imagenet": (
        Block(11, (96, 96, 96), stride=4, padding=0),
        Block(5, (256, 256, 256)),
        Block(3, (384, 384, 384), dropout=True),
        Block(3, (1024, 1024, 0)),
    ),
}
VARIANTS: dict[str, dict] = {"nin_imagenet": {}, "nin_cifar": {"form": "cifar", "num_classes": 10}}


def nin(
    *,
    form: str = "imagenet",
    num_classes: int = 1000,
    width: float = 1.0,
    dropout: float = 0.5,
    act: str | Callable[[jax.Array], jax.Array] = "relu",
) -> Network:
    """Network in Network: blocks of a window and two 1×1 convolutions, 3×3/2 pools between, and a mean of class maps.

    The 1×1 convolutions are a perceptron that slides over the image ("mlpconv"). The last has a feature for each class,
    and the mean of its map is the class's score: no linear layer, hence few weights and images of any size from 39
    pixels on, or 4 in the form for CIFAR.

    | form | windows | pools | params |
    |---|---|---|---|
    | "imagenet" | 11×11/4 96 · 5×5 256 · 3×3 384 · 3×3 1024 | max, max, max | 7.60 M |
    | "cifar" | 5×5 192 · 5×5 192 · 3×3 192 | max, mean | 0.97 M at 10 classes |

    Args:
        form: "imagenet" or "cifar".
        num_classes: features of the last 1×1 convolution; 0 leaves it out.
        width: multiplies the features of every layer but the last.
        dropout: after the pools, on ImageNet after the last alone.
        act: the activation; it follows the last convolution too, as published.

    Returns:
        A Network with the names of the authors' definition for Caffe (`conv1`, `cccp1`, `cccp2`, `conv2`, ...),
        (N, H, W, C) -> (N, num_classes), and features "block1", "block2", ...

    Raises:
        ValueError: an unknown form; a width that leaves no features.

    Example:
        >>> net = nin(form="cifar", num_classes=10)
        >>> params, _ = jax.eval_shape(net.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 32, 32, 3), "float32"))
        >>> sum(p.size for p in jax.tree.leaves(params))
        966986

    References:
        Lin, Chen & Yan 2013, "Network in network", arXiv:1312.4400, section 3 and figure 2; sizes from the authors'
        Caffe definitions.
    """
    sized(num_classes=num_classes, width=width)
    blocks = FORMS[known("form", form, FORMS)]
    layers: dict[str, Layer] = {}
    stages: dict[str, str] = {}
    for i, block in enumerate(blocks, 1):
        last = i == len(blocks)
        for j, name in enumerate((f"conv{i}", f"cccp{2 * i - 1}", f"cccp{2 * i}")):
            features = num_classes if last and j == 2 else int(block.features[j] * width)
            if last and j == 2 and not num_classes:
                break
            conv = Conv(features, 1) if j else Conv(features, block.kernel, stride=block.stride, padding=block.padding)
            layers |= {name: conv, f"relu_{name}": Activation(act)}
            stages[f"block{i}"] = f"relu_{name}"
        if not last:
            kind = MaxPool if block.pool == "max" else AvgPool
            layers[f"pool{i}"] = kind(3, stride=2, padding=0, ceil_mode=True)
            layers |= {f"drop{i}": Dropout(dropout)} if block.dropout else {}
    return Network(layers, stages=stages, global_pool=GlobalAvgPool())
