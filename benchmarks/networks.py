"""The networks whose training steps are measured, in jconv, in Flax and in torch: the same layers and sizes."""

import functools
from collections.abc import Sequence
from typing import Any

from flax import linen as nn

import jconv
from jconv.layers import Activation, BatchNorm, Conv, Dropout, GlobalAvgPool, Layer, Linear, Residual, Sequential

__all__ = ["FLAX", "JCONV", "TORCHVISION"]

PAD_1: Any = ((1, 1), (1, 1))

MOBILENET_V2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Expansion, features, blocks, stride: Sandler et al. 2018, arXiv:1801.04381, table 2."""


def mobilenet_v2(num_classes: int = 1000) -> Layer:
    """MobileNetV2 of jconv's layers."""

    def conv(features: int, kernel: int, act: bool = True, **options: Any) -> list[Layer]:
        return [Conv(features, kernel, bias=False, **options), BatchNorm(), *[Activation("relu6")] * act]

    layers, channels = conv(32, 3, stride=2), 32
    for expansion, features, blocks, stride in MOBILENET_V2:
        for i in range(blocks):
            wide = channels * expansion
            branch = Sequential(
                *(conv(wide, 1) if expansion > 1 else ()),
                *conv(wide, 3, stride=1 if i else stride, groups=wide),
                *conv(features, 1, act=False),
            )
            layers.append(Residual(branch) if i else branch)
            channels = features
    return Sequential(*layers, *conv(1280, 1), GlobalAvgPool(), Dropout(0.2), Linear(num_classes))


class FlaxResNet(nn.Module):
    """A ResNet of Linen's layers, stride on the 3×3."""

    blocks: Sequence[int]
    bottleneck: bool
    groups: int = 1
    group_width: int = 64

    @nn.compact
    def __call__(self, x: Any, train: bool) -> Any:
        conv = functools.partial(nn.Conv, use_bias=False)
        norm = functools.partial(nn.BatchNorm, use_running_average=not train, momentum=0.9, epsilon=1e-5)
        x = nn.relu(norm()(conv(64, (7, 7), (2, 2), padding=3)(x)))
        x = nn.max_pool(x, (3, 3), (2, 2), PAD_1)
        for stage, blocks in enumerate(self.blocks):
            for i in range(blocks):
                stride = 2 if stage and not i else 1
                width = 64 * 2**stage
                out = width * 4 if self.bottleneck else width
                y = x
                if self.bottleneck:
                    inner = width * self.group_width * self.groups // 64
                    y = nn.relu(norm()(conv(inner, (1, 1))(y)))
                    y = conv(inner, (3, 3), (stride, stride), padding=1, feature_group_count=self.groups)(y)
                    y = nn.relu(norm()(y))
                    y = norm()(conv(out, (1, 1))(y))
                else:
                    y = nn.relu(norm()(conv(out, (3, 3), (stride, stride), padding=1)(y)))
                    y = norm()(conv(out, (3, 3), padding=1)(y))
                if x.shape != y.shape:
                    x = norm()(conv(out, (1, 1), (stride, stride))(x))
                x = nn.relu(x + y)
        return nn.Dense(1000)(x.mean((1, 2)))


class FlaxMobileNetV2(nn.Module):
    """MobileNetV2 of Linen's layers, without its dropout."""

    @nn.compact
    def __call__(self, x: Any, train: bool) -> Any:
        def conv(x: Any, features: int, kernel: int, stride: int = 1, groups: int = 1) -> Any:
            window = {"kernel_size": (kernel, kernel), "strides": (stride, stride), "padding": kernel // 2}
            x = nn.Conv(features, use_bias=False, feature_group_count=groups, **window)(x)
            return nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5)(x)

        x = nn.relu6(conv(x, 32, 3, 2))
        for expansion, features, blocks, stride in MOBILENET_V2:
            for i in range(blocks):
                wide = x.shape[-1] * expansion
                y = nn.relu6(conv(x, wide, 1)) if expansion > 1 else x
                y = nn.relu6(conv(y, wide, 3, 1 if i else stride, wide))
                y = conv(y, features, 1)
                x = x + y if i else y
        return nn.Dense(1000)(nn.relu6(conv(x, 1280, 1)).mean((1, 2)))


JCONV = {
    "ResNet-18": functools.partial(jconv.models.resnet, 18),
    "ResNet-50": functools.partial(jconv.models.resnet, 50),
    "ResNeXt-50 32×4d": functools.partial(jconv.models.resnet, 50, groups=32, group_width=4),
    "MobileNetV2": mobilenet_v2,
}
FLAX = {
    "ResNet-18": FlaxResNet((2, 2, 2, 2), bottleneck=False),
    "ResNet-50": FlaxResNet((3, 4, 6, 3), bottleneck=True),
    "ResNeXt-50 32×4d": FlaxResNet((3, 4, 6, 3), bottleneck=True, groups=32, group_width=4),
    "MobileNetV2": FlaxMobileNetV2(),
}
TORCHVISION = {
    "ResNet-18": "resnet18",
    "ResNet-50": "resnet50",
    "ResNeXt-50 32×4d": "resnext50_32x4d",
    "MobileNetV2": "mobilenet_v2",
}
