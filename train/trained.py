"""A network that is ready to be asked: from the shelf, or of a name with weights from elsewhere."""

import dataclasses
import itertools
import json
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import jax

from jconv import models, weights
from jconv.models import Trained
from jconv.weights import files
from jconv.weights.heads import heads
from train.errors import RunError

__all__ = ["Seen", "ready", "wnids", "words"]


@dataclasses.dataclass(frozen=True)
class Seen:
    """What happens to a picture first; what is left at None is as the weights say, or else as usual for ImageNet."""

    size: int | None = None
    """Side of the square that the network sees, in pixels."""
    crop: float | None = None
    """The part of the picture's shorter side that is kept."""
    mean: tuple[float, ...] | None = None
    """Of pixels in 0..1, for each channel: 0.5 0.5 0.5 for most networks that TensorFlow trained."""
    std: tuple[float, ...] | None = None
    """As mean, the standard deviation."""
    interpolation: str | None = None
    """nearest | bilinear | bicubic | lanczos."""


def ready(model: str, source: str | None, seen: Seen | None = None) -> Trained:
    """A trained network. RunError if it cannot be had.

    Args:
        model: a name on the shelf, or its folder; with a source, a name from `jconv.models.list()`.
        source: weights, as `jconv.weights.load` takes them. They say how many classes there are; their names are those
            of a card.toml or of timm's config.json beside them, or of ImageNet's 1,000, or else numbers.
        seen: what is otherwise done to pictures.
    """
    try:
        if source is None:
            trained = models.load(model)
        else:
            found = files.read(source)
            n = _classes(model, {name: t.shape for name, t in found.tensors.items()})
            network = models.create(model) if n is None else models.create(model, num_classes=n)
            params, state, _ = weights.load(network, found.tensors)
            names = _names(found.path, n or len(words()))
            trained = Trained(network, params, state, found.preprocessing or weights.Preprocessing(), names, {})
        asked = {name: value for name, value in vars(seen or Seen()).items() if value is not None}
        return trained._replace(preprocessing=dataclasses.replace(trained.preprocessing, **asked))
    except (ValueError, OSError, ImportError) as error:
        raise RunError(f"--model {model}: {error}") from error


def _classes(model: str, shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    """How many classes weights are for: the features of their classifier."""
    network = models.create(model, num_classes=2)  # any number
    known = {rename(name): shape for rename in (str, *network.renames) for name, shape in shapes.items()}
    names = heads(network, jax.ShapeDtypeStruct((1, 224, 224, 3), "float32"))
    return next((known[name][0] for name in itertools.chain(*names) if known.get(name)), None)


def _names(weights: Path | None, n: int) -> tuple[str, ...]:
    """The names of n classes: what the files beside the weights say, if of as many; ImageNet's; or numbers."""
    found: Any = None
    if weights and (card := weights.parent / "card.toml").exists():
        found = tomllib.loads(card.read_text()).get("classes")
    elif weights and (config := weights.parent / "config.json").exists():
        found = json.loads(config.read_text()).get("label_names")
    if isinstance(found, list) and len(found) == n:
        return tuple(map(str, found))
    return words() if n == len(words()) else tuple(map(str, range(n)))


def words() -> tuple[str, ...]:
    """ImageNet's 1,000 classes in words, in the order of their WordNet ids."""
    return tuple(line.partition(" ")[2] for line in _lines())


def wnids() -> tuple[str, ...]:
    """The WordNet ids of ImageNet's 1,000 classes, sorted, as their pictures' folders are named."""
    return tuple(line.partition(" ")[0] for line in _lines())


def _lines() -> list[str]:
    return resources.files("train.data").joinpath("imagenet.txt").read_text().splitlines()
