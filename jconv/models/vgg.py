"""VGG: nothing but 3×3 convolutions and 2×2 pools, 11 to 19 layers deep, and half a gigabyte of classifier."""

import dataclasses
from collections.abc import Callable

import jax

from jconv import ops
from jconv.layers import Activation, BatchNorm, Conv, Dropout, GlobalAvgPool, Layer, Linear, MaxPool, Sequential
from jconv.layers.simple import Function
from jconv.models.network import Network, known, sized

__all__ = ["DEPTHS", "VARIANTS", "AtLeast", "from_torchvision", "vgg"]

DEPTHS: dict[int, tuple[int, ...]] = {  # convolutions in each stage
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
VARIANTS: dict[str, dict] = {
    f"vgg{depth}{suffix}": {"depth": depth, "bn": bool(suffix)} for depth in DEPTHS for suffix in ("", "_bn")
}


def vgg(
    depth: int = 16,
    *,
    bn: bool = False,
    num_classes: int = 1000,
    width: int = 64,
    dropout: float = 0.5,
    act: str | Callable[[jax.Array], jax.Array] = "relu",
) -> Network:
    """VGG: five stages of 3×3 convolutions, twice as wide from one to the next up to 8 × width, and 2×2 max-pools.

    Two 3×3 windows see what a 5×5 sees and three what a 7×7 sees, with fewer weights and more activations between. The
    classifier's first layer is a 7×7 convolution, which on a 224-pixel image is the paper's linear layer, number for
    number; a larger image is classified at every position and averaged, as the paper tests it (section 3.2), and on a
    smaller one the last map is stretched to 7×7.

    Args:
        depth: 11, 13, 16 or 19 layers with weights: the paper's A, B, D and E.
        bn: a BatchNorm after each convolution of the stages.
        num_classes: features of the classifier `head.fc`; 0 ends the network with the pooled features before it.
        width: features of the first stage; the classifier's hidden layers have 64 × width.
        dropout: after each hidden layer of the classifier.
        act: the activation.

    Returns:
        A Network with timm's paths, (N, H, W, C) -> (N, num_classes), and features "conv1" to "conv5", "pool5".

    Raises:
        ValueError: an unknown depth; a width that is not above 0.

    Example:
        >>> net = vgg(16)
        >>> params, _ = jax.eval_shape(net.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 224, 224, 3), "float32"))
        >>> sum(p.size for p in jax.tree.leaves(params))
        138357544

    References:
        Simonyan & Zisserman 2014, "Very deep convolutional networks for large-scale image recognition",
        arXiv:1409.1556, table 1.
    """
    sized(int, num_classes=num_classes, width=width)
    layers: list[Layer] = []
    stages: dict[str, str] = {}
    for i, count in enumerate(DEPTHS[known("depth", depth, DEPTHS)]):
        for _ in range(count):
            layers += [Conv(width * min(2**i, 8), 3), *([BatchNorm()] if bn else []), Activation(act)]
        stages[f"conv{i + 1}"] = f"features.{len(layers) - 1}"
        layers.append(MaxPool(2))
    stages["pool5"] = f"features.{len(layers) - 1}"
    hidden = 64 * width
    pre_logits = Sequential(
        pool=AtLeast(7), fc1=Conv(hidden, 7, padding=0), act1=Activation(act), drop=Dropout(dropout),
        fc2=Conv(hidden, 1), act2=Activation(act),
    )  # fmt: skip
    head: dict[str, Layer] = {"global_pool": GlobalAvgPool(), "drop": Dropout(dropout)}
    if num_classes:
        head["fc"] = Linear(num_classes)
    return Network(
        stages=stages,
        renames=(from_torchvision,),
        features=Sequential(*layers),
        pre_logits=pre_logits,
        head=Sequential(**head),
    )


@dataclasses.dataclass(frozen=True)
class AtLeast(Function):
    """x, with each axis that is shorter than `size` stretched to it by adaptive average pooling."""

    size: int

    def __call__(self, x: jax.Array) -> jax.Array:
        small = any(n < self.size for n in x.shape[1:-1])
        return ops.adaptive_avg_pool(x, size=[max(n, self.size) for n in x.shape[1:-1]]) if small else x


def from_torchvision(name: str) -> str:
    """The name here of a tensor of torchvision's VGG, whose classifier is one sequence.

    Its `classifier.0` and `classifier.3` are matrices over (C, H, W) flattened, the kernels of `fc1` and `fc2`.
    """
    layers = {"classifier.0": "pre_logits.fc1", "classifier.3": "pre_logits.fc2", "classifier.6": "head.fc"}
    layer, _, kind = name.rpartition(".")
    return f"{layers.get(layer, layer)}.{kind}"
