"""Decoding and the cache of arrays: right pixels from every kind of image, made once, and never from a broken state."""

import errno
import io
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from train.data import cache as caching
from train.data import load
from train.errors import RunError


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("image", "kind", "expected"),
    [
        (Image.new("RGB", (12, 9), (200, 30, 90)), "JPEG", (200, 30, 90)),
        (Image.new("L", (12, 9), 77), "JPEG", (77, 77, 77)),
        (Image.new("L", (12, 9), 77), "PNG", (77, 77, 77)),
        (Image.new("1", (12, 9), 1), "PNG", (255, 255, 255)),
        (Image.new("I;16", (12, 9), 77 * 256), "PNG", (77, 77, 77)),
        (Image.new("RGBA", (12, 9), (200, 30, 90, 128)), "PNG", (200, 30, 90)),
        (Image.new("LA", (12, 9), (77, 128)), "PNG", (77, 77, 77)),
        (Image.new("RGB", (12, 9), (200, 30, 90)).quantize(4), "GIF", (200, 30, 90)),
        (Image.new("CMYK", (12, 9), (55, 225, 165, 0)), "JPEG", (200, 30, 90)),
        (Image.new("CMYK", (12, 9), (55, 225, 165, 0)), "TIFF", (200, 30, 90)),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else str(value),
)
def test_every_mode_becomes_rgb(image: Image.Image, kind: str, expected: tuple[int, ...]) -> None:
    pixels, size = caching.decode(encoded(image, kind), 5)
    assert pixels.shape == (5, 5, 3) and pixels.dtype == np.uint8 and size == (9, 12)
    np.testing.assert_allclose(pixels, np.broadcast_to(expected, (5, 5, 3)), atol=3)


def test_palette_with_transparency() -> None:
    image = Image.new("RGB", (12, 9), (200, 30, 90)).quantize(2)
    pixels, _ = caching.decode(encoded(image, transparency=b"\x80\xff"), 5)
    np.testing.assert_array_equal(pixels, np.broadcast_to((200, 30, 90), (5, 5, 3)))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("scale", [1, 4, 16])
def test_squeezing_is_area_averaging_of_smooth_images(kind: str, scale: int) -> None:
    """A sine wave along each axis, squeezed from 2:1 to a square, is its block means: a transposed one is not."""
    side, (height, width) = 16, (16 * scale, 32 * scale)
    y, x = np.mgrid[:height, :width] / np.array([height, width])[:, None, None]
    image = np.stack([127 + 100 * np.sin(6.28 * x), 127 + 100 * np.sin(3.14 * y), 127 + 60 * x * y], -1)
    image = image.round().astype(np.uint8)
    options = {"quality": 98, "subsampling": 0} if kind == "JPEG" else {}
    pixels, size = caching.decode(encoded(Image.fromarray(image), kind, **options), side)
    means = image.reshape(side, height // side, side, width // side, 3).mean((1, 3))
    assert size == (height, width)
    assert np.abs(pixels - means)[1:-1, 1:-1].max() < 4 < np.abs(pixels - means.swapaxes(0, 1))[1:-1, 1:-1].max()


def test_arrays_follow_the_listing(make_folder, cache: Path) -> None:
    root, lines = make_folder(), []
    data = load(str(root), side=6, cache_dir=cache, report=lines.append)
    assert data.train.labels.tolist() == [0] * 4 + [1] * 3 and data.val.labels.tolist() == [0, 0, 1]
    for split, part in ((data.train, "train"), (data.val, "val")):
        files = sorted((root / part).glob("*/*.JPEG"))
        np.testing.assert_array_equal(split.images, np.stack([caching.decode(path, 6)[0] for path in files]))
        assert isinstance(split.images, np.memmap) and not split.images.flags.writeable
        assert (split.images.dtype, split.labels.dtype, split.sizes.dtype) == (np.uint8, np.int32, np.int32)
        np.testing.assert_array_equal(split.sizes, [[9, 12]] * len(files))
    assert data.mean == (0.485, 0.456, 0.406) and data.std == (0.229, 0.224, 0.225) and data.skipped == ()
    assert len(lines) == 1 and lines[0].startswith("Squeezed 10 images to 6 px in ")


def test_made_once(make_folder, cache: Path, monkeypatch) -> None:
    root = make_folder()
    one = load(str(root), side=6, cache_dir=cache, report=lambda line: None)
    monkeypatch.setattr(caching, "decode", None)
    two = load(str(root), side=6, cache_dir=cache, report=pytest.fail)
    np.testing.assert_array_equal(one.train.images, two.train.images)
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize("change", ["side", "content", "new", "gone", "class"])
def test_any_change_makes_another(make_folder, cache: Path, change: str) -> None:
    root, side, path = make_folder(), 6, None
    load(str(root), side=side, cache_dir=cache, report=lambda line: None)
    path = root / "train/cat/0.JPEG"
    if change == "side":
        side = 7
    elif change == "content":
        Image.new("RGB", (5, 5)).save(path)
    elif change == "new":
        shutil.copy2(path, root / "train/cat/9.JPEG")
    elif change == "gone":
        path.unlink()
    else:
        for split in ("train", "val"):
            (root / split / "cat").rename(root / split / "lynx")
    load(str(root), side=side, cache_dir=cache, report=lambda line: None)
    assert len(list(cache.iterdir())) == 2


def broken(root: Path) -> list[str]:
    """Breaks two images of train/ and one of val/ and returns their paths in order."""
    paths = [root / "train/cat/1.JPEG", root / "train/dog/2.JPEG", root / "val/cat/0.JPEG"]
    paths[0].write_bytes(b"this is no image")
    os.truncate(paths[1], paths[1].stat().st_size * 2 // 3)
    paths[2].write_bytes(b"")
    return [str(path) for path in paths]


def test_unreadable_images_are_skipped_and_remembered(make_folder, cache: Path) -> None:
    root = make_folder()
    paths = broken(root)
    for _ in range(2):  # decoded, then from the cache
        lines: list[str] = []
        data = load(str(root), side=6, cache_dir=cache, report=lines.append)
        assert data.skipped == tuple(paths)
        assert lines[-1] == f"Skipped 3 unreadable images: {', '.join(paths)}."
        assert data.train.images.shape == (5, 6, 6, 3) and data.val.images.shape == (2, 6, 6, 3)
        assert data.train.labels.tolist() == [0, 0, 0, 1, 1] and len(data.train.sizes) == 5
        np.testing.assert_array_equal(data.train.images[1], caching.decode(root / "train/cat/2.JPEG", 6)[0])
    with pytest.raises(RunError, match=f"Cannot read 3 unreadable images: {paths[0]}, .*without --strict"):
        load(str(root), side=6, strict=True, cache_dir=cache)


@pytest.mark.parametrize("error", [OSError(errno.EMFILE, "Too many open files"), MemoryError("no room")])
def test_an_error_that_passes_is_not_remembered(error: Exception, make_folder, cache: Path, monkeypatch) -> None:
    folder, decode = make_folder(), caching.decode
    with monkeypatch.context() as patch:
        patch.setattr(caching, "decode", lambda data, side: (_ for _ in ()).throw(error))
        with pytest.raises(RunError, match=rf"Cannot read .*0.JPEG: .*{error.args[-1]}"):
            load(str(folder), side=4, cache_dir=cache)
    assert caching.decode is decode
    assert not load(str(folder), side=4, cache_dir=cache).skipped


def test_strict_names_the_first_and_leaves_nothing(make_folder, cache: Path) -> None:
    root = make_folder()
    paths = broken(root)
    with pytest.raises(RunError, match=f"Cannot read the image {paths[0]} .*Replace or delete it, or run without"):
        load(str(root), side=6, strict=True, cache_dir=cache)
    assert list(cache.iterdir()) == []


def test_a_long_list_is_cut_short(make_folder, cache: Path) -> None:
    root, lines = make_folder("pets", {"train/cat": 9, "val/cat": 1}), []
    for i in range(1, 9):
        (root / f"train/cat/{i}.JPEG").write_bytes(b"")
    load(str(root), side=6, cache_dir=cache, report=lines.append)
    assert re.match(r"Skipped 8 unreadable images: (\S+, ){2}\S+ and 5 more\.$", lines[-1])


@pytest.mark.parametrize("split", ["train", "val"])
def test_every_image_unreadable(make_folder, cache: Path, split: str) -> None:
    root = make_folder("pets", {"train/cat": 2, "val/cat": 2})
    for path in (root / split).glob("*/*"):
        path.write_bytes(b"no image")
    message = f"None of the 2 images of {root / split} can be read; the first, {split}/cat/0.JPEG: cannot identify"
    with pytest.raises(RunError, match=message):
        load(str(root), side=6, cache_dir=cache)
    assert list(cache.iterdir()) == []


def test_full_disk(make_folder, cache: Path, monkeypatch) -> None:
    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    root = make_folder()
    monkeypatch.setattr(caching, "open", lambda *_: Full(), raising=False)
    with pytest.raises(RunError) as caught:
        load(str(root), side=100, cache_dir=cache)
    assert re.search(rf"The disk of {cache}/pets-100px-\w+ is full: 0\.3 MB needed, \S+ MB free\.", str(caught.value))
    assert str(caught.value).endswith("JCONV_CACHE=/another/disk, or use a smaller --side.")
    assert list(cache.iterdir()) == []


def test_damaged_cache(make_folder, cache: Path) -> None:
    root = make_folder()
    load(str(root), side=6, cache_dir=cache, report=lambda line: None)
    (folder,) = cache.iterdir()
    os.truncate(folder / "train-images.npy", 200)
    with pytest.raises(RunError, match=f"The cache {folder} is damaged .*Delete this folder and run again"):
        load(str(root), side=6, cache_dir=cache)


def test_real_pictures(real_folder: Path, cache: Path) -> None:
    data = load(str(real_folder), side=32, strict=True, cache_dir=cache, report=lambda line: None)
    assert data.train.images.shape == (9469, 32, 32, 3) and data.val.images.shape == (3925, 32, 32, 3)
    assert np.bincount(data.train.labels).tolist() == [963, 955, 993, 858, 941, 956, 961, 931, 951, 960]
    assert data.classes[0] == "tench" and data.skipped == () and (data.train.sizes == 160).all()
    grey = [int((split.images == split.images[..., :1]).all((1, 2, 3)).sum()) for split in (data.train, data.val)]
    assert 173 <= grey[0] < 200 and 69 <= grey[1] < 100  # so many are stored as grey, a few more as RGB that is grey
    mean = data.train.images[::10].mean((0, 1, 2)) / 255
    np.testing.assert_allclose(mean, data.mean, atol=0.03)
