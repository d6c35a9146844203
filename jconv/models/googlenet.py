"""GoogLeNet: blocks that look through several windows at once, behind 1×1 convolutions that make it cheap."""

from collections.abc import Callable
from functools import partial

import jax

from jconv.layers import (
    Activation,
    AdaptiveAvgPool,
    BatchNorm,
    Beside,
    Conv,
    Dropout,
    Flatten,
    GlobalAvgPool,
    Layer,
    Linear,
    MaxPool,
    Parallel,
    Sequential,
)
from jconv.models.network import Network, known, sized

__all__ = ["INCEPTIONS", "VARIANTS", "conv_bn_act", "googlenet"]

INCEPTIONS: dict[str, tuple[int, int, int, int, int, int]] = {  # 1×1; 3×3 behind; 5×5 behind; behind the pool
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
VARIANTS: dict[str, dict] = {"googlenet": {}}


def googlenet(
    *,
    aux: bool = False,
    window: int = 3,
    num_classes: int = 1000,
    width: float = 1.0,
    dropout: float = 0.2,
    dropout_aux: float = 0.7,
    act: str | Callable[[jax.Array], jax.Array] = "relu",
) -> Network:
    """GoogLeNet (Inception-v1): a stem of three convolutions, nine inception blocks, a mean, a classifier.

    An inception block is four branches side by side: a 1×1, a 1×1 before a 3×3, a 1×1 before a 5×5, and a max-pool
    before a 1×1. Auxiliary heads after blocks 4a and 4d give the lower layers a loss of their own: take their logits
    by `net.outputs(params, state, x, at=["fc", "aux1", "aux2"], train=True, key=key)` and weigh them by 0.3.

    It is torchvision's network, whose published weights it fits: a BatchNorm after each convolution, where the paper
    of 2014 has two local response normalisations, and a window of 3 in the third branch, where that has 5. Those
    weights want pixels of mean and deviation 0.5 (`jconv.weights.Preprocessing`): torchvision's `transform_input`,
    which has no counterpart here, makes such pixels of those normalised by ImageNet's mean and deviation.

    Args:
        aux: with the two auxiliary heads; they act on the loss alone, never on the network's value.
        window: of the third branch, 3 (torchvision's weights) or 5 (as published).
        num_classes: features of the classifier `fc` and of the heads; 0 ends the network with the pooled features.
        width: multiplies the features of every layer but the last.
        dropout, dropout_aux: before the classifier, and before those of the heads.
        act: the activation.

    Returns:
        A Network with torchvision's paths, (N, H, W, C) -> (N, num_classes), and features "conv1", "conv3",
        "inception3b", "inception4e", "inception5b".

    Raises:
        ValueError: an unknown window; auxiliary heads without classes; a width that leaves no features.

    Example:
        >>> net = googlenet()
        >>> params, _ = jax.eval_shape(net.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 224, 224, 3), "float32"))
        >>> sum(p.size for p in jax.tree.leaves(params))
        6624904

    References:
        Szegedy et al. 2014, "Going deeper with convolutions", arXiv:1409.4842, table 1 and section 5. BatchNorm: Ioffe
        & Szegedy 2015, arXiv:1502.03167, section 4.2.
    """
    sized(num_classes=num_classes, width=width)
    known("window", window, (3, 5))
    if aux and not num_classes:
        raise ValueError("aux: auxiliary heads classify, and num_classes=0 has no classes; give it some, or aux=False")
    unit = partial(conv_bn_act, width=width, act=act)
    pool = partial(MaxPool, stride=2, padding=0, ceil_mode=True)

    def inception(ones: int, before3: int, threes: int, before5: int, fives: int, pooled: int) -> Parallel:
        return Parallel(
            branch1=unit(ones, 1),
            branch2=Sequential(unit(before3, 1), unit(threes, 3)),
            branch3=Sequential(unit(before5, 1), unit(fives, window)),
            branch4=Sequential(MaxPool(3, stride=1), unit(pooled, 1)),
        )

    def head() -> Beside:
        return Beside(Sequential(
            pool=AdaptiveAvgPool(4), conv=unit(128, 1), flatten=Flatten(channels_first=True),
            fc1=Linear(int(1024 * width)), act=Activation(act), dropout=Dropout(dropout_aux), fc2=Linear(num_classes),
        ))  # fmt: skip

    layers: dict[str, Layer] = {
        "conv1": unit(64, 7, stride=2), "maxpool1": pool(3),
        "conv2": unit(64, 1), "conv3": unit(192, 3), "maxpool2": pool(3),
    }  # fmt: skip
    after: dict[str, dict[str, Layer]] = {"3b": {"maxpool3": pool(3)}, "4e": {"maxpool4": pool(2)}}
    if aux:
        after |= {"4a": {"aux1": head()}, "4d": {"aux2": head()}}
    for name, features in INCEPTIONS.items():
        layers |= {f"inception{name}": inception(*features)} | after.get(name, {})
    layers |= {"avgpool": GlobalAvgPool(), "dropout": Dropout(dropout)}
    if num_classes:
        layers["fc"] = Linear(num_classes)
    stages = ("conv1", "conv3", "inception3b", "inception4e", "inception5b")
    return Network(layers, stages={name: name for name in stages})


def conv_bn_act(
    features: int,
    kernel: int | tuple[int, int] = 1,
    *,
    stride: int = 1,
    padding: int | None = None,
    width: float = 1.0,
    act: str | Callable[[jax.Array], jax.Array] = "relu",
) -> Sequential:
    """The unit of every Inception: a convolution of `features * width`, a BatchNorm, an activation."""
    conv = Conv(int(features * width), kernel, stride=stride, padding=padding, bias=False)
    return Sequential(conv=conv, bn=BatchNorm(eps=1e-3), act=Activation(act))
