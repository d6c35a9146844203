"""Parts of blocks that several families have: what stands on a shortcut, squeeze-and-excitation of so many features."""

from jconv.layers import AvgPool, BatchNorm, Conv, Identity, Layer, PadChannels, Sequential, SqueezeExcite

__all__ = ["SHORTCUTS", "shortcut_layers", "squeeze_excite"]

SHORTCUTS = ("conv", "avgpool", "pad")


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
