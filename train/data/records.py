"""Imagenette as TensorFlow Datasets records (`imagenette/160px-v2`), read and, if need be, built without TensorFlow.

Reading goes through `as_data_source`, which needs array_record only; building through `train.data.builder`.
"""

import contextlib
import errno
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, overload

from train.data.bar import bar
from train.data.cache import decode, unreadable
from train.data.needs import needs
from train.data.types import Picture, Source
from train.data.whole import make_once
from train.errors import RunError

NAME = "imagenette/160px-v2"


def default_data_dir() -> Path:
    """The folder tfds itself would use: the environment's TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    return Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def open_records(
    data_dir: Path, origin: Callable[[], Source], *, strict: bool = False, report: Callable[[str], object] = print
) -> Source:
    """Returns the records below `data_dir` as a Source; if there are none, they are built there first.

    Args:
        data_dir: as in `tfds.load(..., data_dir=...)`.
        origin: is asked for the pictures to build from.
        strict: makes an unreadable picture an error instead of leaving it out.
        report: is given one line when records were built, and one when pictures were left out.

    Raises:
        RunError: nothing to build from, a full disk, or records of another file format than array_record.
    """
    with needs("tfds"):
        import array_record.python.array_record_data_source  # noqa: F401  tfds imports it late
        import tensorflow_datasets as tfds

        from train.data import builder
    folder = data_dir / NAME / builder.VERSION
    if not folder.exists():
        _build(folder, _origin(origin, data_dir), strict, report)
    try:
        prepared: Any = tfds.builder_from_directory(folder)
        decoders = {"image": tfds.decode.SkipDecoding()}  # to be decoded as the files of a folder are
        train, val = (prepared.as_data_source(split, decoders=decoders) for split in ("train", "validation"))
        classes = tuple(prepared.info.features["label"].names)
    except Exception as error:  # tfds and etils raise many kinds for a folder that is not as they wrote it
        raise RunError(
            f"{folder} cannot be read without TensorFlow ({str(error).splitlines()[0]}). Name a new folder for records "
            "of the array_record format: --data tfds:DATA_DIR"
        ) from error
    files = sorted(path for path in folder.iterdir() if path.is_file())
    stamp = tuple((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files)
    return Source(NAME, folder, classes, _Records(train, "train"), _Records(val, "validation"), stamp)


class _Records(Sequence[Picture]):
    """A split of encoded records as pictures, read one by one as they are asked for."""

    def __init__(self, examples: Sequence[Any], split: str) -> None:
        self.examples, self.split = examples, split

    def __len__(self) -> int:
        return len(self.examples)

    @overload
    def __getitem__(self, index: int) -> Picture: ...
    @overload
    def __getitem__(self, index: slice) -> "list[Picture]": ...
    def __getitem__(self, index: int | slice) -> "Picture | list[Picture]":
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if index >= len(self):  # which ends an iteration
            raise IndexError(index)
        example = self.examples[index]
        return Picture(f"{self.split}[{index}]", int(example["label"]), example["image"])


def _origin(origin: Callable[[], Source], data_dir: Path) -> Source:
    try:
        return origin()
    except RunError as error:
        raise RunError(f"{data_dir} holds no {NAME}, and there is nothing to build it from.\n{error}") from error


def _build(folder: Path, source: Source, strict: bool, report: Callable[[str], object]) -> None:
    import tensorflow_datasets as tfds

    from train.data.builder import Imagenette

    skipped: list[str] = []

    def make(part: Path) -> None:
        with bar(f"Building {NAME}", len(source.train) + len(source.val)) as advance:

            def keep(picture: Picture) -> bool:
                advance(1)
                try:
                    decode(picture.data, side=8)
                except Exception as error:  # a broken file makes Pillow raise almost anything
                    if strict:
                        raise unreadable(source.where / picture.name, error) from error
                    skipped.append(str(source.where / picture.name))
                    return False
                return True

            build = Imagenette(source, keep, part.parent)
            tfds.disable_progress_bar()
            try:
                with contextlib.redirect_stdout(io.StringIO()):  # tfds prints
                    build.download_and_prepare()
            except RuntimeError as error:  # of array_record, for whatever the system refuses
                if os.strerror(errno.ENOSPC) in str(error):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
                raise
        os.replace(build.data_path, part)

    remedy = "Free some room, or name a folder on another disk: --data tfds:DATA_DIR"
    make_once(folder, make, size=sum(size for _, size, _ in source.stamp), remedy=remedy)
    report(f"Built {NAME} from {source.where}: {folder}")
    if skipped:
        report(f"Left out {len(skipped):,} unreadable: {', '.join(skipped[:3])}{', ...' if len(skipped) > 3 else ''}")
