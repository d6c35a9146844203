"""The convolutions that published networks are made of: what the benchmarks measure."""

from typing import NamedTuple

__all__ = ["SHAPES", "Shape"]


class Shape(NamedTuple):
    """A convolution over images of size × size (or texts of size words), padded by dilation (kernel - 1) // 2."""

    kind: str
    network: str
    batch: int
    size: int
    channels: int
    features: int
    kernel: int
    stride: int = 1
    groups: int = 1
    rank: int = 2
    dilation: int = 1

    def __str__(self) -> str:
        window = "×".join([str(self.kernel)] * self.rank) + (f"/{self.stride}" if self.stride > 1 else "")
        groups = f", {self.groups} groups" if self.groups > 1 else ""
        dilated = f", dilation {self.dilation}" if self.dilation > 1 else ""
        size = f"{self.batch}×{self.size}{' ²³'[self.rank - 1].strip()}"
        return f"{self.network}: {size}, {self.channels}→{self.features}, {window}{groups}{dilated}"


def _dense(network: str, *rest: int) -> Shape:
    return Shape("dense", network, *rest)


SHAPES = (
    # stems
    Shape("stem", "ResNet a", 32, 128, 3, 64, 7, 2),
    Shape("stem", "ResNet a", 8, 224, 3, 64, 7, 2),
    Shape("stem", "ResNet a", 1, 224, 3, 64, 7, 2),
    Shape("stem", "ResNet c", 32, 128, 3, 32, 3, 2),
    Shape("stem", "ResNet c", 32, 64, 32, 32, 3),
    Shape("stem", "ResNet c", 32, 64, 32, 64, 3),
    Shape("stem", "5×5", 32, 128, 3, 32, 5, 2),
    Shape("stem", "patch", 32, 128, 3, 96, 4, 4),
    Shape("stem", "AlexNet", 8, 224, 3, 64, 11, 4),
    Shape("stem", "cifar", 32, 32, 3, 16, 3),
    Shape("stem", "ViT", 4, 224, 3, 384, 16, 16),
    Shape("stem", "greyscale", 64, 28, 1, 32, 3),
    Shape("stem", "LeNet", 64, 28, 1, 6, 5),
    Shape("stem", "lesson", 64, 28, 1, 8, 5, 2),
    Shape("stem", "greyscale ResNet a", 8, 112, 1, 64, 7, 2),
    Shape("stem", "M5 audio", 8, 8000, 1, 128, 80, 4, 1, 1),
    # dense 3×3
    _dense("ResNet-18 layer1", 32, 32, 64, 64, 3),
    _dense("ResNet-18 layer2.0", 32, 32, 64, 128, 3, 2),
    _dense("ResNet-18 layer2", 32, 16, 128, 128, 3),
    _dense("ResNet-18 layer3.0", 32, 16, 128, 256, 3, 2),
    _dense("ResNet-18 layer3", 32, 8, 256, 256, 3),
    _dense("ResNet-18 layer4.0", 32, 8, 256, 512, 3, 2),
    _dense("ResNet-18 layer4", 32, 4, 512, 512, 3),
    _dense("ResNet-18 layer4, 64 px", 32, 2, 512, 512, 3),
    _dense("ResNet-18 layer1", 8, 56, 64, 64, 3),
    _dense("ResNet-18 layer2", 8, 28, 128, 128, 3),
    _dense("ResNet-18 layer3", 8, 14, 256, 256, 3),
    _dense("ResNet-18 layer4", 8, 7, 512, 512, 3),
    _dense("ResNet-18 layer1", 1, 56, 64, 64, 3),
    _dense("ResNet-18 layer2", 1, 28, 128, 128, 3),
    _dense("ResNet-18 layer3", 1, 14, 256, 256, 3),
    _dense("ResNet-18 layer4", 1, 7, 512, 512, 3),
    _dense("CIFAR ResNet-20 layer1", 32, 32, 16, 16, 3),
    _dense("CIFAR ResNet-20 layer2", 32, 16, 32, 32, 3),
    _dense("CIFAR ResNet-20 layer3", 32, 8, 64, 64, 3),
    _dense("VGG-16", 4, 112, 128, 128, 3),
    _dense("VGG-16", 1, 224, 64, 64, 3),
    _dense("ConvNeXt down", 8, 56, 96, 192, 2, 2),
    Shape("dense", "DeepLab", 8, 28, 256, 256, 3, dilation=2),
    Shape("dense", "C3D", 4, 16, 64, 128, 3, rank=3),
    _dense("Inception-v3 5×5", 8, 35, 48, 64, 5),
    Shape("dense", "TextCNN width 3", 32, 64, 128, 100, 3, 1, 1, 1),
    Shape("dense", "TextCNN width 5", 32, 64, 128, 100, 5, 1, 1, 1),
    # large kernels
    Shape("large", "dense", 8, 32, 64, 64, 9),
    Shape("large", "dense", 8, 32, 64, 64, 15),
    Shape("large", "dense", 32, 16, 128, 128, 7),
    Shape("large", "dense", 1, 64, 32, 32, 21),
    Shape("large", "depthwise", 8, 28, 96, 96, 9, 1, 96),
    Shape("large", "depthwise", 8, 28, 96, 96, 13, 1, 96),
    Shape("large", "RepLKNet, a part", 1, 32, 64, 64, 31, 1, 64),
    # 1×1
    Shape("pointwise", "ResNet-50 layer1", 32, 32, 64, 256, 1),
    Shape("pointwise", "ResNet-50 layer1", 32, 32, 256, 64, 1),
    Shape("pointwise", "ResNet-50 layer3", 32, 8, 1024, 256, 1),
    Shape("pointwise", "ResNet-50 layer3", 32, 8, 256, 1024, 1),
    Shape("pointwise", "MobileNetV1", 8, 28, 128, 256, 1),
    Shape("pointwise", "MobileNetV2", 32, 16, 32, 192, 1),
    Shape("pointwise", "Xception", 8, 19, 728, 728, 1),
    Shape("pointwise", "ResNet-50 layer4", 1, 7, 2048, 512, 1),
    # strided 1×1
    Shape("strided 1×1", "ResNet-50 layer2.0", 32, 32, 256, 512, 1, 2),
    Shape("strided 1×1", "ResNet-50 layer3.0", 32, 16, 512, 1024, 1, 2),
    Shape("strided 1×1", "ResNet-50 layer4.0", 8, 14, 1024, 2048, 1, 2),
    Shape("strided 1×1", "ResNet-18 layer2.0", 32, 32, 64, 128, 1, 2),
    Shape("strided 1×1", "ResNet-18 layer4.0", 1, 14, 256, 512, 1, 2),
    # depthwise
    Shape("depthwise", "MobileNetV1", 32, 64, 32, 32, 3, 1, 32),
    Shape("depthwise", "MobileNetV1", 32, 32, 128, 128, 3, 1, 128),
    Shape("depthwise", "MobileNetV1", 8, 28, 256, 256, 3, 2, 256),
    Shape("depthwise", "MobileNetV1", 32, 8, 512, 512, 3, 1, 512),
    Shape("depthwise", "MobileNetV2", 32, 32, 144, 144, 3, 2, 144),
    Shape("depthwise", "MobileNetV2", 8, 14, 576, 576, 3, 1, 576),
    Shape("depthwise", "MobileNetV2", 1, 56, 144, 144, 3, 1, 144),
    Shape("depthwise", "Xception", 8, 19, 728, 728, 3, 1, 728),
    Shape("depthwise", "EfficientNet 5×5", 32, 16, 240, 240, 5, 1, 240),
    Shape("depthwise", "ConvNeXt", 8, 28, 192, 192, 7, 1, 192),
    Shape("depthwise", "ConvNeXt", 32, 8, 384, 384, 7, 1, 384),
    Shape("depthwise", "ConvNeXt", 1, 56, 96, 96, 7, 1, 96),
    # groups
    Shape("grouped", "ResNeXt-50 layer1", 8, 56, 128, 128, 3, 1, 32),
    Shape("grouped", "ResNeXt-50 layer2", 32, 16, 256, 256, 3, 1, 32),
    Shape("grouped", "ResNeXt-50 layer2.0", 32, 32, 256, 256, 3, 2, 32),
    Shape("grouped", "ResNeXt-50 layer3", 32, 8, 512, 512, 3, 1, 32),
    Shape("grouped", "ResNeXt-50 layer4", 8, 7, 1024, 1024, 3, 1, 32),
    Shape("grouped", "ResNeXt-50 layer3", 1, 14, 512, 512, 3, 1, 32),
    Shape("grouped", "RegNetX", 8, 28, 192, 192, 3, 1, 8),
    Shape("grouped", "RegNetX", 8, 14, 432, 432, 3, 1, 9),
    Shape("grouped", "ShuffleNet 1×1", 32, 16, 240, 240, 1, 1, 3),
    Shape("grouped", "64 groups", 8, 16, 512, 512, 3, 1, 64),
    # two or four groups
    Shape("few groups", "AlexNet", 8, 27, 96, 256, 5, 1, 2),
    Shape("few groups", "ShuffleNet 1×1", 8, 28, 272, 272, 1, 1, 4),
)
