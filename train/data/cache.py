"""Decodes every picture of a source once, squeezed to side x side pixels, into memory-mapped arrays in the cache.

The folder is named by a digest of the source's listing and of the side: a changed image or side makes a new one.
"""

import hashlib
import io
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from train.data.bar import bar
from train.data.folder import words
from train.data.needs import needs
from train.data.types import Dataset, Picture, Source, Split
from train.data.whole import ELSEWHERE, make_once
from train.errors import RunError

if TYPE_CHECKING:
    from PIL import Image

FORMAT = 1  # part of the key: raise it when the arrays or how they are made change
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as torchvision and timm use them

Report = Callable[[str], object]
Decoded = tuple[np.ndarray, tuple[int, int]]  # uint8 (side, side, 3); original (height, width)


def squeeze(source: Source, side: int, cache_dir: Path, *, strict: bool, report: Report) -> Dataset:
    """Returns the source as a Dataset of memory-mapped arrays, made now if the cache does not have them.

    Args:
        source: the encoded pictures.
        side: height and width in pixels; the aspect ratio is squeezed away, the original sizes are kept beside it.
        cache_dir: the cache.
        strict: makes an unreadable image an error instead of a line in the report.
        report: is given one line when the arrays were made, and one when images were skipped.

    Raises:
        RunError: an unreadable image (strict), every image of a split unreadable, a full disk, a damaged cache.
    """
    listing = json.dumps([FORMAT, side, source.classes, source.stamp])
    key = hashlib.sha256(listing.encode()).hexdigest()[:12]
    final = cache_dir / f"{source.name.replace('/', '-')}-{side}px-{key}"
    count = len(source.train) + len(source.val)

    def make(part: Path) -> None:
        with needs("train"):
            import PIL.Image  # noqa: F401  a missing Pillow is no unreadable image
        part.mkdir()
        start = time.perf_counter()
        with bar(f"Squeezing images to {side} px", count) as advance, ThreadPoolExecutor(os.cpu_count()) as pool:
            skipped = [
                name
                for split, pictures in (("train", source.train), ("val", source.val))
                for name in _write(pool, pictures, side, part / split, source.where, strict, advance)
            ]
        (part / "manifest.json").write_text(json.dumps({"source": str(source.where), "side": side, "skipped": skipped}))
        report(f"Squeezed {count:,} images to {side} px in {time.perf_counter() - start:.1f} s: {final}")

    make_once(final, make, size=count * side * side * 3, remedy=f"{ELSEWHERE}, or use a smaller --side.")
    return _open(final, source, strict, report)


def decode(data: Path | bytes, side: int) -> Decoded:
    """Decodes an image to RGB, uint8 (side, side, 3), and its original (height, width).

    A JPEG is decoded at the smallest scale that is still twice as large as asked for; the rest is bicubic and
    antialiased.
    """
    with needs("train"):
        from PIL import Image
    with Image.open(data if isinstance(data, Path) else io.BytesIO(data)) as image:
        width, height = image.size
        image.draft(None, (2 * side, 2 * side))
        return np.asarray(rgb(image).resize((side, side), Image.Resampling.BICUBIC)), (height, width)


def rgb(image: "Image.Image") -> "Image.Image":
    """Grey, palette and CMYK images become RGB; transparency is dropped."""
    from PIL import Image

    if image.mode.startswith("I;16"):  # 16 bits of grey, which convert() would clip to white
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def decoded(
    pool: ThreadPoolExecutor, pictures: Sequence[Picture], side: int
) -> Iterator[tuple[Picture, Decoded | Exception]]:
    """Yields each picture, in order, with what `decode` makes of it or the exception that it raises.

    Threads, not processes: Pillow decodes outside of the interpreter's lock, and JAX does not survive a fork.
    """
    pending: deque[tuple[Picture, Future[Decoded | Exception]]] = deque()
    for picture in pictures:
        pending.append((picture, pool.submit(_attempt, picture.data, side)))
        if len(pending) >= 64:  # bounds the memory when writing is slower than decoding
            first, future = pending.popleft()
            yield first, future.result()
    for picture, future in pending:
        yield picture, future.result()


def _attempt(data: Path | bytes, side: int) -> Decoded | Exception:
    try:
        return decode(data, side)
    except Exception as error:  # a broken file makes Pillow raise almost anything
        if passing(error):
            raise RunError(f"Cannot read {data if isinstance(data, Path) else 'an image'}: {error}.") from error
        return error


def passing(error: Exception) -> bool:
    """Whether an error is the system's, which says nothing of the picture: no such file, no memory, no permission."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno is not None)


def unreadable(path: Path, error: Exception) -> RunError:
    """The error of strict reading, which names the image."""
    return RunError(
        f"Cannot read the image {path} ({error}). Replace or delete it, or run without --strict to skip it."
    )


def _write(
    pool: ThreadPoolExecutor,
    pictures: Sequence[Picture],
    side: int,
    stem: Path,
    where: Path,
    strict: bool,
    advance: Callable[[int], None],
) -> list[str]:
    """Writes STEM-images.npy, -labels.npy and -sizes.npy and returns the names of the pictures left out.

    The images go through write(), not through a memory map, in which a full disk would be a bus error.
    """
    labels, sizes, skipped = [], [], []
    first: Exception | None = None
    with open(f"{stem}-images.npy", "wb") as file:
        _header(file, (len(pictures), side, side, 3))
        for picture, result in decoded(pool, pictures, side):
            advance(1)
            if isinstance(result, Exception):
                if strict:
                    raise unreadable(where / picture.name, result) from result
                first = first or result
                skipped.append(picture.name)
                continue
            pixels, size = result
            file.write(pixels.tobytes())
            labels.append(picture.label)
            sizes.append(size)
        file.seek(0)
        _header(file, (len(labels), side, side, 3))
    if not labels:
        raise RunError(
            f"None of the {len(skipped)} images of {where / stem.name} can be read; the first, {skipped[0]}: {first}."
        )
    np.save(f"{stem}-labels.npy", np.array(labels, np.int32))
    np.save(f"{stem}-sizes.npy", np.array(sizes, np.int32))
    return skipped


def _header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    """Writes a .npy header, which numpy pads so that the first axis can shrink or grow without moving the data."""
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


def _open(folder: Path, source: Source, strict: bool, report: Report) -> Dataset:
    try:
        names = json.loads((folder / "manifest.json").read_text())["skipped"]
        train, val = (
            Split(
                np.load(folder / f"{split}-images.npy", mmap_mode="r"),
                np.load(folder / f"{split}-labels.npy"),
                np.load(folder / f"{split}-sizes.npy"),
            )
            for split in ("train", "val")
        )
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"The cache {folder} is damaged ({error}). Delete this folder and run again.") from error
    skipped = tuple(str(source.where / name) for name in names)
    if skipped and strict:
        raise RunError(f"Cannot read {_list(skipped)}. Replace or delete them, or run without --strict to skip them.")
    if skipped:
        report(f"Skipped {_list(skipped)}.")
    return Dataset(source.name, train, val, words(source.classes), MEAN, STD, skipped)


def _list(paths: tuple[str, ...]) -> str:
    more = f" and {len(paths) - 3:,} more" if len(paths) > 3 else ""
    return f"{len(paths):,} unreadable image{'s' if len(paths) > 1 else ''}: {', '.join(paths[:3])}{more}"
