"""MobileNet v3: inverted residuals with excitation and hard-swish, found by search, with a head after the mean."""

import functools
import re
from collections.abc import Iterator

from jconv.layers import Activation, AdaptiveAvgPool, BatchNorm, Conv, Flatten, Layer, Sequential
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
from jconv.models.network import Network, known, sized
from jconv.models.renames import place, renamed
from jconv.ops.window import Padding

__all__ = ["TABLES", "VARIANTS", "from_torchvision", "mobilenet_v3"]

TABLES: dict[str, Table] = {  # the last row is a 1×1 convolution
    "large": (
        (Row(1, 3, 1, 1, 16, act="relu"),),
        (Row(1, 3, 2, 4, 24, act="relu"), Row(1, 3, 1, 3, 24, act="relu")),
        (Row(3, 5, 2, 3, 40, se=True, act="relu"),),
        (Row(1, 3, 2, 6, 80), Row(1, 3, 1, 2.5, 80), Row(2, 3, 1, 2.3, 80)),
        (Row(2, 3, 1, 6, 112, se=True),),
        (Row(3, 5, 2, 6, 160, se=True),),
        (Row(1, 1, 1, 0, 960),),
    ),
    "small": (
        (Row(1, 3, 2, 1, 16, se=True, act="relu"),),
        (Row(1, 3, 2, 4.5, 24, act="relu"), Row(1, 3, 1, 3.67, 24, act="relu")),
        (Row(1, 5, 2, 4, 40, se=True), Row(2, 5, 1, 6, 40, se=True)),
        (Row(2, 5, 1, 3, 48, se=True),),
        (Row(3, 5, 2, 6, 96, se=True),),
        (Row(1, 1, 1, 0, 576),),
    ),
}
HEADS = {"large": 1280, "small": 1024}


def mobilenet_v3(
    *,
    size: str = "large",
    width: float = 1.0,
    num_classes: int = 1000,
    output_stride: int | None = None,
    dropout: float = 0.2,
    drop_path: float = 0.0,
    act: Act = "hard_swish",
    norm: Layer = BATCH_NORM,
    padding: Padding = None,
) -> Network:
    """MobileNet v3: as v2 with excitation and hard-swish in its later stages, and a head after the mean.

    Args:
        size: "large" or "small".
        width: multiplies the features, which are rounded to multiples of 8; the head after the mean keeps its own.
        num_classes, output_stride, dropout, norm, padding: as in `jconv.models.mobilenet_v2`.
        drop_path: as there.
        act: the activation, but of the first stages, which have "relu".

    Returns:
        A Network with timm's paths, (N, H, W, C) -> (N, num_classes), and features by stride, "blocks.6" the last of
        "large" and "blocks.5" of "small", whose first is "stem".

    Raises:
        ValueError: an unknown size; a width that is not above 0; an output stride that the network does not pass.

    Example:
        >>> import jax
        >>> net = mobilenet_v3(size="small")
        >>> params, _ = jax.eval_shape(net.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 224, 224, 3), "float32"))
        >>> sum(p.size for p in jax.tree.leaves(params))
        2542856

    References:
        Howard et al. 2019, "Searching for MobileNetV3", arXiv:1905.02244, tables 1 and 2.
    """
    sized(num_classes=num_classes, width=width)
    table, style = scaled(TABLES[known("size", size, TABLES)], width=width), Style(act, norm, padding)

    def excite(channels: int, hidden: int) -> Layer:
        del channels
        squeeze = Conv(divisible(hidden / 4), 1)
        return Excite(squeeze, Conv(hidden, 1), Activation("relu"), Activation("hard_sigmoid"))

    def block(channels: int, row: Row, rate: float) -> Layer:
        if not row.expand:
            return Sequential(conv=Conv(row.features, row.kernel, bias=False), bn1=norm, act1=Activation(act))
        return inverted_residual(channels, row, style, excite=excite if row.se else None, drop_path=rate)

    head = {"global_pool": AdaptiveAvgPool(1), "conv_head": Conv(HEADS[size], 1), "act2": Activation(act)}
    return mobile_network(
        table,
        block,
        style,
        stem=divisible(16 * width) if width >= 0.75 else 16,  # as timm has it
        head={**head, "flatten": Flatten()},
        num_classes=num_classes,
        output_stride=output_stride,
        dropout=dropout,
        drop_path=drop_path,
        renames=RENAMES[size],
    )


def from_torchvision(name: str, counts: tuple[int, ...]) -> str:
    """`features.2.block.0.1` is `blocks.1.0.bn1`: torchvision numbers all blocks through, and a block's layers.

    Its first layer after the mean is a matrix, which is the kernel of a 1×1 convolution here and in timm.
    """
    last = sum(counts)
    found = re.match(r"features\.(\d+)\.block\.(.*)", name)
    if not found:
        ends = {r"features\.0\.0": "conv_stem", r"features\.0\.1": "bn1"}
        tail = {rf"features\.{last}\.0": f"blocks.{len(counts) - 1}.0.conv"}
        tail |= {rf"features\.{last}\.1": f"blocks.{len(counts) - 1}.0.bn1"}
        return renamed(name, ends | tail | {r"classifier\.0": "conv_head", r"classifier\.3": "classifier"})
    path = place(int(found[1]) - 1, counts)
    plain = {r"0\.0": "conv_dw", r"0\.1": "bn1", r"[12]\.0": "conv_pw", r"[12]\.1": "bn2"}
    wide = {r"0\.0": "conv_pw", r"0\.1": "bn1", r"1\.0": "conv_dw", r"1\.1": "bn2"}
    wide |= {r"[23]\.0": "conv_pwl", r"[23]\.1": "bn3"}
    rules = {r"\d\.fc1": "se.conv_reduce", r"\d\.fc2": "se.conv_expand", **(plain if path == "0.0" else wide)}
    return f"blocks.{path}.{renamed(found[2], rules)}"


RENAMES = {  # made once, so that equal networks are equal
    size: (functools.partial(from_torchvision, counts=tuple(sum(row.blocks for row in rows) for rows in table)),)
    for size, table in TABLES.items()
}


def _variants() -> Iterator[tuple[str, dict]]:
    for prefix, google in {"": {}, "tf_": GOOGLE}.items():
        for size, widths in {"large": (0.75, 1.0), "small": (0.75, 1.0) if prefix else (0.5, 0.75, 1.0)}.items():
            for width in widths:
                yield f"{prefix}mobilenetv3_{size}_{round(100 * width):03}", {"size": size, "width": width, **google}
    for size in TABLES:  # torchvision's names
        yield f"mobilenet_v3_{size}", {"size": size, "norm": BatchNorm(eps=1e-3, momentum=0.01)}


VARIANTS: dict[str, dict] = dict(_variants())
