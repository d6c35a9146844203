"""A network that is ready to be asked: from the shelf, or of a name with weights from elsewhere."""

import dataclasses
from importlib import resources

from jconv import models, weights
from jconv.models import Trained
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
        source: weights for ImageNet's classes, as `jconv.weights.load` takes them.
        seen: what is otherwise done to pictures.
    """
    try:
        if source is None:
            trained = models.load(model)
        else:
            network = models.create(model)
            params, state, preprocessing = weights.load(network, source)
            trained = Trained(network, params, state, preprocessing or weights.Preprocessing(), words(), {})
        asked = {name: value for name, value in vars(seen or Seen()).items() if value is not None}
        return trained._replace(preprocessing=dataclasses.replace(trained.preprocessing, **asked))
    except (ValueError, OSError, ImportError) as error:
        raise RunError(f"--model {model}: {error}") from error


def words() -> tuple[str, ...]:
    """ImageNet's 1,000 classes in words, in the order of their WordNet ids."""
    return tuple(line.partition(" ")[2] for line in _lines())


def wnids() -> tuple[str, ...]:
    """The WordNet ids of ImageNet's 1,000 classes, sorted, as their pictures' folders are named."""
    return tuple(line.partition(" ")[0] for line in _lines())


def _lines() -> list[str]:
    return resources.files("train.data").joinpath("imagenet.txt").read_text().splitlines()
