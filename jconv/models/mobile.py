"""What mobile networks share: tables of inverted residual blocks, and the network around them, in timm's names."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from jconv.layers import (
    Activation,
    BatchNorm,
    Conv,
    Dropout,
    DropPath,
    Layer,
    Linear,
    Residual,
    Sequential,
    SqueezeExcite,
    child,
    depthwise,
)
from jconv.models.blocks import atrous
from jconv.models.network import Network
from jconv.ops.window import Padding

__all__ = [
    "BATCH_NORM", "GOOGLE", "Act", "Excite", "Row", "Style", "Table",
    "divisible", "inverted_residual", "mobile_network", "scaled",
]  # fmt: skip

Act = str | Callable[[jax.Array], jax.Array]
BATCH_NORM = BatchNorm()
GOOGLE = {"norm": BatchNorm(eps=1e-3), "padding": "SAME"}
"""What the weights were trained with whose names in timm begin with `tf_`: a padding with more at the end."""


class Row(NamedTuple):
    """A line of a paper's table: blocks of one kind, of which the first strides."""

    blocks: int
    kernel: int
    stride: int
    expand: float
    """Hidden features, in multiples of the input's; 1 is a block without the first 1×1."""
    features: int
    se: bool = False
    act: str | None = None
    """None is the network's."""
    dilation: int = 1
    """Of the window; `mobile_network` sets it."""


Table = tuple[tuple[Row, ...], ...]
"""The rows of each stage, a child of `blocks`."""


class Style(NamedTuple):
    """What is the same in every convolution of a network."""

    act: Act
    norm: Layer
    padding: Padding


@dataclasses.dataclass(frozen=True, repr=False)
class Excite(SqueezeExcite):
    """Squeeze-and-excitation as timm names it in these families: `conv_reduce`, `conv_expand`."""

    fc1: Layer = child("conv_reduce")
    fc2: Layer = child("conv_expand")


def divisible(features: float, by: int = 8) -> int:
    """The nearest multiple of 8, the next one up if that is less than 0.9 of it: how TF's models round."""
    rounded = max(by, int(features + by / 2) // by * by)
    return rounded if rounded >= 0.9 * features else rounded + by


def scaled(table: Table, *, width: float = 1.0, depth: float = 1.0, fixed: bool = False) -> Table:
    """The table of a wider and deeper network; with `fixed`, the first and last stage keep their depth."""
    ends = (0, len(table) - 1) if fixed else ()
    return tuple(
        tuple(
            row._replace(
                features=divisible(row.features * width),
                blocks=row.blocks if i in ends else math.ceil(row.blocks * depth),
            )
            for row in rows
        )
        for i, rows in enumerate(table)
    )


def inverted_residual(
    channels: int, row: Row, style: Style, *, excite: Callable[[int, int], Layer] | None = None, drop_path: float = 0.0
) -> Layer:
    """A block that is wide inside: expand by a 1×1, a window on each channel, excite, project by a 1×1 without act.

    A shortcut joins the narrow ends where the shape stays. Sandler et al. 2018, arXiv:1801.04381, section 3.3.

    Args:
        channels: of the input.
        row: what the block is; its blocks are not read.
        style: of the network.
        excite: (channels, hidden features) -> the squeeze-and-excitation before the projection.
        drop_path: the probability of leaving out the branch.
    """
    wide = row.expand != 1
    hidden = divisible(channels * row.expand) if wide else channels
    act, norm = Activation(row.act or style.act), style.norm
    branch: dict[str, Layer] = {}
    if wide:
        branch |= {"conv_pw": Conv(hidden, 1, bias=False), "bn1": norm, "act1": act}
    i = 2 if wide else 1  # norms are numbered through
    sampling = {"stride": row.stride, "dilation": row.dilation, "padding": style.padding}
    window = depthwise(hidden, row.kernel, bias=False, **sampling)
    branch |= {"conv_dw": window, f"bn{i}": norm, f"act{i}": act}
    if excite:
        branch["se"] = excite(channels, hidden)
    branch |= {"conv_pwl" if wide else "conv_pw": Conv(row.features, 1, bias=False), f"bn{i + 1}": norm}
    if row.stride > 1 or row.features != channels:
        return Sequential(**branch)
    return Residual(Sequential(**branch, **({"drop_path": DropPath(drop_path)} if drop_path else {})))


def mobile_network(
    table: Table,
    block: Callable[[int, Row, float], Layer],
    style: Style,
    *,
    stem: int,
    head: Mapping[str, Layer],
    num_classes: int,
    dropout: float,
    drop_path: float = 0.0,
    output_stride: int | None = None,
    renames: Sequence[Callable[[str], str]] = (),
) -> Network:
    """A 3×3/2 stem, the blocks of a table, a head that pools, a classifier.

    Args:
        table: scaled.
        block: (channels, row, drop_path) -> the block of that row.
        stem: features of the stem.
        head: the layers between the blocks and the classifier.
        style, num_classes, dropout, renames: of the network.
        drop_path: the probability grows from 0 in the first block, to reach this after the last.
        output_stride: from which on stages dilate instead of striding; see `jconv.models.blocks.atrous`.
    """
    count = sum(row.blocks for rows in table for row in rows)
    rates = iter(np.linspace(0, drop_path, count, endpoint=False).tolist())
    strides = [rows[0].stride for rows in table]  # no other row of a stage strides

    def stages(channels: int) -> Iterator[Layer]:
        for rows, step in zip(table, atrous((2, *strides), output_stride), strict=True):
            each, blocks = [row for row in rows for _ in range(row.blocks)], []
            for row, (stride, dilation, _) in zip(each, step.blocks(len(each)), strict=True):
                blocks.append(block(channels, row._replace(stride=stride, dilation=dilation), next(rates)))
                channels = row.features
            yield Sequential(*blocks)

    ends = [f"blocks.{i}" for i, after in enumerate([*strides[1:], 2]) if after > 1]
    classifier: dict[str, Layer] = {"drop": Dropout(dropout)} if dropout and num_classes else {}
    if num_classes:
        classifier["classifier"] = Linear(num_classes)
    return Network(
        stages=({"stem": "act1"} if strides[0] > 1 else {}) | {end: end for end in ends},
        renames=renames,
        conv_stem=Conv(stem, 3, stride=2, padding=style.padding, bias=False),
        bn1=style.norm,
        act1=Activation(style.act),
        blocks=Sequential(*stages(stem)),
        **head,
        **classifier,
    )
