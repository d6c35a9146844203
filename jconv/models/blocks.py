"""Parts that several families have: strides that become dilations, shortcuts, squeeze-and-excitation."""

import operator
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

from jconv.layers import AvgPool, BatchNorm, Conv, Identity, Layer, PadChannels, Sequential, SqueezeExcite

__all__ = ["SHORTCUTS", "Step", "atrous", "shortcut_layers", "squeeze_excite"]

SHORTCUTS = ("conv", "avgpool", "pad")


class Step(NamedTuple):
    """How a stage samples: the stride of its first block, and the dilations of that block and of the others."""

    stride: int
    before: int = 1
    dilation: int = 1

    def blocks(self, count: int) -> "Iterator[Step]":
        """The steps of so many blocks, of which only the first strides."""
        yield self
        for _ in range(count - 1):
            yield Step(1, self.dilation, self.dilation)


def atrous(strides: Sequence[int], output_stride: int | None) -> list[Step]:
    """The stages of a network that strides no further than `output_stride`, and dilates where it strode before.

    All kernels see what they saw: those before a stride that is left out stay as they are, so the first block of such a
    stage has the dilation of the stage before, and its others twice that. Chen et al. 2017, arXiv:1706.05587, 3.1.

    Args:
        strides: of the stem, then of each stage.
        output_stride: of the last stage; None is the product of the strides.

    Raises:
        ValueError: a stride that the network does not pass.

    Example:
        >>> [tuple(step) for step in atrous((4, 1, 2, 2, 2), 8)]
        [(1, 1, 1), (2, 1, 1), (1, 1, 2), (1, 2, 4)]
    """
    reached = list(accumulate(strides, operator.mul))
    if output_stride is None:
        output_stride = reached[-1]
    if output_stride not in reached:
        passed = ", ".join(map(str, sorted(set(reached))))
        raise ValueError(f"output_stride: expected one that this network passes, {passed}, got {output_stride!r}")
    dilations = [max(1, total // output_stride) for total in reached]
    return [
        Step(stride if after == 1 else 1, before, after)
        for stride, (before, after) in zip(strides[1:], pairwise(dilations), strict=True)
    ]


def shortcut_layers(kind: str, channels: int, features: int, stride: int, dilation: int) -> Layer:
    """What stands on the shortcut of a residual block; see `shortcut` of `jconv.models.resnet`."""
    if stride == 1 and channels == features:
        return Identity()
    if kind == "pad":
        return PadChannels(features, stride=stride)
    project = [Conv(features, 1, stride=1 if kind == "avgpool" else stride, bias=False), BatchNorm()]
    if kind == "conv":
        return Sequential(*project)
    pool = Identity()
    if stride > 1:
        pool = AvgPool(2, stride=stride, padding="SAME", count_include_pad=False)
    elif dilation > 1:  # where a stage dilates; timm counts the padding here, and there it does not
        pool = AvgPool(2, stride=1, padding="SAME")
    return Sequential(pool, *project)


def squeeze_excite(features: int, ratio: float) -> SqueezeExcite:
    """Squeeze-and-excitation of so many features, its hidden ones a multiple of 8, as timm rounds them."""
    hidden = max(8, int(features * ratio + 4) // 8 * 8)
    return SqueezeExcite(Conv(hidden, 1), Conv(features, 1))
