"""The networks of fast.ai's course: strided convolutions from a digit to its class, 5×5 first and 3×3 after."""

from collections.abc import Callable, Sequence
from itertools import product

import jax

from jconv.layers import Activation, BatchNorm, Conv, GlobalAvgPool, Layer, Linear
from jconv.models.network import Network, known, several, sized

__all__ = ["LESSONS", "SIMPLE", "lesson_cnn", "simple_cnn"]


def _variants(name: str) -> dict[str, dict]:
    options = product((("", {}), ("_3x3", {"first": 3})), (("", {}), ("_bn", {"bn": True})))
    return {f"{name}{a}{b}": first | bn for (a, first), (b, bn) in options}


LESSONS: dict[str, dict] = _variants("lesson_cnn")
SIMPLE: dict[str, dict] = _variants("simple_cnn")


def lesson_cnn(
    *,
    first: int = 5,
    bn: bool = False,
    num_classes: int = 10,
    features: Sequence[int] = (8, 16, 32, 32),
    act: str | Callable[[jax.Array], jax.Array] = "relu",
) -> Network:
    """The network that the course looks into: convolutions of stride 2, a mean over positions, a linear layer.

    | 28×28 digit | conv1 | conv2 | conv3 | conv4 | pool | fc |
    |---|---|---|---|---|---|---|
    | window | 5×5/2 | 3×3/2 | 3×3/2 | 3×3/2 | mean | |
    | output | 14×14×8 | 7×7×16 | 4×4×32 | 2×2×32 | 32 | 10 |
    | weights | 200 | 1,152 | 4,608 | 9,216 | | 320 |

    Why 5×5 first: a 3×3 window on a grey image makes 8 numbers of 9, which condenses nothing; a 5×5 makes 8 of 25.

    Args:
        first: the window of the first convolution, 5 or 3.
        bn: a BatchNorm after each activation, as the course has it; the convolutions then have no bias.
        num_classes: features of the classifier `fc`; 0 ends the network with the pooled features.
        features: of each convolution.
        act: the activation.

    Returns:
        A Network, (N, H, W, C) -> (N, num_classes), and features "conv1", "conv2", ...

    Raises:
        ValueError: another first window; no features.

    Example:
        >>> net = lesson_cnn()
        >>> params, _ = jax.eval_shape(net.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 28, 28, 1), "float32"))
        >>> sum(p.size for p in jax.tree.leaves(params)), sum(p.size for p in jax.tree.leaves(params) if p.ndim > 1)
        (15594, 15496)

    References:
        Howard et al. 2019, "Practical deep learning for coders", part 2, lesson 10.
    """
    several(features=features)
    sized(int, num_classes=num_classes, features=features)
    layers = _convolutions(features, first, bn, act) | {"global_pool": GlobalAvgPool()}
    if num_classes:
        layers["fc"] = Linear(num_classes)
    return Network(layers, stages=_stages(len(features), bn))


def simple_cnn(
    *,
    first: int = 5,
    bn: bool = False,
    num_classes: int = 10,
    features: Sequence[int] = (8, 16, 32, 64),
    act: str | Callable[[jax.Array], jax.Array] = "relu",
) -> Network:
    """The network of the course's book: convolutions of stride 2 alone, the last of them onto the classes.

    A 28×28 digit is 14, 7, 4, 2 and at last 1 pixel wide; of a larger image the last map's mean is taken.

    Args:
        first, bn, act: as in `lesson_cnn`; a BatchNorm follows the last convolution too.
        num_classes: features of the last convolution; 0 ends the network with the mean of those before it.
        features: of each convolution but the last.

    Returns:
        A Network, (N, H, W, C) -> (N, num_classes), and features "conv1", "conv2", ...

    Raises:
        ValueError: another first window; no features.

    Example:
        >>> net = simple_cnn(first=3, bn=True)
        >>> params, _ = jax.eval_shape(net.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 28, 28, 1), "float32"))
        >>> sum(p.size for p in jax.tree.leaves(params))
        30284

    References:
        Howard & Gugger 2020, "Deep Learning for Coders with fastai and PyTorch", chapter 13.
    """
    several(features=features)
    sized(int, num_classes=num_classes, features=features)
    layers = _convolutions(features, first, bn, act)
    if num_classes:
        last = f"{len(features) + 1}"
        layers[f"conv{last}"] = Conv(num_classes, 3, stride=2, bias=not bn)
        layers |= {f"bn{last}": BatchNorm()} if bn else {}
    return Network(layers, stages=_stages(len(features), bn), global_pool=GlobalAvgPool())


def _convolutions(
    features: Sequence[int], first: int, bn: bool, act: str | Callable[[jax.Array], jax.Array]
) -> dict[str, Layer]:
    known("first", first, (5, 3))
    layers: dict[str, Layer] = {}
    for i, f in enumerate(features, 1):
        layers[f"conv{i}"] = Conv(f, first if i == 1 else 3, stride=2, bias=not bn)
        layers[f"act{i}"] = Activation(act)
        layers |= {f"bn{i}": BatchNorm()} if bn else {}
    return layers


def _stages(count: int, bn: bool) -> dict[str, str]:
    return {f"conv{i}": f"{'bn' if bn else 'act'}{i}" for i in range(1, count + 1)}
