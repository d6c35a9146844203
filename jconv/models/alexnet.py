"""AlexNet: as published in 2012, in two towers with local response normalisation, and the single tower of 2014."""

from collections.abc import Callable

import jax

from jconv.layers import (
    Activation,
    AdaptiveAvgPool,
    Conv,
    Dropout,
    Flatten,
    Layer,
    Linear,
    LocalResponseNorm,
    MaxPool,
    Sequential,
)
from jconv.layers.initializers import ones, zeros
from jconv.models.network import Network, known, sized

__all__ = ["TOWERS", "VARIANTS", "alexnet"]

TOWERS: dict[int, tuple[int, ...]] = {1: (64, 192, 384, 256, 256), 2: (96, 256, 384, 384, 256)}
"""Features of the five convolutions."""
VARIANTS: dict[str, dict] = {"alexnet": {}, "alexnet_2012": {"towers": 2}}


def alexnet(
    *,
    towers: int = 1,
    num_classes: int = 1000,
    width: float = 1.0,
    dropout: float = 0.5,
    act: str | Callable[[jax.Array], jax.Array] = "relu",
) -> Network:
    """AlexNet: five convolutions, 11×11/4, 5×5 and three 3×3, three 3×3/2 max-pools, and three linear layers.

    | towers | features | groups | response normalisation | biases start at 1 | source |
    |---|---|---|---|---|---|
    | 1 | 64 192 384 256 256 | 1 1 1 1 1 | none | none | "One weird trick", torchvision |
    | 2 | 96 256 384 384 256 | 1 2 1 2 2 | after the first two | 2, 4, 5 and hidden | ImageNet 2012 |

    Two towers are the two GPUs of 2012: the second, fourth and fifth convolutions see their own tower's half of the
    channels alone. The first convolution pads by 2, so that 224 pixels give the paper's 55×55.

    Args:
        towers: 1 or 2.
        num_classes: features of the last layer; 0 ends the network with the hidden features before it.
        width: multiplies the features of every layer but the last.
        dropout: before each hidden layer of the classifier.
        act: the activation.

    Returns:
        A Network with torchvision's paths, (N, H, W, C) -> (N, num_classes), and features "conv1", "conv2", "conv5",
        "pool5". The classifier takes 6×6 bins of any image of at least 63 pixels.

    Raises:
        ValueError: another number of towers; a width that leaves no features.

    Example:
        >>> net = alexnet(towers=2)
        >>> params, _ = jax.eval_shape(net.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 224, 224, 3), "float32"))
        >>> sum(p.size for p in jax.tree.leaves(params))
        60965224

    References:
        Krizhevsky, Sutskever & Hinton 2012, "ImageNet classification with deep convolutional neural networks",
        sections 3.5 and 5. Krizhevsky 2014, "One weird trick for parallelizing convolutional neural networks",
        arXiv:1404.5997.
    """
    sized(num_classes=num_classes, width=width)
    features = [int(f * width) for f in TOWERS[known("towers", towers, TOWERS)]]
    raised = ones if towers == 2 else zeros
    norm = [LocalResponseNorm()] if towers == 2 else []
    pool = MaxPool(3, stride=2, padding=0)

    def conv(i: int, kernel: int) -> list[Layer]:
        start, groups = (raised, towers) if i in (2, 4, 5) else (zeros, 1)
        return [Conv(features[i - 1], kernel, groups=groups, bias_init=start), Activation(act)]

    first = Conv(features[0], 11, stride=4, padding=2)
    body = [first, Activation(act), *norm, pool, *conv(2, 5), *norm, pool, *conv(3, 3), *conv(4, 3), *conv(5, 3), pool]

    hidden = int(4096 * width)
    head = [
        Dropout(dropout), Linear(hidden, bias_init=raised), Activation(act),
        Dropout(dropout), Linear(hidden, bias_init=raised), Activation(act),
    ]  # fmt: skip
    if num_classes:
        head.append(Linear(num_classes))

    acts = [f"features.{i}" for i, layer in enumerate(body) if isinstance(layer, Activation)]
    return Network(
        stages={"conv1": acts[0], "conv2": acts[1], "conv5": acts[4], "pool5": f"features.{len(body) - 1}"},
        features=Sequential(*body),
        avgpool=AdaptiveAvgPool(6),
        flatten=Flatten(channels_first=True),  # torch's order, for its weights
        classifier=Sequential(*head),
    )
