"""A folder of images in the official layout of Imagenette, `train/CLASS/IMAGE` and `val/CLASS/IMAGE`, as a Source.

Any class names will do; the label of a class is its place among the sorted names of train's folders.
"""

import os
from pathlib import Path

from train.data.types import Picture, Source
from train.errors import RunError

WORDS = {
    "n01440764": "tench",
    "n02102040": "English springer",
    "n02979186": "cassette player",
    "n03000684": "chain saw",
    "n03028079": "church",
    "n03394916": "French horn",
    "n03417042": "garbage truck",
    "n03425413": "gas pump",
    "n03445777": "golf ball",
    "n03888257": "parachute",
}
SUFFIXES = (".jpeg", ".jpg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
LAYOUT = "expected train/CLASS/IMAGE and val/CLASS/IMAGE, in it or in one folder inside it"

Stamp = tuple[str, int, int]


def words(classes: tuple[str, ...]) -> tuple[str, ...]:
    """Replaces the ten WordNet ids of Imagenette by words and leaves other names alone.

    Example:
        >>> words(("n03028079", "mosque"))
        ('church', 'mosque')
    """
    return tuple(WORDS.get(name, name) for name in classes)


def find_root(folder: Path, *, shown: Path | None = None) -> Path:
    """Returns the folder that holds train/ and val/: `folder` itself or the one child of it that does.

    Args:
        folder: where to look.
        shown: its name in messages, if not its own.

    Raises:
        RunError: there is no such folder, or it is empty, or train/ or val/ is missing, or several children qualify.
    """
    shown = shown or folder
    if not folder.is_dir():
        raise RunError(f"There is no directory {shown}.")
    if _has(folder, "train") and _has(folder, "val"):
        return folder
    children = _folders(folder)
    inside = [child for child in children if _has(child, "train") and _has(child, "val")]
    if len(inside) == 1:
        return inside[0]
    if inside:
        names = ", ".join(child.name for child in inside)
        raise RunError(f"{shown} holds several data sets ({names}): name one of them.")
    if not any(folder.iterdir()):
        raise RunError(f"{shown} is empty: {LAYOUT}.")
    half = [child.name for child in children if _has(child, "train") or _has(child, "val")]
    if len(half) == 1 and not (_has(folder, "train") or _has(folder, "val")):
        folder, shown = folder / half[0], shown / half[0]
    missing = " and no ".join(f"{split}/" for split in ("train", "val") if not _has(folder, split))
    raise RunError(f"{shown} has no {missing}: {LAYOUT}.")


def scan(root: Path, *, name: str | None = None) -> Source:
    """Lists the pictures below `root`; hidden files and files that are no images by their suffix are left out.

    Args:
        root: a folder with train/ and val/, as `find_root` returns it.
        name: the name of the data set, if not that of the folder.

    Raises:
        RunError: a class of val/ that train/ lacks, a class of train/ without images, or a split without images.
    """
    classes = tuple(folder.name for folder in _folders(root / "train"))
    strangers = [folder.name for folder in _folders(root / "val") if folder.name not in classes]
    if strangers:
        raise RunError(f"{root / 'val'} has classes that train/ lacks: {', '.join(strangers)}.")
    train, train_stamp = _pictures(root, "train", classes)
    val, val_stamp = _pictures(root, "val", classes)
    for split, pictures in (("train", train), ("val", val)):
        if not pictures:
            raise RunError(f"{root / split} holds no images: {LAYOUT}, IMAGE ending in one of {' '.join(SUFFIXES)}.")
    empty = sorted(set(range(len(classes))) - {picture.label for picture in train})
    if empty:
        names = ", ".join(classes[label] for label in empty)
        raise RunError(f"{root / 'train'} has classes without images: {names}. Remove these folders or fill them.")
    return Source(name or root.resolve().name, root, classes, train, val, (*train_stamp, *val_stamp))


def _has(folder: Path, child: str) -> bool:
    return (folder / child).is_dir()


def _folders(folder: Path) -> list[Path]:
    return sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))


def _pictures(root: Path, split: str, classes: tuple[str, ...]) -> tuple[list[Picture], list[Stamp]]:
    pictures, stamp = [], []
    for label, name in enumerate(classes):
        folder = root / split / name
        if not folder.is_dir():
            continue
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            if entry.name.startswith(".") or not entry.name.lower().endswith(SUFFIXES) or not entry.is_file():
                continue
            path, status = f"{split}/{name}/{entry.name}", entry.stat()
            pictures.append(Picture(path, label, root / path))
            stamp.append((path, status.st_size, status.st_mtime_ns))
    return pictures, stamp
