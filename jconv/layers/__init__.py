"""Layers: frozen descriptions with `init` and `apply`. Composed, they are a network."""

from jconv.layers.base import Composite, Layer, Params, Run, State, child
from jconv.layers.combinators import Parallel, Residual, Sequential, add, concatenate
from jconv.layers.parametric import BatchNorm, Conv, Linear, SqueezeExcite
from jconv.layers.simple import (
    Activation,
    AvgPool,
    BlurPool,
    Dropout,
    DropPath,
    Flatten,
    GlobalAvgPool,
    Identity,
    MaxPool,
    PadChannels,
)

__all__ = [
    "Activation",
    "AvgPool",
    "BatchNorm",
    "BlurPool",
    "Composite",
    "Conv",
    "DropPath",
    "Dropout",
    "Flatten",
    "GlobalAvgPool",
    "Identity",
    "Layer",
    "Linear",
    "MaxPool",
    "PadChannels",
    "Parallel",
    "Params",
    "Residual",
    "Run",
    "Sequential",
    "SqueezeExcite",
    "State",
    "add",
    "child",
    "concatenate",
]
