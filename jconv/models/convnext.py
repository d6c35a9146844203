"""ConvNeXt: a residual network with the proportions of a transformer; and the small ones that timm added."""

import re
from collections.abc import Callable, Sequence
from functools import partial

import jax
import numpy as np

from jconv.layers import (
    Activation,
    Conv,
    Dropout,
    DropPath,
    GlobalAvgPool,
    Identity,
    Layer,
    LayerNorm,
    LayerScale,
    Linear,
    Residual,
    Sequential,
)
from jconv.layers.initializers import Normal
from jconv.models.blocks import Step, atrous
from jconv.models.network import Network, several, sized

__all__ = ["VARIANTS", "convnext", "from_torchvision"]

_SMALL = {"depths": (2, 2, 6, 2), "conv_mlp": True}
VARIANTS: dict[str, dict] = {
    "convnext_atto": {**_SMALL, "width": 40},
    "convnext_femto": {**_SMALL, "width": 48},
    "convnext_pico": {**_SMALL, "width": 64},
    "convnext_nano": {**_SMALL, "width": 80, "depths": (2, 2, 8, 2)},
    "convnext_tiny": {},
    "convnext_small": {"depths": (3, 3, 27, 3)},
    "convnext_base": {"depths": (3, 3, 27, 3), "width": 128},
    "convnext_large": {"depths": (3, 3, 27, 3), "width": 192},
}


def convnext(
    *,
    depths: Sequence[int] = (3, 3, 9, 3),
    width: int = 96,
    kernel: int = 7,
    layer_scale: float = 1e-6,
    conv_mlp: bool = False,
    num_classes: int = 1000,
    output_stride: int | None = None,
    dropout: float = 0.0,
    drop_path: float = 0.0,
    act: str | Callable[[jax.Array], jax.Array] = "gelu_exact",
) -> Network:
    """A ConvNeXt: 4×4 patches, stages of `x + gamma * mlp(norm(depthwise 7×7(x)))`, a mean, a norm, a classifier.

    One activation and one LayerNorm a block; between stages a LayerNorm and a 2×2/2 convolution.

    Args:
        depths: blocks in each stage.
        width: features of the first stage; each stage has twice those of the one before.
        kernel: window of the depthwise convolutions.
        layer_scale: what gamma starts at.
        conv_mlp: the block's linear layers are 1×1 convolutions: the same function, whose weights torch keeps with two
            more axes. timm's small variants have them.
        num_classes: features of the classifier `head.fc`; 0 ends the network with the pooled and normalised features.
        output_stride: 8 or 16 for 32: the stages after it do not stride, and their blocks dilate. Their 2×2 convolution
            has the dilation of the stage before and pads, as in timm.
        dropout: before the classifier.
        drop_path: the last block's probability of leaving out its branch in training; it grows linearly from 0. The
            paper has 0.1 for tiny, 0.4 for small, 0.5 for base and large.
        act: the activation; the paper's GELU is the exact one.

    Returns:
        A Network with paths as in timm, (N, H, W, C) -> (N, num_classes), and features "stages.0", "stages.1", ...

    Raises:
        ValueError: an unknown activation; no stages, or a size that is not above 0; an output stride that the network
            does not pass.

    Example:
        >>> net = convnext()
        >>> params, _ = jax.eval_shape(net.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 64, 64, 3), "float32"))
        >>> sum(p.size for p in jax.tree.leaves(params))
        28589128

    References:
        Liu et al. 2022, "A ConvNet for the 2020s", arXiv:2201.03545, sections 2 and 3.1, appendix A. Layer scale:
        Touvron et al. 2021, arXiv:2103.17239.
    """
    several(depths=depths)
    sized(int, num_classes=num_classes, depths=depths, width=width, kernel=kernel)
    small = Normal(0.02)
    rates = iter(np.linspace(0, drop_path, sum(depths)).tolist())

    conv = partial(Conv, kernel_init=small)

    def norm() -> LayerNorm:
        return LayerNorm(eps=1e-6)

    def linear(features: int) -> Layer:
        return conv(features, 1) if conv_mlp else Linear(features, kernel_init=small)

    def block(features: int, dilation: int) -> Layer:
        mlp = Sequential(fc1=linear(4 * features), act=Activation(act), fc2=linear(features))
        depthwise = conv(features, kernel, groups=features, dilation=dilation)
        drop = {"drop_path": DropPath(rate)} if (rate := next(rates)) else {}
        return Residual(Sequential(conv_dw=depthwise, norm=norm(), mlp=mlp, _scale=LayerScale(layer_scale), **drop))

    def stage(i: int, depth: int, step: Step) -> Layer:
        features = width << i
        blocks = Sequential(*(block(features, step.dilation) for _ in range(depth)))
        if not i:
            return Sequential(downsample=Identity(), blocks=blocks)
        padding = "SAME" if step.stride == 1 else 0  # patches do not overlap
        patches = conv(features, 2, stride=step.stride, dilation=step.before, padding=padding)
        return Sequential(downsample=Sequential(norm(), patches), blocks=blocks)

    steps = atrous((4, *(2 if i else 1 for i in range(len(depths)))), output_stride)
    head = {"global_pool": GlobalAvgPool(), "norm": norm()}
    if num_classes:
        head |= {"drop": Dropout(dropout)} if dropout else {}
        head["fc"] = Linear(num_classes, kernel_init=small)
    body = {
        "stem": Sequential(conv(width, 4, stride=4, padding=0), norm()),
        "stages": Sequential(*(stage(i, *each) for i, each in enumerate(zip(depths, steps, strict=True)))),
        "head": Sequential(**head),
    }
    return Network(body, stages={f"stages.{i}": f"stages.{i}" for i in range(len(depths))}, renames=(from_torchvision,))


def from_torchvision(name: str) -> str:
    """`features.1.0.block.0` is `stages.0.blocks.0.conv_dw`: torchvision numbers what timm names."""

    def place(m: re.Match) -> str:
        i = int(m[1])
        return f"stages.{i // 2}.{'blocks' if i % 2 else 'downsample'}." if i else "stem."

    words = {"block.0": "conv_dw", "block.2": "norm", "block.3": "mlp.fc1", "block.5": "mlp.fc2"}
    name = re.sub(r"^features\.(\d)\.", place, name)
    for theirs, ours in words.items():
        name = name.replace(f".{theirs}.", f".{ours}.")
    name = re.sub(r"\.layer_scale$", ".gamma", name)
    return re.sub(r"^classifier\.([02])", lambda m: {"0": "head.norm", "2": "head.fc"}[m[1]], name)
