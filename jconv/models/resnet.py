"""Residual networks: ResNet with its stems and tweaks, ResNeXt, wide, squeeze-and-excitation, anti-aliased, CIFAR's.

A family in one function: `resnet` composes layers, and the tables below hold everything that a variant is.
"""

from collections.abc import Callable, Iterator

import jax
import numpy as np

from jconv.layers import (
    Activation,
    BatchNorm,
    BlurPool,
    Conv,
    Dropout,
    DropPath,
    GlobalAvgPool,
    Layer,
    Linear,
    Residual,
    Sequential,
)
from jconv.layers.initializers import ones, zeros
from jconv.models.blocks import SHORTCUTS, Step, atrous, shortcut_layers, squeeze_excite
from jconv.models.network import Network, known, sized
from jconv.models.stems import stem_layers

__all__ = ["DEPTHS", "VARIANTS", "resnet"]

DEPTHS: dict[int, tuple[str, tuple[int, ...]]] = {  # block, blocks in each stage
    18: ("basic", (2, 2, 2, 2)),
    26: ("bottleneck", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
    200: ("bottleneck", (3, 24, 36, 3)),
    **{6 * n + 2: ("basic", (n, n, n)) for n in (3, 5, 7, 9, 18)},  # CIFAR's 20, 32, 44, 56, 110
}


def resnet(
    depth: int = 50,
    *,
    stem: str | Layer = "a",
    num_classes: int = 1000,
    shortcut: str = "conv",
    stride_at: str = "conv2",
    width: int = 64,
    groups: int = 1,
    group_width: int = 64,
    se: float = 0.0,
    blur: int = 0,
    stem_pool: str | None = None,
    output_stride: int | None = None,
    dropout: float = 0.0,
    drop_path: float = 0.0,
    zero_gamma: bool = True,
    act: str | Callable[[jax.Array], jax.Array] = "relu",
    lowering: str = "auto",
) -> Network:
    """A residual network: a stem, stages of residual blocks `act(branch(x) + shortcut(x))`, a mean, a classifier.

    | stem | convolutions, then 3×3/2 max-pool | source |
    |---|---|---|
    | "a" | 7×7/2, 64 | He et al. 2015 |
    | "c" | 3×3/2, 32 · 3×3, 32 · 3×3, 64 | Bag of Tricks, tweak C; timm's c and d |
    | "s" | 3×3/2, 64 · 3×3, 64 · 3×3, 128 | timm's s and e |
    | "t" | 3×3/2, 24 · 3×3, 32 · 3×3, 64 | timm's t |
    | "5x5" | 5×5/2, 32 | fast.ai's course |
    | "2x2" | as "c", each 3×3 a pair of 2×2 that sees the same 3×3 | the forum's question |
    | "patch" | 4×4/4, 64; no pool | ConvNeXt's stem |
    | "cifar" | 3×3, 64; no pool | He et al. 2015, section 4.2 |

    Args:
        depth: 18 and 34 (basic blocks), 26, 50, 101, 152, 200 (bottlenecks); 20, 32, 44, 56, 110: CIFAR's three stages.
        stem: one of the table, or a Layer to stand at `conv1`.
        num_classes: features of the classifier `fc`; 0 ends the network with the pooled features.
        shortcut: where a block changes shape, "conv" is a strided 1×1 convolution, "avgpool" a 2×2 average-pool before
            a 1×1 convolution of stride 1 (tweak D), "pad" sub-samples and pads channels with zeros (option A).
        stride_at: the convolution of a bottleneck that strides: "conv2", the 3×3 (tweak B, "v1.5"), or "conv1".
        width: features of the first stage's 3×3 convolutions; stems scale with it.
        groups, group_width: groups of a bottleneck's 3×3 convolution, and its features per group at `width` 64; so
            32 and 4 are ResNeXt 32×4d, 1 and 128 a network twice as wide inside.
        se: squeeze-and-excitation with this ratio of hidden to outer features, as 1 / 16; 0 is none.
        blur: anti-aliasing with a binomial filter of this many taps wherever the network strides but at the stem's
            convolution and the shortcuts; 0 is none.
        stem_pool: "max", "conv" (a 3×3/2 convolution, as ResNet-RS) or "none"; None is what the stem's row says.
        output_stride: 16 or 8 where the stem's stride is 4, and its own 32 by default: the last one or two stages do
            not stride but dilate; see `jconv.models.blocks.atrous`.
        dropout: before the classifier; ResNet-RS has 0.25.
        drop_path: the last block's probability of leaving out its branch in training; it grows linearly from 0.
        zero_gamma: start the last BatchNorm of every branch at scale 0, so that a block starts as its shortcut.
        act: the activation.
        lowering: how convolutions are computed; see `jconv.conv`.

    Returns:
        A Network with paths as in timm, (N, H, W, C) -> (N, num_classes), and features "stem", "layer1", ...

    Raises:
        ValueError: an unknown depth, stem or option, with the nearest that is known; a size that is not above 0; an
            output stride that the network does not pass, as all but 1, 2 and 4 of CIFAR's.

    Example:
        >>> net = resnet(18, stem="c", num_classes=10)
        >>> params, _ = jax.eval_shape(net.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 224, 224, 3), "float32"))
        >>> sum(p.size for p in jax.tree.leaves(params))
        11200874

    References:
        He et al. 2015, arXiv:1512.03385. He et al. 2018, "Bag of Tricks", arXiv:1812.01187, section 4. Xie et al. 2016,
        arXiv:1611.05431. Zagoruyko & Komodakis 2016, arXiv:1605.07146. Hu et al. 2017, arXiv:1709.01507. Zhang 2019,
        arXiv:1904.11486. Huang et al. 2016, arXiv:1603.09382. Bello et al. 2021, "ResNet-RS", arXiv:2103.07579.
    """
    sized(int, num_classes=num_classes, width=width, groups=groups, group_width=group_width, se=se, blur=blur)
    kind, counts = DEPTHS[known("depth", depth, DEPTHS)]
    known("shortcut", shortcut, SHORTCUTS)
    known("stride_at", stride_at, ("conv1", "conv2"))
    if kind == "basic" and (groups, group_width, stride_at) != (1, 64, "conv2"):
        raise ValueError(f"groups, group_width and stride_at are for bottlenecks; depth {depth} has basic blocks")

    rates = iter(np.linspace(0, drop_path, sum(counts)).tolist())

    def block(channels: int, features: int, step: Step) -> Layer:
        stride, before, dilation = step
        out = features * (4 if kind == "bottleneck" else 1)
        inner = features * group_width // 64 * groups if kind == "bottleneck" else features
        strides = {"conv1": (stride, 1), "conv2": (1, stride)}[stride_at]

        def bn(last: bool = False) -> BatchNorm:
            return BatchNorm(scale_init=zeros if last and zero_gamma else ones)

        def blurred(name: str, stride: int) -> dict[str, Layer]:
            return {name: BlurPool(blur, stride=stride)} if blur and stride > 1 else {}

        def conv(features: int, kernel: int, stride: int = 1, groups: int = 1, dilation: int = 1) -> Conv:
            return Conv(features, kernel, stride=1 if blur else stride, groups=groups, dilation=dilation, bias=False)

        rate = next(rates)
        tail = {"se": squeeze_excite(out, se)} if se else {}
        tail |= {"drop_path": DropPath(rate)} if rate else {}
        if kind == "basic":
            branch = Sequential(
                conv1=conv(features, 3, stride, 1, before), bn1=bn(), act1=Activation(act), **blurred("aa", stride),
                conv2=conv(features, 3, 1, 1, dilation), bn2=bn(last=True), **tail,
            )  # fmt: skip
        else:
            branch = Sequential(
                conv1=conv(inner, 1, strides[0]), bn1=bn(), act1=Activation(act), **blurred("aa", strides[0]),
                conv2=conv(inner, 3, strides[1], groups, before), bn2=bn(), act2=Activation(act),
                **blurred("aa", strides[1]),
                conv3=conv(out, 1), bn3=bn(last=True), **tail,
            )  # fmt: skip
        return Residual(branch, shortcut_layers(shortcut, channels, out, stride, dilation), Activation(act))

    def stages(channels: int) -> Iterator[tuple[str, Layer]]:
        for i, (count, step) in enumerate(zip(counts, steps, strict=True)):
            blocks = []
            for each in step.blocks(count):
                blocks.append(block(channels, width << i, each))
                channels = (width << i) * (4 if kind == "bottleneck" else 1)
            yield f"layer{i + 1}", Sequential(*blocks)

    first, channels, stem_stride = stem_layers(stem, width=width, pool=stem_pool, blur=blur, act=act)
    steps = atrous((stem_stride, *(2 if i else 1 for i in range(len(counts)))), output_stride)
    layers = first | dict(stages(channels)) | {"global_pool": GlobalAvgPool()}
    if num_classes:
        layers |= {"drop": Dropout(dropout)} if dropout else {}
        layers["fc"] = Linear(num_classes)
    net = Network(layers, stages={"stem": "act1"} | {name: name for name in layers if name.startswith("layer")})
    return net if lowering == "auto" else net.update(Conv, lowering=lowering)


def _variants() -> Iterator[tuple[str, dict]]:
    stems = {"": "a", "c": "c", "d": "c", "s": "s", "e": "s", "t": "t"}  # by timm's letters
    for depth in (18, 26, 34, 50, 101, 152, 200):
        for letter, stem in stems.items():
            shortcut = "avgpool" if letter in ("d", "e", "t") else "conv"
            yield f"resnet{depth}{letter}", {"depth": depth, "stem": stem, "shortcut": shortcut}
    cifar = {"stem": "cifar", "width": 16, "shortcut": "pad", "num_classes": 10}
    for depth in (20, 32, 44, 56, 110):
        yield f"cifar_resnet{depth}", {"depth": depth, **cifar}
    for depth in (50, 101, 152):
        yield f"seresnet{depth}", {"depth": depth, "se": 1 / 16}
    rs = {"stem": "c", "stem_pool": "conv", "shortcut": "avgpool", "se": 1 / 4}
    for depth in (50, 101, 152, 200):
        yield f"resnetrs{depth}", {"depth": depth, **rs}
    for depth in (50, 101):
        yield f"wide_resnet{depth}_2", {"depth": depth, "group_width": 128}
    for depth, groups, group_width in ((50, 32, 4), (101, 32, 4), (101, 32, 8), (101, 64, 4)):
        name = f"resnext{depth}_{groups}x{group_width}d"
        yield name, {"depth": depth, "groups": groups, "group_width": group_width}
    yield from {"resnetblur50": {"depth": 50, "blur": 3}, "resnet50_v1": {"depth": 50, "stride_at": "conv1"}}.items()


VARIANTS: dict[str, dict] = dict(_variants())
