"""Labelled images for the training programs: `load` finds, checks and caches them, `batches` feeds them to a step.

Nothing heavy is imported before it is needed; what goes wrong and can be mended is a `train.errors.RunError`.
"""

import difflib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from train.data import archive, download, folder
from train.data.cache import squeeze
from train.data.digits import load_digits
from train.data.feed import Batch, batches
from train.data.needs import needs
from train.data.records import default_data_dir, open_records
from train.data.types import Dataset, Picture, Source, Split
from train.errors import RunError

__all__ = ["Batch", "Dataset", "Picture", "Source", "Split", "batches", "load", "source"]

KEYWORDS = ("digits", "tfds")


def load(
    data: str | None,
    *,
    side: int = 160,
    strict: bool = False,
    cache_dir: Path | None = None,
    report: Callable[[str], object] = print,
) -> Dataset:
    """Loads a data set; images of a folder, an archive or records are decoded once and then memory-mapped.

    Args:
        data: `digits`, scikit-learn's 8x8 digits | a folder with train/CLASS/IMAGE and val/CLASS/IMAGE, or the parent
            of one | a .tgz, .tar.gz or .tar archive of such a folder | `tfds` or `tfds:DATA_DIR`, TensorFlow Datasets'
            imagenette/160px-v2 | None, a local copy of Imagenette or else its official archive from the network.
            A folder of the name of a keyword is reached as ./digits.
        side: height and width of the images in pixels (digits stay 8).
        strict: makes an unreadable image an error; otherwise it is left out and reported.
        cache_dir: where archives and arrays are kept: JCONV_CACHE of the environment, or else the user's cache folder.
        report: is given the few lines that a user may want to see.

    Returns:
        The data set, in RGB and with ImageNet's mean and std unless it is `digits`.

    Raises:
        RunError: whatever is wrong with the data, the disk or the network, with the remedy.

    Example:
        >>> load("digits").train.images.shape
        (1437, 8, 8, 1)
    """
    if data == "digits":
        return load_digits()
    if side < 1:
        raise RunError(f"The side of the images must be at least 1 pixel, got {side}.")
    cache_dir = cache_dir or default_cache()
    pictures = source(data, strict=strict, cache_dir=cache_dir, report=report)
    with _permitted():
        return squeeze(pictures, side, cache_dir, strict=strict, report=report)


def source(
    data: str | None,
    *,
    strict: bool = False,
    cache_dir: Path | None = None,
    report: Callable[[str], object] = print,
) -> Source:
    """The encoded pictures of a data set, as they are; arguments and errors as for `load`, without `digits`."""
    cache_dir = cache_dir or default_cache()
    with _permitted():
        return _source(data, strict, cache_dir, report)


@contextmanager
def _permitted() -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise RunError(f"No permission to read or write {error.filename}: {error.strerror}.") from error


def default_cache() -> Path:
    """JCONV_CACHE of the environment, or else the folder for caches of the operating system."""
    if chosen := os.environ.get("JCONV_CACHE"):
        return Path(chosen).expanduser()
    with needs("train"):
        import pooch
    return Path(pooch.os_cache("jconv"))


def _source(data: str | None, strict: bool, cache_dir: Path, report: Callable[[str], object]) -> Source:
    if data is not None and data.partition(":")[0] == "tfds":
        chosen = data.partition(":")[2]
        data_dir = Path(chosen).expanduser() if chosen else default_data_dir()
        return open_records(
            data_dir, lambda: _imagenette(cache_dir, report, [download.ARCHIVE]), strict=strict, report=report
        )
    if data is None:
        return _imagenette(cache_dir, report, archive.OFFICIAL)
    return _path(data, cache_dir)


def _imagenette(cache_dir: Path, report: Callable[[str], object], names: Iterable[str]) -> Source:
    """A local copy of one of the official archives, or the download of the smallest."""
    copy = download.local_copy(cache_dir, names=names)
    if copy is not None:
        report(f"Using {copy}")
    return _path(str(copy or download.fetch(cache_dir, report=report)), cache_dir)


def _path(data: str, cache_dir: Path) -> Source:
    path = Path(data).expanduser()
    if data and path.is_dir():
        return folder.scan(folder.find_root(path))
    if data and path.is_file():
        if not path.name.lower().endswith(archive.SUFFIXES):
            raise RunError(f"{path} is neither a folder nor an archive ({', '.join(archive.SUFFIXES)}).")
        return folder.scan(archive.unpack(path, cache_dir), name=archive.stem(path))
    near = difflib.get_close_matches(data, KEYWORDS, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise RunError(
        f"--data {data}: there is no such folder or archive, and the keywords are {', '.join(KEYWORDS)}.{hint}"
    )
