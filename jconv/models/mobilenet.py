"""MobileNet v1, of depthwise separable convolutions, and v2, of inverted residuals with linear bottlenecks."""

import re

from jconv.layers import Activation, Conv, GlobalAvgPool, Layer, depthwise_separable
from jconv.models.mobile import (
    BATCH_NORM,
    Act,
    Row,
    Style,
    Table,
    divisible,
    inverted_residual,
    mobile_network,
    scaled,
)
from jconv.models.network import Network, sized
from jconv.models.renames import place, renamed
from jconv.ops.window import Padding

__all__ = ["V1", "V2", "from_torchvision", "mobilenet_v1", "mobilenet_v2"]

TABLE_V1: Table = (
    (Row(1, 3, 1, 1, 64),),
    (Row(2, 3, 2, 1, 128),),
    (Row(2, 3, 2, 1, 256),),
    (Row(6, 3, 2, 1, 512),),
    (Row(2, 3, 2, 1, 1024),),
)
TABLE_V2: Table = (
    (Row(1, 3, 1, 1, 16),),
    (Row(2, 3, 2, 6, 24),),
    (Row(3, 3, 2, 6, 32),),
    (Row(4, 3, 2, 6, 64),),
    (Row(3, 3, 1, 6, 96),),
    (Row(3, 3, 2, 6, 160),),
    (Row(1, 3, 1, 6, 320),),
)


def mobilenet_v1(
    *,
    width: float = 1.0,
    num_classes: int = 1000,
    output_stride: int | None = None,
    dropout: float = 0.0,
    act: Act = "relu6",
    norm: Layer = BATCH_NORM,
    padding: Padding = None,
) -> Network:
    """MobileNet v1: a 3×3/2 stem, thirteen depthwise separable convolutions, a mean, a classifier.

    Args:
        width: multiplies the features, which are rounded to multiples of 8.
        num_classes: features of the `classifier`; 0 ends the network with the pooled features.
        output_stride: 8 or 16 for 32, or any other that the network passes: from there on stages dilate instead of
            striding; see `jconv.models.blocks.atrous`.
        dropout: before the classifier.
        act: the activation; "relu" in the paper, "relu6" in its authors' code and timm.
        norm: what follows each convolution.
        padding: of the convolutions; None is torch's symmetric one.

    Returns:
        A Network with timm's paths, (N, H, W, C) -> (N, num_classes), and features "blocks.0" to "blocks.4".

    Raises:
        ValueError: a size that is not above 0; an output stride that the network does not pass.

    Example:
        >>> import jax
        >>> net = mobilenet_v1()
        >>> params, _ = jax.eval_shape(net.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 224, 224, 3), "float32"))
        >>> sum(p.size for p in jax.tree.leaves(params))
        4231976

    References:
        Howard et al. 2017, "MobileNets", arXiv:1704.04861, table 1.
    """
    sized(num_classes=num_classes, width=width)
    style = Style(act, norm, padding)

    def block(channels: int, row: Row, rate: float) -> Layer:
        del rate  # there are no branches
        window = {"stride": row.stride, "dilation": row.dilation, "padding": padding}
        return depthwise_separable(
            row.features, row.kernel, channels=channels, norm=norm, act=Activation(act), **window
        )

    return mobile_network(
        scaled(TABLE_V1, width=width),
        block,
        style,
        stem=divisible(32 * width),
        head={"global_pool": GlobalAvgPool()},
        num_classes=num_classes,
        output_stride=output_stride,
        dropout=dropout,
    )


def mobilenet_v2(
    *,
    width: float = 1.0,
    depth: float = 1.0,
    fixed: bool = False,
    num_classes: int = 1000,
    output_stride: int | None = None,
    dropout: float = 0.2,
    drop_path: float = 0.0,
    act: Act = "relu6",
    norm: Layer = BATCH_NORM,
    padding: Padding = None,
) -> Network:
    """MobileNet v2: a 3×3/2 stem, seven stages of inverted residual blocks, a 1×1 head, a mean, a classifier.

    Args:
        width: multiplies the features, which are rounded to multiples of 8; the head never has fewer than 1280.
        depth: multiplies the blocks of each stage, rounded up.
        fixed: the stem, the head, and the depth of the first and last stage stay as they are.
        num_classes, output_stride, dropout, act, norm, padding: as in `mobilenet_v1`.
        drop_path: the probability of leaving out a block's branch in training, which grows from 0 towards this.

    Returns:
        A Network with timm's paths, (N, H, W, C) -> (N, num_classes), and features "blocks.0", "blocks.1", "blocks.2",
        "blocks.4", "blocks.6".

    Raises:
        ValueError: as `mobilenet_v1`.

    Example:
        >>> import jax
        >>> net = mobilenet_v2()
        >>> params, _ = jax.eval_shape(net.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 224, 224, 3), "float32"))
        >>> sum(p.size for p in jax.tree.leaves(params))
        3504872

    References:
        Sandler et al. 2018, "MobileNetV2", arXiv:1801.04381, table 2.
    """
    sized(num_classes=num_classes, width=width, depth=depth)
    style = Style(act, norm, padding)

    def block(channels: int, row: Row, rate: float) -> Layer:
        return inverted_residual(channels, row, style, drop_path=rate)

    conv_head = Conv(1280 if fixed else max(1280, divisible(1280 * width)), 1, bias=False)
    return mobile_network(
        scaled(TABLE_V2, width=width, depth=depth, fixed=fixed),
        block,
        style,
        stem=32 if fixed else divisible(32 * width),
        head={"conv_head": conv_head, "bn2": norm, "act2": Activation(act), "global_pool": GlobalAvgPool()},
        num_classes=num_classes,
        output_stride=output_stride,
        dropout=dropout,
        drop_path=drop_path,
        renames=(from_torchvision,),
    )


def from_torchvision(name: str) -> str:
    """`features.2.conv.0.1` is `blocks.1.0.bn1`: torchvision numbers all blocks of v2 through, and a block's layers."""
    found = re.match(r"features\.(\d+)\.conv\.(.*)", name)
    if not found:
        ends = {r"features\.0\.0": "conv_stem", r"features\.0\.1": "bn1", r"classifier\.1": "classifier"}
        return renamed(name, ends | {r"features\.18\.0": "conv_head", r"features\.18\.1": "bn2"})
    path = place(int(found[1]) - 1, [rows[0].blocks for rows in TABLE_V2])
    plain = {r"0\.0": "conv_dw", r"0\.1": "bn1", "1": "conv_pw", "2": "bn2"}
    wide = {r"0\.0": "conv_pw", r"0\.1": "bn1", r"1\.0": "conv_dw", r"1\.1": "bn2", "2": "conv_pwl", "3": "bn3"}
    return f"blocks.{path}.{renamed(found[2], plain if path == '0.0' else wide)}"


V1: dict[str, dict] = {"mobilenetv1_100": {}, "mobilenetv1_125": {"width": 1.25}}
V2: dict[str, dict] = {
    **{f"mobilenetv2_{round(100 * width):03}": {"width": width} for width in (0.35, 0.5, 0.75, 1.0, 1.4)},
    "mobilenetv2_110d": {"width": 1.1, "depth": 1.2, "fixed": True},
    "mobilenetv2_120d": {"width": 1.2, "depth": 1.4, "fixed": True},
    "mobilenet_v2": {},  # torchvision's name
}
