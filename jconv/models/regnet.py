"""RegNet: a design space rather than a network. Widths on a quantised line, one block, groups of one width; X and Y."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from jconv.layers import (
    Activation,
    BatchNorm,
    Conv,
    Dropout,
    DropPath,
    GlobalAvgPool,
    Identity,
    Layer,
    Linear,
    Residual,
    Sequential,
    SqueezeExcite,
)
from jconv.layers.initializers import ones, zeros
from jconv.models.blocks import atrous
from jconv.models.network import Network, known, sized

__all__ = ["VARIANTS", "from_torchvision", "regnet", "widths"]

POINTS: dict[str, tuple[int, int, float, float, int]] = {  # depth, width, slope, ratio, group_width
    "x_002": (13, 24, 36.44, 2.49, 8), "x_004": (22, 24, 24.48, 2.54, 16), "x_006": (16, 48, 36.97, 2.24, 24),
    "x_008": (16, 56, 35.73, 2.28, 16), "x_016": (18, 80, 34.01, 2.25, 24), "x_032": (25, 88, 26.31, 2.25, 48),
    "x_040": (23, 96, 38.65, 2.43, 40), "x_064": (17, 184, 60.83, 2.07, 56), "x_080": (23, 80, 49.56, 2.88, 120),
    "x_120": (19, 168, 73.36, 2.37, 112), "x_160": (22, 216, 55.59, 2.1, 128), "x_320": (23, 320, 69.86, 2.0, 168),
    "y_002": (13, 24, 36.44, 2.49, 8), "y_004": (16, 48, 27.89, 2.09, 8), "y_006": (15, 48, 32.54, 2.32, 16),
    "y_008": (14, 56, 38.84, 2.4, 16), "y_016": (27, 48, 20.71, 2.65, 24), "y_032": (21, 80, 42.63, 2.66, 24),
    "y_040": (22, 96, 31.41, 2.24, 64), "y_064": (25, 112, 33.22, 2.27, 72), "y_080": (17, 192, 76.82, 2.19, 56),
    "y_120": (19, 168, 73.36, 2.37, 112), "y_160": (18, 200, 106.23, 2.48, 112), "y_320": (20, 232, 115.89, 2.53, 232),
}  # fmt: skip
"""The paper's models, tables 2 and 3: their points in the design space."""

FITS = ("pycls", "torchvision")


def regnet(
    *,
    depth: int = 16,
    width: int = 48,
    slope: float = 27.89,
    ratio: float = 2.09,
    group_width: int = 8,
    se: float = 0.25,
    stem_width: int = 32,
    fit: str = "pycls",
    num_classes: int = 1000,
    output_stride: int | None = None,
    dropout: float = 0.0,
    drop_path: float = 0.0,
    zero_gamma: bool = True,
    act: str | Callable[[jax.Array], jax.Array] = "relu",
) -> Network:
    """A RegNet: a 3×3/2 stem, four stages of residual blocks 1×1, grouped 3×3, 1×1 of one width, a mean, a classifier.

    The width of block j is `width + slope j`, moved to the nearest `width ratio^k` for a whole k, to a multiple of 8,
    and to one of group_width. Blocks of equal width are a stage, whose first block strides by 2.

    Args:
        depth: blocks in all.
        width, slope, ratio: w_0, w_a and w_m of the paper.
        group_width: features of each group of the 3×3 convolution; a stage that is narrower has one group.
        se: hidden features of squeeze-and-excitation, of a block's input; 0.25 is RegNetY, 0 RegNetX.
        stem_width: features of the stem.
        fit: how a width becomes a multiple of group_width. "pycls": the nearest, of two the even one. "torchvision":
            the nearest, of two the wider one, and the next wider one if that is less than 0.9 of the width. It matters
            to x_004, y_008 and y_080 among those that torchvision publishes, whose names end in `_tv` there as in timm.
        num_classes: features of the classifier `head.fc`; 0 ends the network with the pooled features.
        output_stride: 8 or 16 for 32, or any other that the network passes: from there on stages dilate instead of
            striding; see `jconv.models.blocks.atrous`.
        dropout: before the classifier.
        drop_path: the last block's probability of leaving out its branch in training; it grows linearly from 0.
        zero_gamma: start the last BatchNorm of every branch at scale 0.
        act: the activation.

    Returns:
        A Network with paths as in timm, (N, H, W, C) -> (N, num_classes), and features "stem", "s1", ...

    Raises:
        ValueError: an unknown fit; a line that does not rise; a size that is not above 0; an output stride that the
            network does not pass.

    Example:
        >>> net = regnet()
        >>> params, _ = jax.eval_shape(net.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 64, 64, 3), "float32"))
        >>> sum(p.size for p in jax.tree.leaves(params))
        4344144

    References:
        Radosavovic et al. 2020, "Designing Network Design Spaces", arXiv:2003.13678, section 3.3, tables 2 and 3.
    """
    sized(int, num_classes=num_classes, depth=depth, width=width, group_width=group_width, se=se, stem_width=stem_width)
    sized(ratio=ratio)
    plan = widths(depth=depth, width=width, slope=slope, ratio=ratio, group_width=group_width, fit=fit)
    rates = iter(np.linspace(0, drop_path, depth).tolist())

    def conv(features: int, kernel: int, *, last: bool = False, **window: Any) -> Sequential:
        bn = BatchNorm(scale_init=zeros if last and zero_gamma else ones)
        acts = {} if last else {"act": Activation(act)}
        return Sequential(conv=Conv(features, kernel, bias=False, **window), bn=bn, **acts)

    def block(channels: int, features: int, stride: int, dilation: int) -> Layer:
        hidden, rate = round(channels * se), next(rates)
        groups = features // min(group_width, features)
        excite = SqueezeExcite(Conv(hidden, 1), Conv(features, 1), Activation(act))
        branch = Sequential(
            conv1=conv(features, 1),
            conv2=conv(features, 3, stride=stride, dilation=dilation, groups=groups),
            **({"se": excite} if se else {}),
            conv3=conv(features, 1, last=True),
            **({"drop_path": DropPath(rate)} if rate else {}),
        )
        project = Sequential(conv=Conv(features, 1, stride=stride, bias=False), bn=BatchNorm())
        same = stride == 1 and channels == features
        return Residual(branch, Identity() if same else project, Activation(act))

    def stages(channels: int) -> Iterator[tuple[str, Layer]]:
        steps = atrous((2, *(2 for _ in plan)), output_stride)
        for i, ((features, count), step) in enumerate(zip(plan, steps, strict=True), 1):
            blocks = []
            for stride, dilation, _ in step.blocks(count):
                blocks.append(block(channels, features, stride, dilation))
                channels = features
            yield f"s{i}", Sequential(**{f"b{j}": layer for j, layer in enumerate(blocks, 1)})

    drop = {"drop": Dropout(dropout)} if dropout else {}
    classifier = {"fc": Linear(num_classes)} if num_classes else {}
    head = Sequential(global_pool=GlobalAvgPool(), **drop, **classifier)
    body = {"stem": conv(stem_width, 3, stride=2), **dict(stages(stem_width))}
    return Network(stages={name: name for name in body}, renames=(from_torchvision,), **body, head=head)


def widths(
    *, depth: int, width: int, slope: float, ratio: float, group_width: int, fit: str = "pycls"
) -> list[tuple[int, int]]:
    """(features, blocks) of each stage of a RegNet; arguments as there.

    >>> widths(depth=13, width=24, slope=36.44, ratio=2.49, group_width=8)
    [(24, 1), (56, 1), (152, 4), (368, 7)]
    """
    known("fit", fit, FITS)
    if slope < 0 or width <= 0 or ratio <= 1:
        raise ValueError(
            f"regnet: expected width > 0, slope >= 0 and ratio > 1, got width={width}, slope={slope}, ratio={ratio}"
        )
    line = (width + slope * j for j in range(depth))
    powers = (round(math.log(w / width) / math.log(ratio)) for w in line)
    counts = Counter(round(width * ratio**power / 8) * 8 for power in powers)

    if 0 in counts:
        raise ValueError(f"width: expected above 4, because stages have multiples of 8 features, got {width}")

    def fitted(features: int) -> int:
        group = min(group_width, features)
        if fit == "pycls":
            return round(features / group) * group
        nearest = math.floor(features / group + 0.5) * group
        return nearest if nearest >= 0.9 * features else nearest + group

    return [(fitted(features), count) for features, count in counts.items()]


def from_torchvision(name: str) -> str:
    """`trunk_output.block1.block1-0.f.a.0` is `s1.b1.conv1.conv`: torchvision kept pycls' names, timm did not."""
    name = re.sub(r"^trunk_output\.block(\d)\.block\d-(\d+)", lambda m: f"s{m[1]}.b{int(m[2]) + 1}", name)
    name = re.sub(r"\.f\.([abc])\.", lambda m: f".conv{'abc'.index(m[1]) + 1}.", name)
    name = name.replace(".f.se.", ".se.").replace(".proj.", ".downsample.")
    name = re.sub(r"(stem|conv\d|downsample)\.([01])\.", lambda m: f"{m[1]}.{('conv', 'bn')[int(m[2])]}.", name)
    return re.sub(r"^fc\.", "head.fc.", name)


def _variants() -> Iterator[tuple[str, dict]]:
    for point, numbers in POINTS.items():
        options: dict[str, Any] = dict(zip(("depth", "width", "slope", "ratio", "group_width"), numbers, strict=True))
        options["se"] = 0.25 if point[0] == "y" else 0.0
        yield f"regnet{point}", options
        if point in ("x_004", "y_008", "y_080"):
            yield f"regnet{point}_tv", {**options, "fit": "torchvision"}


VARIANTS: dict[str, dict] = dict(_variants())
