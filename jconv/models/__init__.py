"""The zoo: networks as compositions of layers. `create` makes one by name, `list` says which there are."""

import builtins
import fnmatch
from collections.abc import Callable
from typing import Any

from jconv.layers.base import nearest
from jconv.models.network import Network
from jconv.models.resnet import VARIANTS as RESNETS
from jconv.models.resnet import resnet

__all__ = ["Network", "create", "list", "resnet"]

FAMILIES: tuple[tuple[Callable[..., Network], dict[str, dict]], ...] = ((resnet, RESNETS),)
"""Each family's function, and its variants: name -> options."""


def create(name: str, **options: Any) -> Network:
    """The network of that name, with options of its family's function changed.

    Raises:
        ValueError: an unknown name, with the nearest that are known.

    Example:
        >>> create("resnet50d", num_classes=10) == resnet(50, stem="c", shortcut="avgpool", num_classes=10)
        True
    """
    for family, variants in FAMILIES:
        if name in variants:
            return family(**variants[name] | options)
    raise ValueError(f"unknown model {name!r}; {nearest(name, list())}")


def list(pattern: str = "*") -> builtins.list[str]:
    """The names that match a shell pattern.

    >>> list("resnext*")
    ['resnext50_32x4d', 'resnext101_32x4d', 'resnext101_32x8d', 'resnext101_64x4d']
    """
    return [name for _, variants in FAMILIES for name in variants if fnmatch.fnmatch(name, pattern)]
