"""The zoo: networks as compositions of layers. `create` makes one by name, `list` says which there are."""

import builtins
import fnmatch
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jconv.layers.base import nearest
from jconv.models.alexnet import VARIANTS as ALEXNETS
from jconv.models.alexnet import alexnet
from jconv.models.convnext import VARIANTS as CONVNEXTS
from jconv.models.convnext import convnext
from jconv.models.dcgan import VARIANTS as GENERATORS
from jconv.models.dcgan import dcgan
from jconv.models.densenet import VARIANTS as DENSENETS
from jconv.models.densenet import densenet
from jconv.models.efficientnet import VARIANTS as EFFICIENTNETS
from jconv.models.efficientnet import efficientnet
from jconv.models.flattened import VARIANTS as FLATTENED
from jconv.models.flattened import flattened_cnn
from jconv.models.googlenet import VARIANTS as GOOGLENETS
from jconv.models.googlenet import googlenet
from jconv.models.highway import VARIANTS as HIGHWAYS
from jconv.models.highway import highway
from jconv.models.inception import VARIANTS as INCEPTIONS
from jconv.models.inception import inception_v3
from jconv.models.lenet import VARIANTS as LENETS
from jconv.models.lenet import lenet5
from jconv.models.lesson import LESSONS, SIMPLE, lesson_cnn, simple_cnn
from jconv.models.mobilenet import V1 as MOBILENETS_V1
from jconv.models.mobilenet import V2 as MOBILENETS_V2
from jconv.models.mobilenet import mobilenet_v1, mobilenet_v2
from jconv.models.mobilenet_v3 import VARIANTS as MOBILENETS_V3
from jconv.models.mobilenet_v3 import mobilenet_v3
from jconv.models.network import Network
from jconv.models.nin import VARIANTS as NINS
from jconv.models.nin import nin
from jconv.models.regnet import VARIANTS as REGNETS
from jconv.models.regnet import regnet
from jconv.models.resnet import VARIANTS as RESNETS
from jconv.models.resnet import resnet
from jconv.models.segmentation import VARIANTS as DEEPLABS
from jconv.models.segmentation import deeplab
from jconv.models.shelf import Trained, cards, read
from jconv.models.shufflenet import V1 as SHUFFLENETS_V1
from jconv.models.shufflenet import V2 as SHUFFLENETS_V2
from jconv.models.shufflenet import shufflenet_v1, shufflenet_v2
from jconv.models.squeezenet import VARIANTS as SQUEEZENETS
from jconv.models.squeezenet import squeezenet
from jconv.models.text import TCNS, tcn, textcnn
from jconv.models.text import VARIANTS as TEXTCNNS
from jconv.models.vgg import VARIANTS as VGGS
from jconv.models.vgg import vgg
from jconv.models.xception import VARIANTS as XCEPTIONS
from jconv.models.xception import xception

__all__ = [
    "Network",
    "Trained",
    "alexnet",
    "convnext",
    "create",
    "dcgan",
    "deeplab",
    "densenet",
    "efficientnet",
    "flattened_cnn",
    "googlenet",
    "highway",
    "inception_v3",
    "lenet5",
    "lesson_cnn",
    "list",
    "load",
    "mobilenet_v1",
    "mobilenet_v2",
    "mobilenet_v3",
    "nin",
    "regnet",
    "resnet",
    "shelf",
    "shufflenet_v1",
    "shufflenet_v2",
    "simple_cnn",
    "squeezenet",
    "tcn",
    "textcnn",
    "vgg",
    "xception",
]

FAMILIES: tuple[tuple[Callable[..., Network], dict[str, dict]], ...] = (
    (resnet, RESNETS),
    (alexnet, ALEXNETS),
    (googlenet, GOOGLENETS),
    (highway, HIGHWAYS),
    (inception_v3, INCEPTIONS),
    (lenet5, LENETS),
    (lesson_cnn, LESSONS),
    (nin, NINS),
    (simple_cnn, SIMPLE),
    (squeezenet, SQUEEZENETS),
    (vgg, VGGS),
    (convnext, CONVNEXTS),
    (densenet, DENSENETS),
    (efficientnet, EFFICIENTNETS),
    (mobilenet_v1, MOBILENETS_V1),
    (mobilenet_v2, MOBILENETS_V2),
    (mobilenet_v3, MOBILENETS_V3),
    (shufflenet_v1, SHUFFLENETS_V1),
    (shufflenet_v2, SHUFFLENETS_V2),
    (xception, XCEPTIONS),
    (flattened_cnn, FLATTENED),
    (regnet, REGNETS),
    (deeplab, DEEPLABS),
    (textcnn, TEXTCNNS),
    (tcn, TCNS),
    (dcgan, GENERATORS),
)
"""Each family's function, and its variants: name -> options."""

HINTS: dict[str, str] = {
    **dict.fromkeys(("in_chans", "in_channels"), "channels come from x, when the network is initialised"),
    **dict.fromkeys(("pretrained", "weights"), "create the network, then weights.load(model, 'hf-hub:timm/...')"),
    "features_only": "every network has model.features(params, state, x)",
}
"""What to do instead where other libraries have an option."""


def create(name: str, **options: Any) -> Network:
    """The network of that name, with options of its family's function changed.

    Raises:
        ValueError: an unknown name or option, with the nearest that are known; a value that the family refuses.

    Example:
        >>> create("resnet50d", num_classes=10) == resnet(50, stem="c", shortcut="avgpool", num_classes=10)
        True
    """
    if not isinstance(name, str):
        raise ValueError(f"name: expected a model's name, as 'resnet50', got {name!r}; see jconv.models.list()")
    for family, variants in FAMILIES:
        if name in variants:
            known = _options(family)
            for option in options:
                if option not in known:
                    raise ValueError(f"{name} has no option {option!r}; {HINTS.get(option) or nearest(option, known)}")
            return family(**variants[name] | options)
    model, _, tag = name.partition(".")
    if tag and model in list():
        hint = f"a tag names weights; create({model!r}), then weights.load(model, 'hf-hub:timm/{name}')"
    else:
        hint = nearest(name, list(f"*_{name}") or list())
    raise ValueError(f"unknown model {name!r}; {hint}")


def _options(family: Callable[..., Network]) -> builtins.list[str]:
    """The options of a family's function, and of the one that it hands others on to."""
    own = inspect.signature(family).parameters
    handed = _options(resnet) if "backbone" in own else []
    return [*dict.fromkeys([*(name for name in own if name != "backbone"), *handed])]


def list(pattern: str = "*") -> builtins.list[str]:
    """The names that match a shell pattern.

    >>> list("resnext*")
    ['resnext50_32x4d', 'resnext101_32x4d', 'resnext101_32x8d', 'resnext101_64x4d']
    """
    return [name for _, variants in FAMILIES for name in variants if fnmatch.fnmatch(name, pattern)]


def shelf(*, folder: str | Path | None = None) -> dict[str, dict[str, Any]]:
    """The trained networks that are there, and their cards: architecture, data, command, accuracy, licence, ...

    Args:
        folder: of the shelf; None is $JCONV_SHELF, else `models` in the working folder or in jconv's own repository.

    Raises:
        ValueError: a folder that is not there.
    """
    return cards(folder)


def load(name: str | Path, *, folder: str | Path | None = None) -> Trained:
    """A trained network, ready to use.

    Args:
        name: its name on the shelf, or the path of its folder.
        folder: of the shelf; see `shelf`.

    Returns:
        model, params, state, preprocessing, classes, card.

    Raises:
        ValueError: an unknown name, with the nearest that are known; a card or weights that do not fit.
    """
    return read(name, create, folder)
