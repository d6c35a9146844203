"""The zoo's catalogue: a tiny network of every family for the laws, and published numbers for the full-sized."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jconv import models
from jconv.models import Network

__all__ = ["NUMBERS", "TINY", "Numbers", "Tiny", "by_colour", "by_label"]


def by_label(y: jax.Array) -> jax.Array:
    """Cross-entropy of the classes along the last axis: example i is of class i, at every position that y has."""
    labels = jnp.arange(len(y)).reshape(-1, *(1,) * (y.ndim - 2))
    return optax.softmax_cross_entropy_with_integer_labels(y, jnp.broadcast_to(labels, y.shape[:-1])).mean()


def by_colour(y: jax.Array) -> jax.Array:
    """Mean square distance from images of one colour each, of values between -1 and 1."""
    colours = jnp.cos(jnp.arange(y.shape[0] * y.shape[-1])).reshape(y.shape[0], 1, 1, y.shape[-1])
    return optax.squared_error(y, 0.8 * jnp.broadcast_to(colours, y.shape)).mean()


class Tiny(NamedTuple):
    """A network that is small enough to train in a test, what it takes, and what it should learn."""

    make: Callable[[], Network]
    shape: tuple[int, ...]
    """Of one example: (*spatial, C)."""
    out: tuple[int, ...] = (8,)
    """Of one example's value."""
    loss: Callable[[jax.Array], jax.Array] = by_label


class Numbers(NamedTuple):
    """What is published of a network with its own number of classes, most often 1,000."""

    parameters: int
    gmacs: float | None = None
    """Multiply-adds of convolutions and linear layers, in 1e9, rounded as published."""
    size: int | tuple[int, ...] = 224
    """Of a square colour image, or the shape of one example."""


TINY: dict[str, Tiny] = {
    "resnet": Tiny(lambda: models.resnet(18, width=8, zero_gamma=False, num_classes=8), (32, 32, 3)),
    "resnet, rs": Tiny(
        lambda: models.create("resnetrs50", depth=26, width=8, output_stride=8, zero_gamma=False, num_classes=8),
        (32, 32, 3),
    ),
    "densenet": Tiny(lambda: models.densenet(layers=(2, 2, 2), growth=8, num_classes=8), (32, 32, 3)),
    "convnext": Tiny(
        lambda: models.convnext(depths=(1, 1, 2, 1), width=8, layer_scale=1.0, num_classes=8), (32, 32, 3)
    ),
    "regnet": Tiny(
        lambda: models.regnet(depth=6, width=8, slope=8, ratio=1.9, stem_width=8, zero_gamma=False, num_classes=8),
        (32, 32, 3),
    ),
    "deeplab": Tiny(
        lambda: models.deeplab(18, width=8, rates=(1, 2), head_width=16, dropout=0.0, zero_gamma=False, num_classes=8),
        (32, 32, 3),
        (32, 32, 8),
    ),
    "textcnn": Tiny(lambda: models.textcnn(width=8, dropout=0.0, num_classes=8), (12, 16)),
    "tcn": Tiny(lambda: models.tcn(levels=3, kernel=3, channels=4, dropout=0.0, num_classes=8), (12, 4), (12, 8)),
    "dcgan": Tiny(lambda: models.dcgan(size=16, width=8), (16,), (16, 16, 3), by_colour),
    "dcgan, resized": Tiny(lambda: models.dcgan(size=16, width=8, up="resize"), (16,), (16, 16, 3), by_colour),
    "alexnet": Tiny(lambda: models.alexnet(width=1 / 16, dropout=0.0, num_classes=8), (64, 64, 3)),
    "alexnet, two towers": Tiny(
        lambda: models.alexnet(towers=2, width=1 / 16, dropout=0.0, num_classes=8), (64, 64, 3)
    ),
    "googlenet": Tiny(lambda: models.googlenet(width=1 / 8, dropout=0.0, num_classes=8), (32, 32, 3)),
    "highway": Tiny(lambda: models.highway(11, width=8, num_classes=8), (16, 16, 3)),
    "inception": Tiny(lambda: models.inception_v3(width=1 / 16, dropout=0.0, num_classes=8), (75, 75, 3)),
    "lenet": Tiny(lambda: models.lenet5(num_classes=8), (32, 32, 1)),
    "lesson": Tiny(lambda: models.lesson_cnn(num_classes=8), (28, 28, 1)),
    "lesson, simple": Tiny(lambda: models.simple_cnn(num_classes=8), (28, 28, 1)),
    "nin": Tiny(
        lambda: models.nin(form="cifar", width=1 / 8, dropout=0.0, act="leaky_relu", num_classes=8), (32, 32, 3)
    ),
    "squeezenet": Tiny(
        lambda: models.squeezenet(version="1.1", width=1 / 4, dropout=0.0, act="silu", num_classes=8), (32, 32, 3)
    ),
    "vgg": Tiny(lambda: models.vgg(11, bn=True, width=4, dropout=0.0, num_classes=8), (32, 32, 3)),
    "efficientnet": Tiny(
        lambda: models.efficientnet(width=1 / 4, depth=1 / 4, dropout=0.0, drop_path=0.0, num_classes=8), (32, 32, 3)
    ),
    "mobilenet v1": Tiny(lambda: models.mobilenet_v1(width=1 / 8, num_classes=8), (32, 32, 3)),
    "mobilenet v2": Tiny(
        lambda: models.mobilenet_v2(width=1 / 4, depth=1 / 4, dropout=0.0, num_classes=8), (32, 32, 3)
    ),
    "mobilenet v3": Tiny(
        lambda: models.mobilenet_v3(size="small", width=1 / 4, dropout=0.0, num_classes=8), (32, 32, 3)
    ),
    "shufflenet v1": Tiny(lambda: models.shufflenet_v1(groups=2, width=4 / 25, num_classes=8), (32, 32, 3)),
    "shufflenet v2": Tiny(lambda: models.shufflenet_v2(width=1 / 8, num_classes=8), (32, 32, 3)),
    "xception": Tiny(lambda: models.xception(width=1 / 32, dropout=0.0, num_classes=8), (32, 32, 3)),
    "flattened": Tiny(lambda: models.flattened_cnn(width=1 / 8, dropout=False, num_classes=8), (16, 16, 3)),
}
"""By family; last layer 8 classes, for the eight examples of the laws."""

NUMBERS: dict[str, Numbers] = {
    "resnet18": Numbers(11_689_512, 1.814),
    "resnet50": Numbers(25_557_032, 4.089),
    "densenet121": Numbers(7_978_856, 2.834),
    "densenet161": Numbers(28_681_000, 7.728),
    "densenet169": Numbers(14_149_480, 3.36),
    "densenet201": Numbers(20_013_928, 4.291),
    "convnext_tiny": Numbers(28_589_128, 4.456),
    "convnext_small": Numbers(50_223_688, 8.684),
    "convnext_base": Numbers(88_591_464, 15.355),
    "convnext_large": Numbers(197_767_336, 34.361),
    "regnetx_004_tv": Numbers(5_495_976, 0.414),
    "regnetx_008": Numbers(7_259_656, 0.8),
    "regnetx_016": Numbers(9_190_136, 1.603),
    "regnetx_032": Numbers(15_296_552, 3.177),
    "regnetx_080": Numbers(39_572_648, 7.995),
    "regnetx_160": Numbers(54_278_536, 15.941),
    "regnetx_320": Numbers(107_811_560, 31.736),
    "regnety_004": Numbers(4_344_144, 0.402),
    "regnety_008_tv": Numbers(6_432_512, 0.834),
    "regnety_016": Numbers(11_202_430, 1.612),
    "regnety_032": Numbers(19_436_338, 3.176),
    "regnety_080_tv": Numbers(39_381_472, 8.473),
    "regnety_160": Numbers(83_590_140, 15.912),
    "regnety_320": Numbers(145_046_770, 32.28),
    # counted with timm's definitions
    "convnext_atto": Numbers(3_695_520, 0.547),
    "convnext_femto": Numbers(5_217_784, 0.78),
    "convnext_pico": Numbers(9_045_672, 1.367),
    "convnext_nano": Numbers(15_593_560, 2.446),
    "regnetx_002": Numbers(2_684_792, 0.199),
    "regnetx_004": Numbers(5_157_512, 0.398),
    "regnetx_006": Numbers(6_196_040, 0.601),
    "regnetx_040": Numbers(22_118_248, 3.964),
    "regnetx_064": Numbers(26_209_256, 6.46),
    "regnetx_120": Numbers(46_106_056, 12.087),
    "regnety_002": Numbers(3_162_996, 0.2),
    "regnety_006": Numbers(6_055_160, 0.601),
    "regnety_008": Numbers(6_263_168, 0.797),
    "regnety_040": Numbers(20_646_656, 3.973),
    "regnety_064": Numbers(30_583_252, 6.355),
    "regnety_080": Numbers(39_180_068, 7.963),
    "regnety_120": Numbers(51_822_544, 12.092),
    "resnetrs50": Numbers(35_691_912, 4.454),
    "resnetrs101": Numbers(63_618_696, 8.176),
    "resnetrs152": Numbers(86_621_576, 11.895),
    "resnetrs200": Numbers(93_209_992, 15.391),
    "deeplabv3_resnet50": Numbers(42_004_074, None, 520),  # for multiply-adds see test_segmentation.py
    "deeplabv3_resnet101": Numbers(60_996_202, None, 520),
    "dcgan": Numbers(3_576_704, 0.105, (100,)),  # counted with the definition in PyTorch's examples
    "textcnn": Numbers(360_902, 0.013, (40, 300)),  # by hand: 100 * (12 * 300 + 3) + 2 * 301
    "tcn": Numbers(66_510, 0.052, (784, 1)),  # by hand, without weight normalisation
    "alexnet": Numbers(61_100_840, 0.714),
    "alexnet_2012": Numbers(60_965_224, 0.724),  # the paper's sizes; "60 million"
    "vgg11": Numbers(132_863_336, 7.609),
    "vgg11_bn": Numbers(132_868_840, 7.609),
    "vgg13": Numbers(133_047_848, 11.308),
    "vgg13_bn": Numbers(133_053_736, 11.308),
    "vgg16": Numbers(138_357_544, 15.47),
    "vgg16_bn": Numbers(138_365_992, 15.47),
    "vgg19": Numbers(143_667_240, 19.632),
    "vgg19_bn": Numbers(143_678_248, 19.632),
    "squeezenet1_0": Numbers(1_248_424, 0.819),
    "squeezenet1_1": Numbers(1_235_496, 0.349),
    "googlenet": Numbers(6_624_904, 1.498),
    "inception_v3": Numbers(23_834_568, 5.713, 299),  # timm's parameters: torchvision counts the auxiliary head
    "nin_imagenet": Numbers(7_595_176, 1.1),  # the authors' Caffe definition
    "nin_cifar": Numbers(966_986, 0.222, 32),  # likewise, 10 classes
    "efficientnet_b0": Numbers(5_288_548, 0.386),
    "efficientnet_b1": Numbers(7_794_184, 0.687, 240),
    "efficientnet_b2": Numbers(9_109_994, 1.088, 288),
    "efficientnet_b3": Numbers(12_233_232, 1.827, 300),
    "tf_efficientnet_b0": Numbers(5_288_548, 0.386),  # timm's definition, as all whose names begin with tf_
    "tf_efficientnet_b1": Numbers(7_794_184, 0.687, 240),
    "tf_efficientnet_b2": Numbers(9_109_994, 1.088, 288),
    "tf_efficientnet_b3": Numbers(12_233_232, 1.827, 300),
    "efficientnet_lite0": Numbers(4_652_008, 0.385),  # timm's definition
    "efficientnet_lite1": Numbers(5_416_680, 0.6002, 240),  # likewise
    "efficientnet_lite2": Numbers(6_092_072, 0.8597, 260),  # likewise
    "tf_efficientnet_lite0": Numbers(4_652_008, 0.385),
    "tf_efficientnet_lite1": Numbers(5_416_680, 0.6002, 240),
    "tf_efficientnet_lite2": Numbers(6_092_072, 0.8597, 260),
    "mobilenetv1_100": Numbers(4_231_976, 0.569),  # timm's definition; the paper's table 8: 4.2 and 569 million
    "mobilenetv1_125": Numbers(6_270_840, 0.8795),  # timm's definition
    "mobilenetv2_035": Numbers(1_677_128, 0.0593),  # likewise
    "mobilenetv2_050": Numbers(1_968_680, 0.0971),  # likewise
    "mobilenetv2_075": Numbers(2_636_424, 0.2091),  # likewise
    "mobilenetv2_100": Numbers(3_504_872, 0.301),
    "mobilenetv2_140": Numbers(6_108_776, 0.5822),  # timm's definition
    "mobilenetv2_110d": Numbers(4_516_520, 0.4305),  # likewise
    "mobilenetv2_120d": Numbers(5_831_144, 0.6689),  # likewise
    "mobilenet_v2": Numbers(3_504_872, 0.301),
    "mobilenetv3_large_075": Numbers(3_993_528, 0.1546),  # timm's definition
    "mobilenetv3_large_100": Numbers(5_483_032, 0.217),
    "mobilenetv3_small_050": Numbers(1_593_224, 0.0242),  # timm's definition
    "mobilenetv3_small_075": Numbers(2_041_872, 0.0434),  # likewise
    "mobilenetv3_small_100": Numbers(2_542_856, 0.057),
    "tf_mobilenetv3_large_075": Numbers(3_993_528, 0.1546),
    "tf_mobilenetv3_large_100": Numbers(5_483_032, 0.217),
    "tf_mobilenetv3_small_075": Numbers(2_041_872, 0.0434),
    "tf_mobilenetv3_small_100": Numbers(2_542_856, 0.057),
    "mobilenet_v3_large": Numbers(5_483_032, 0.217),
    "mobilenet_v3_small": Numbers(2_542_856, 0.057),
    "shufflenet_v1_g1": Numbers(1_531_936, 0.1431),  # g1 to g8: the paper's table 1 is without the classifier, and
    "shufflenet_v1_g2": Numbers(1_733_848, 0.1408),  # tests/models/test_shufflenet.py has it
    "shufflenet_v1_g3": Numbers(1_865_728, 0.1375),  # its authors' code: 1.9 million
    "shufflenet_v1_g4": Numbers(1_968_344, 0.1343),
    "shufflenet_v1_g8": Numbers(2_434_768, 0.1384),  # likewise: 2.4 million
    "shufflenet_v2_x0_5": Numbers(1_366_792, 0.04),
    "shufflenet_v2_x1_0": Numbers(2_278_604, 0.145),
    "shufflenet_v2_x1_5": Numbers(3_503_624, 0.296),
    "shufflenet_v2_x2_0": Numbers(7_393_996, 0.583),
    "legacy_xception": Numbers(22_855_952, 8.357, 299),  # timm's definition
    "xception": Numbers(22_855_952, 8.357, 299),
}
"""torchvision's metadata (`weights.meta["num_params"]` and `["_ops"]`), timm's tables, or the paper."""
