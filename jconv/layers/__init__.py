"""Layers: frozen descriptions with `init` and `apply`. Composed, they are a network."""

from jconv.layers.base import Composite, Layer, Params, Run, State, child
from jconv.layers.combinators import Parallel, Residual, Sequential, add, concatenate
from jconv.layers.fold import fold
from jconv.layers.norm import BatchNorm, GroupNorm, LayerNorm, StandardizedConv
from jconv.layers.parametric import Conv, ConvTranspose, Linear, SqueezeExcite
from jconv.layers.pool import (
    AdaptiveAvgPool,
    AdaptiveMaxPool,
    AvgPool,
    BlurPool,
    GlobalAvgPool,
    GlobalMaxPool,
    L2Pool,
    MaxBlurPool,
    MaxPool,
)
from jconv.layers.separable import depthwise, depthwise_separable, flattened, spatially_separable
from jconv.layers.simple import (
    Activation,
    ChannelShuffle,
    DepthToSpace,
    Dropout,
    DropPath,
    FixedFilter,
    Flatten,
    Identity,
    PadChannels,
    SpaceToDepth,
    Upsample,
)

__all__ = [
    "Activation",
    "AdaptiveAvgPool",
    "AdaptiveMaxPool",
    "AvgPool",
    "BatchNorm",
    "BlurPool",
    "ChannelShuffle",
    "Composite",
    "Conv",
    "ConvTranspose",
    "DepthToSpace",
    "DropPath",
    "Dropout",
    "FixedFilter",
    "Flatten",
    "GlobalAvgPool",
    "GlobalMaxPool",
    "GroupNorm",
    "Identity",
    "L2Pool",
    "Layer",
    "LayerNorm",
    "Linear",
    "MaxBlurPool",
    "MaxPool",
    "PadChannels",
    "Parallel",
    "Params",
    "Residual",
    "Run",
    "Sequential",
    "SpaceToDepth",
    "SqueezeExcite",
    "StandardizedConv",
    "State",
    "Upsample",
    "add",
    "child",
    "concatenate",
    "depthwise",
    "depthwise_separable",
    "flattened",
    "fold",
    "spatially_separable",
]
