"""Convolutions in parts: depthwise, depthwise separable, spatially separable, flattened; each a composition of Conv.

What each costs at a position, for a window of k × k, C channels and F features, where a convolution has k² C F weights:

| composition | weights | source |
|---|---|---|
| `depthwise` | k² C multiplier | Sifre 2014 |
| `depthwise_separable` | k² C multiplier + C multiplier F / groups | Sifre 2014, MobileNet |
| `spatially_separable` | k C hidden + k hidden F | Inception-v3 |
| `flattened` | C F + 2 k F | Jin et al. 2014 |
"""

from collections.abc import Iterator, Sequence
from typing import Any

from jconv.layers.base import Layer
from jconv.layers.combinators import Sequential
from jconv.layers.parametric import Conv
from jconv.ops.window import Padding, per_axis

__all__ = ["depthwise", "depthwise_separable", "flattened", "spatially_separable"]


def depthwise(
    channels: int,
    kernel: int | Sequence[int],
    *,
    multiplier: int = 1,
    stride: int | Sequence[int] = 1,
    padding: Padding = None,
    dilation: int | Sequence[int] = 1,
    bias: bool = True,
) -> Conv:
    """A convolution of each channel with kernels of its own: as many groups as channels.

    Args:
        channels: of the input.
        kernel: window, an int for all axes or one for each.
        multiplier: features of each channel.
        stride, padding, dilation, bias: as in `Conv`.

    Returns:
        A Conv, (N, *spatial, channels) -> (N, *out, channels * multiplier); feature f is of channel f // multiplier.

    Example:
        >>> depthwise(32, 3, stride=2)
        Conv(32, 3, stride=2, groups=32)

    References:
        Sifre 2014, "Rigid-motion scattering for image classification", PhD thesis, section 6.2.
    """
    options = {"stride": stride, "padding": padding, "dilation": dilation, "bias": bias}
    return Conv(channels * multiplier, kernel, groups=channels, **options)


def depthwise_separable(
    features: int,
    kernel: int | Sequence[int],
    *,
    channels: int,
    multiplier: int = 1,
    stride: int | Sequence[int] = 1,
    padding: Padding = None,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    norm: Layer | None = None,
    act: Layer | None = None,
) -> Sequential:
    """A window on each channel, then a 1×1 convolution over the channels: `conv_dw`, `conv_pw`.

    Args:
        features: of the 1×1 convolution.
        kernel: window of the depthwise convolution, an int for all axes or one for each.
        channels: of the input.
        multiplier: features of each channel in between.
        stride, padding, dilation: of the depthwise convolution.
        groups: of the 1×1 convolution.
        norm, act: what follows each of the two, as `bn1`, `act1`, `bn2`, `act2`; with a norm they have no bias.

    Returns:
        A Sequential, (N, *spatial, channels) -> (N, *out, features).

    Example:
        >>> from jconv.layers import Activation, BatchNorm
        >>> print(depthwise_separable(64, 3, channels=32, norm=BatchNorm(), act=Activation("relu")))
        Sequential
          conv_dw: Conv(32, 3, groups=32, bias=False)
          bn1: BatchNorm()
          act1: Activation('relu')
          conv_pw: Conv(64, 1, bias=False)
          bn2: BatchNorm()
          act2: Activation('relu')

    References:
        Sifre 2014, "Rigid-motion scattering for image classification", PhD thesis, section 6.2. Howard et al. 2017,
        "MobileNets", arXiv:1704.04861, section 3.1. A grouped 1×1: Zhang et al. 2017, "ShuffleNet", arXiv:1707.01083.
    """
    window = {"stride": stride, "padding": padding, "dilation": dilation}
    first = depthwise(channels, kernel, multiplier=multiplier, bias=norm is None, **window)
    second = Conv(features, 1, groups=groups, bias=norm is None)
    return _chain({"conv_dw": first, "conv_pw": second}, norm, act)


def spatially_separable(
    features: int,
    kernel: int | Sequence[int],
    *,
    hidden: int | None = None,
    stride: int | Sequence[int] = 1,
    padding: Padding = None,
    dilation: int | Sequence[int] = 1,
    norm: Layer | None = None,
    act: Layer | None = None,
) -> Sequential:
    """A window of k_1 × ... as one convolution along each axis, k×1 and then 1×k: `conv1`, `conv2`, ...

    Args:
        features: of the last convolution.
        kernel: one number for each spatial axis; an int is a square window over two.
        hidden: features of those before it; None is `features`.
        stride, padding, dilation: as in `Conv`; each convolution takes what belongs to its axis.
        norm, act: what follows each, as `bn1`, `act1`, ...; with a norm they have no bias.

    Returns:
        A Sequential, (N, *spatial, C) -> (N, *out, features).

    Example:
        >>> print(spatially_separable(64, 7, hidden=16))
        Sequential
          conv1: Conv(16, (7, 1))
          conv2: Conv(64, (1, 7))

    References:
        Szegedy et al. 2015, "Rethinking the Inception architecture", arXiv:1512.00567, section 3.2.
    """
    windows = list(_along_each(kernel, stride, padding, dilation))
    out = [hidden or features] * (len(windows) - 1) + [features]
    convs = (Conv(f, bias=norm is None, **window) for f, window in zip(out, windows, strict=True))
    return _chain({f"conv{i + 1}": conv for i, conv in enumerate(convs)}, norm, act)


def flattened(
    features: int,
    kernel: int | Sequence[int],
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = None,
    dilation: int | Sequence[int] = 1,
    norm: Layer | None = None,
    act: Layer | None = None,
) -> Sequential:
    """One axis at a time: a 1×1 over the channels, then on each feature a window along each axis: `conv1`, `conv2`, ...

    A feature's whole kernel is then a product of one vector over the channels and one along each axis, of rank 1.

    Args:
        features: of every convolution.
        kernel: one number for each spatial axis; an int is a square window over two.
        stride, padding, dilation: as in `Conv`; each convolution takes what belongs to its axis.
        norm, act: what follows each, as `bn1`, `act1`, ...; with a norm they have no bias.

    Returns:
        A Sequential, (N, *spatial, C) -> (N, *out, features).

    Example:
        >>> print(flattened(8, (5, 3), stride=2))
        Sequential
          conv1: Conv(8, 1)
          conv2: Conv(8, (5, 1), stride=(2, 1), groups=8)
          conv3: Conv(8, (1, 3), stride=(1, 2), groups=8)

    References:
        Jin, Dundar & Culurciello 2014, "Flattened convolutional neural networks", arXiv:1412.5474, section 3.
    """
    bias = norm is None
    windows = _along_each(kernel, stride, padding, dilation)
    convs = [Conv(features, 1, bias=bias), *(Conv(features, groups=features, bias=bias, **w) for w in windows)]
    return _chain({f"conv{i + 1}": conv for i, conv in enumerate(convs)}, norm, act)


def _chain(convs: dict[str, Conv], norm: Layer | None, act: Layer | None) -> Sequential:
    """The convolutions one after another, each followed by a norm and an activation."""
    layers: dict[str, Layer] = {}
    for i, (name, conv) in enumerate(convs.items()):
        after = {f"bn{i + 1}": norm, f"act{i + 1}": act}
        layers |= {name: conv, **{name: layer for name, layer in after.items() if layer is not None}}
    return Sequential(**layers)


def _along_each(
    kernel: int | Sequence[int], stride: int | Sequence[int], padding: Padding, dilation: int | Sequence[int]
) -> Iterator[dict[str, Any]]:
    """The options of the window along each axis alone: 1, or no padding, along the others."""
    rank = 2 if isinstance(kernel, int) else len(kernel)
    sizes = {"kernel": kernel, "stride": stride, "dilation": dilation}
    along = {name: per_axis(name, value, rank, least=1) for name, value in sizes.items()}
    pads: Any = padding
    if isinstance(padding, int):
        pads = (padding,) * rank
    elif padding is not None and not isinstance(padding, str) and len(padding) != rank:
        raise ValueError(f"padding: expected {rank} numbers or pairs, one for each axis of the kernel, got {padding!r}")
    for i in range(rank):
        window: dict[str, Any] = {
            name: _only(i, values, 1) if set(values) != {1} else 1 for name, values in along.items()
        }
        if pads is None or isinstance(pads, str):
            yield window | {"padding": pads}
        else:
            yield window | {"padding": _only(i, pads, 0 if isinstance(pads[i], int) else (0, 0))}


def _only(i: int, values: Sequence[Any], other: Any) -> tuple[Any, ...]:
    """The i-th of these in its place, and `other` in all others."""
    return tuple(value if i == j else other for j, value in enumerate(values))
