"""The records of `train.data`: what a program receives (Split, Dataset), what a cache is made of (Picture, Source).

They hold data and nothing else; only numpy is imported, so that every other file here may import this one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np


@dataclass(frozen=True)
class Split:
    """One half of a dataset, of n examples.

    Args:
        images: uint8 (n, side, side, channels); may be a read-only `np.memmap`.
        labels: int32 (n,), indices into `Dataset.classes`.
        sizes: int32 (n, 2), height and width of each original image in pixels, so that augmentation can give
            a squeezed image its aspect ratio back.
    """

    images: np.ndarray
    labels: np.ndarray
    sizes: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """Two splits, and what is needed to normalise and to name them.

    Args:
        name: where it is from, as `digits` or `imagenette2-160`.
        train, val: the examples to learn from and those to judge by.
        classes: words, in label order.
        mean, std: of pixels in 0..1, one per channel.
        skipped: paths of the images that could not be read.
    """

    name: str
    train: Split
    val: Split
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    skipped: tuple[str, ...]


class Picture(NamedTuple):
    """An encoded image: its name in messages, its label, and its file or its bytes."""

    name: str
    label: int
    data: Path | bytes


@dataclass(frozen=True)
class Source:
    """Encoded pictures with labels: a folder or a set of records, before anything is decoded.

    Args:
        name: becomes `Dataset.name`.
        where: the folder that the names of the pictures are relative to.
        classes: names of the class folders, in label order.
        train, val: the pictures, perhaps read as they are asked for.
        stamp: (path, bytes, modification time in ns) of every file behind the source; a cache is keyed by it.
    """

    name: str
    where: Path
    classes: tuple[str, ...]
    train: Sequence[Picture]
    val: Sequence[Picture]
    stamp: tuple[tuple[str, int, int], ...]
