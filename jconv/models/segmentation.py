"""DeepLabV3: an atrous ResNet, whose last stages dilate instead of striding, and a pyramid; a class for each pixel."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax

from jconv import ops
from jconv.layers import (
    Activation,
    AdaptiveAvgPool,
    BatchNorm,
    Beside,
    Conv,
    Dropout,
    Layer,
    Parallel,
    Run,
    Sequential,
)
from jconv.models.network import Network, known, several, sized
from jconv.models.resnet import DEPTHS, resnet

__all__ = ["VARIANTS", "Resized", "Segmenter", "deeplab"]

VARIANTS: dict[str, dict] = {
    "deeplabv3_resnet50": {"depth": 50, "auxiliary": True},
    "deeplabv3_resnet101": {"depth": 101, "auxiliary": True},
}

RATES = {8: (12, 24, 36), 16: (6, 12, 18)}
"""Dilations of the pyramid by output stride: section 3.3 of the paper."""


@dataclasses.dataclass(frozen=True, repr=False, init=False)
class Resized(Sequential):
    """A Sequential whose value is resized to its input's size, bilinearly: torch's `align_corners=False`."""

    def wire(self, run: Run, x: jax.Array) -> jax.Array:
        """One after another, and back to x's size."""
        return ops.resize(super().wire(run, x), size=x.shape[1:-1], method="bilinear")


@dataclasses.dataclass(frozen=True, repr=False, init=False)
class Segmenter(Resized, Network):
    """A Network whose value is resized to its input's size; `features` are as the stages make them."""


def deeplab(
    depth: int = 50,
    *,
    output_stride: int = 8,
    rates: Sequence[int] | None = None,
    head_width: int = 256,
    auxiliary: bool = False,
    num_classes: int = 21,
    width: int = 64,
    dropout: float = 0.5,
    act: str | Callable[[jax.Array], jax.Array] = "relu",
    **backbone: Any,
) -> Segmenter:
    """DeepLabV3: an atrous ResNet, then atrous spatial pyramid pooling, then a class for each pixel.

    The pyramid looks at the last stage through a 1×1 convolution, 3×3 convolutions of three dilations, and its mean
    over the image, side by side.

    Args:
        depth, width, backbone: of the ResNet, and other options of `jconv.models.resnet`, as `stem` or `shortcut`.
        output_stride: of the ResNet, 8 or 16.
        rates: dilations of the pyramid; None is (12, 24, 36) for output stride 8 and half of that for 16.
        head_width: features of each branch of the pyramid and of what follows it.
        auxiliary: a second, small head on the third stage, as torchvision trains with: `features(..., at=["aux"])`
            returns its logits, of the stage's resolution. Its share of the loss there is 0.5.
        num_classes: features of the last convolution; 0 ends the network with those before it.
        dropout: after the pyramid; the auxiliary head has a fifth of it.
        act: the activation.

    Returns:
        A Network with torchvision's paths, `backbone.*`, `classifier.*` and `aux_classifier.*`, (N, H, W, C) ->
        (N, H, W, num_classes), with features "stem", "layer1", ..., "out" before it is resized, and "aux".

    Raises:
        ValueError: an unknown output stride, a depth without a fourth stage, a size that is not above 0, or an option
            that `resnet` refuses.

    Example:
        >>> net = deeplab(auxiliary=True)
        >>> params, _ = jax.eval_shape(net.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 64, 64, 3), "float32"))
        >>> sum(p.size for p in jax.tree.leaves(params))
        42004074

    References:
        Chen et al. 2017, "Rethinking Atrous Convolution for Semantic Image Segmentation", arXiv:1706.05587, section 3.
    """
    sized(int, num_classes=num_classes, head_width=head_width)
    dilations = RATES[known("output_stride", output_stride, RATES)] if rates is None else rates
    several(rates=dilations)
    sized(int, rates=dilations)
    block, _ = DEPTHS[known("depth", depth, [depth for depth, (_, counts) in DEPTHS.items() if len(counts) == 4])]
    trunk = resnet(depth, output_stride=output_stride, num_classes=0, width=width, act=act, **backbone).children()
    del trunk["global_pool"]

    def conv(features: int, kernel: int, dilation: int = 1) -> list[Layer]:
        return [Conv(features, kernel, dilation=dilation, bias=False), BatchNorm(), Activation(act)]

    pyramid = Parallel(
        Sequential(*conv(head_width, 1)),
        *(Sequential(*conv(head_width, 3, rate)) for rate in dilations),
        Resized(AdaptiveAvgPool(1), *conv(head_width, 1)),
    )
    aspp = Sequential(convs=pyramid, project=Sequential(*conv(head_width, 1), Dropout(dropout)))
    last = [Conv(num_classes, 1)] if num_classes else []
    body: dict[str, Layer] = {"backbone": Sequential(**trunk)}
    stages = {"stem": "act1", **{name: name for name in trunk if name.startswith("layer")}}
    stages = {name: f"backbone.{path}" for name, path in stages.items()} | {"out": "classifier"}
    if auxiliary:  # between the last two stages, for whose sake the backbone is in two parts of one path
        hidden = width * 4 if block == "bottleneck" else width  # a quarter of the third stage's features
        fcn = Sequential(*conv(hidden, 3), Dropout(dropout / 5), *last)
        layer4 = trunk.pop("layer4")
        body = {
            "_first": Sequential(backbone=Sequential(**trunk)),
            "aux_classifier": Beside(fcn),
            "_last": Sequential(backbone=Sequential(layer4=layer4)),
        }
        stages["aux"] = "aux_classifier"
    return Segmenter(body, stages=stages, classifier=Sequential(aspp, *conv(head_width, 3), *last))
