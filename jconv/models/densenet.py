"""Densely connected networks: DenseNet-BC 121, 161, 169 and 201, where every layer sees all layers before it."""

import re
from collections.abc import Callable, Iterator, Sequence

import jax

from jconv.layers import (
    Activation,
    AvgPool,
    BatchNorm,
    Conv,
    Dropout,
    GlobalAvgPool,
    Identity,
    Layer,
    Linear,
    MaxPool,
    Parallel,
    Sequential,
)
from jconv.models.network import Network, several, sized

__all__ = ["VARIANTS", "densenet", "from_torchvision"]

VARIANTS: dict[str, dict] = {
    "densenet121": {"layers": (6, 12, 24, 16)},
    "densenet161": {"layers": (6, 12, 36, 24), "growth": 48},
    "densenet169": {"layers": (6, 12, 32, 32)},
    "densenet201": {"layers": (6, 12, 48, 32)},
}


def densenet(
    *,
    layers: Sequence[int] = (6, 12, 24, 16),
    growth: int = 32,
    bottleneck: int = 4,
    num_classes: int = 1000,
    dropout: float = 0.0,
    act: str | Callable[[jax.Array], jax.Array] = "relu",
) -> Network:
    """A DenseNet-BC: a stem, dense blocks with transitions that halve channels and resolution, a mean, a classifier.

    A dense layer adds `growth` channels, `x -> [x, conv3×3(act(norm(conv1×1(act(norm(x))))))]`, so that layer l of a
    block sees the outputs of all l - 1 before it.

    Args:
        layers: dense layers in each block.
        growth: channels that a layer adds; the stem has twice as many.
        bottleneck: features of the 1×1 convolution, in multiples of growth.
        num_classes: features of the `classifier`; 0 ends the network with the pooled features.
        dropout: of each dense layer's new channels; the paper has 0.2 where data are not augmented.
        act: the activation.

    Returns:
        A Network with torchvision's and timm's paths, (N, H, W, C) -> (N, num_classes), and features "stem",
        "denseblock1", ...

    Raises:
        ValueError: no dense blocks, or a size that is not above 0.

    Example:
        >>> net = densenet()
        >>> params, _ = jax.eval_shape(net.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 64, 64, 3), "float32"))
        >>> sum(p.size for p in jax.tree.leaves(params))
        7978856

    References:
        Huang et al. 2016, "Densely Connected Convolutional Networks", arXiv:1608.06993, table 1.
    """
    several(layers=layers)
    sized(int, num_classes=num_classes, layers=layers, growth=growth, bottleneck=bottleneck)

    def dense_layer() -> Layer:
        drop = {"drop": Dropout(dropout)} if dropout else {}
        new = Sequential(
            norm1=BatchNorm(), relu1=Activation(act), conv1=Conv(bottleneck * growth, 1, bias=False),
            norm2=BatchNorm(), relu2=Activation(act), conv2=Conv(growth, 3, bias=False), **drop,
        )  # fmt: skip
        return Parallel(_old=Identity(), _new=new)

    def blocks(channels: int) -> Iterator[tuple[str, Layer]]:
        for i, count in enumerate(layers, 1):
            yield f"denseblock{i}", Sequential(**{f"denselayer{j}": dense_layer() for j in range(1, count + 1)})
            channels += count * growth
            if i < len(layers):
                channels //= 2
                yield (
                    f"transition{i}",
                    Sequential(
                        norm=BatchNorm(), relu=Activation(act), conv=Conv(channels, 1, bias=False), pool=AvgPool(2)
                    ),
                )

    features = Sequential(
        conv0=Conv(2 * growth, 7, stride=2, bias=False), norm0=BatchNorm(), relu0=Activation(act),
        pool0=MaxPool(3, stride=2), **dict(blocks(2 * growth)), norm5=BatchNorm(),
    )  # fmt: skip
    head = {"classifier": Linear(num_classes)} if num_classes else {}
    last = len(layers)
    stages = {f"denseblock{i}": f"features.{f'denseblock{i}' if i < last else 'norm5'}" for i in range(1, last + 1)}
    return Network(
        stages={"stem": "features.relu0", **stages}, renames=(from_torchvision,),
        features=features, act=Activation(act), global_pool=GlobalAvgPool(), **head,
    )  # fmt: skip


def from_torchvision(name: str) -> str:
    """`norm.1` is `norm1`: torchvision's checkpoints are older than the rule that a module's name has no dot."""
    return re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", name)
