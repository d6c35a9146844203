"""EfficientNet: one network found by search, B0, and wider, deeper ones at larger images; Lite for small devices."""

import functools
import math
import re
from collections.abc import Callable, Iterator

from jconv.layers import Activation, Conv, GlobalAvgPool, Layer
from jconv.models.mobile import (
    BATCH_NORM,
    GOOGLE,
    Act,
    Excite,
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

__all__ = ["TABLE", "VARIANTS", "efficientnet", "from_efficientnet_pytorch", "from_torchvision"]

TABLE: Table = (
    (Row(1, 3, 1, 1, 16),),
    (Row(2, 3, 2, 6, 24),),
    (Row(2, 5, 2, 6, 40),),
    (Row(3, 3, 2, 6, 80),),
    (Row(3, 5, 1, 6, 112),),
    (Row(4, 5, 2, 6, 192),),
    (Row(1, 3, 1, 6, 320),),
)
"""B0: the paper's table 1."""


def efficientnet(
    *,
    width: float = 1.0,
    depth: float = 1.0,
    se: float = 0.25,
    fixed: bool = False,
    num_classes: int = 1000,
    output_stride: int | None = None,
    dropout: float = 0.2,
    drop_path: float = 0.2,
    act: Act = "silu",
    norm: Layer = BATCH_NORM,
    padding: Padding = None,
) -> Network:
    """An EfficientNet: a 3×3/2 stem, seven stages of inverted residual blocks that excite, a 1×1 head, a classifier.

    | | width | depth | image | dropout |
    |---|---|---|---|---|
    | B0, Lite0 | 1.0 | 1.0 | 224 | 0.2 |
    | B1, Lite1 | 1.0 | 1.1 | 240 | 0.2 |
    | B2, Lite2 | 1.1 | 1.2 | 260 | 0.3 |
    | B3 | 1.2 | 1.4 | 300 | 0.3 |

    Lite has ReLU6, no excitation, and B0's stem and head at every size. Names that begin with `tf_` are of Google's
    weights: padding "SAME", which has more at the end, and 1e-3 in the norms.

    Args:
        width: multiplies the features, which are rounded to multiples of 8.
        depth: multiplies the blocks of each stage, rounded up.
        se: features that squeeze-and-excitation squeezes to, of a block's input; 0 is none.
        fixed: the stem, the head, and the depth of the first and last stage are B0's at every size.
        num_classes: features of the `classifier`; 0 ends the network with the pooled features.
        output_stride: 8 or 16 for 32, or any other that the network passes: from there on stages dilate instead of
            striding; see `jconv.models.blocks.atrous`.
        dropout: before the classifier.
        drop_path: the probability of leaving out a block's branch in training, which grows from 0 towards this.
        act: the activation.
        norm: what follows each convolution.
        padding: of the convolutions; None is torch's symmetric one.

    Returns:
        A Network with timm's paths, (N, H, W, C) -> (N, num_classes), and features "blocks.0", "blocks.1", "blocks.2",
        "blocks.4", "blocks.6": strides 2 to 32.

    Raises:
        ValueError: a width or depth that is not above 0; an output stride that the network does not pass.

    Example:
        >>> import jax
        >>> net = efficientnet()
        >>> params, _ = jax.eval_shape(net.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 224, 224, 3), "float32"))
        >>> sum(p.size for p in jax.tree.leaves(params))
        5288548

    References:
        Tan & Le 2019, "EfficientNet", arXiv:1905.11946, section 4 and table 1.
    """
    sized(num_classes=num_classes, width=width, depth=depth, se=se)
    table, style = scaled(TABLE, width=width, depth=depth, fixed=fixed), Style(act, norm, padding)

    def excite(channels: int, hidden: int) -> Layer:
        return Excite(Conv(math.ceil(channels * se), 1), Conv(hidden, 1), Activation(act))

    def block(channels: int, row: Row, rate: float) -> Layer:
        return inverted_residual(channels, row, style, excite=excite if se else None, drop_path=rate)

    conv_head = Conv(1280 if fixed else divisible(1280 * width), 1, bias=False)
    counts = tuple(sum(row.blocks for row in rows) for rows in table)
    return mobile_network(
        table,
        block,
        style,
        stem=32 if fixed else divisible(32 * width),
        head={"conv_head": conv_head, "bn2": norm, "act2": Activation(act), "global_pool": GlobalAvgPool()},
        num_classes=num_classes,
        output_stride=output_stride,
        dropout=dropout,
        drop_path=drop_path,
        renames=(from_torchvision, from_efficientnet_pytorch(counts)),
    )


def from_torchvision(name: str) -> str:
    """`features.2.0.block.0.1` is `blocks.1.0.bn1`: torchvision numbers a block's layers, and stages from 1."""
    found = re.match(r"features\.([1-7])\.(\d+)\.block\.(.*)", name)
    if not found:
        ends = {r"features\.0\.0": "conv_stem", r"features\.0\.1": "bn1", r"classifier\.1": "classifier"}
        return renamed(name, ends | {r"features\.8\.0": "conv_head", r"features\.8\.1": "bn2"})
    stage = int(found[1]) - 1
    plain = {r"0\.0": "conv_dw", r"0\.1": "bn1", r"2\.0": "conv_pw", r"2\.1": "bn2"}
    wide = {r"0\.0": "conv_pw", r"0\.1": "bn1", r"1\.0": "conv_dw", r"1\.1": "bn2", r"3\.0": "conv_pwl", r"3\.1": "bn3"}
    rules = {r"\d\.fc1": "se.conv_reduce", r"\d\.fc2": "se.conv_expand", **(wide if stage else plain)}
    return f"blocks.{stage}.{found[2]}.{renamed(found[3], rules)}"


@functools.cache
def from_efficientnet_pytorch(counts: tuple[int, ...]) -> Callable[[str], str]:
    """The names of the package efficientnet-pytorch, which numbers all blocks through, so counts of each stage's.

    `_blocks.1._bn0` is `blocks.1.0.bn1` where the first stage has one block.
    """

    def rename(name: str) -> str:
        found = re.match(r"_blocks\.(\d+)\.(.*)", name)
        if not found:
            ends = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
            return renamed(name, ends | {"_fc": "classifier"})
        path = place(int(found[1]), counts)
        plain = {"_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
        wide = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_bn1": "bn2", "_project_conv": "conv_pwl", "_bn2": "bn3"}
        both = {"_depthwise_conv": "conv_dw", "_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}
        return f"blocks.{path}.{renamed(found[2], both | (plain if path.startswith('0.') else wide))}"

    return rename


def _variants() -> Iterator[tuple[str, dict]]:
    sizes = {0: (1.0, 1.0, 0.2), 1: (1.0, 1.1, 0.2), 2: (1.1, 1.2, 0.3), 3: (1.2, 1.4, 0.3)}
    lite = {"se": 0.0, "act": "relu6", "fixed": True}
    for prefix, google in {"": {}, "tf_": GOOGLE}.items():
        for kind, options, largest in (("b", {}, 3), ("lite", lite, 2)):
            for size in range(largest + 1):
                scale = dict(zip(("width", "depth", "dropout"), sizes[size], strict=True))
                yield f"{prefix}efficientnet_{kind}{size}", scale | options | google


VARIANTS: dict[str, dict] = dict(_variants())
