"""TensorFlow Datasets without TensorFlow: built once from a folder, read back, and read by tfds itself."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("tensorflow_datasets")
pytest.importorskip("array_record")

from train.data import download, load, records
from train.errors import RunError

VERSION = Path("imagenette/160px-v2/1.0.0")


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch) -> Path:
    """A working directory of its own, so that no other copy of Imagenette is found, and no network."""

    def unreachable(cache_dir: Path, **options: object) -> Path:
        raise RunError("no network in a test")

    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(download, "fetch", unreachable)
    return tmp_path / "work"


def by_label_and_pixels(split) -> list[tuple[int, bytes]]:
    return sorted((int(label), image.tobytes()) for label, image in zip(split.labels, split.images, strict=True))


def test_built_once_and_the_same_as_the_folder(make_folder, cache: Path, tmp_path: Path) -> None:
    root, lines = make_folder("work/imagenette2-160"), []
    where = f"tfds:{tmp_path / 'records'}"
    data = load(where, side=6, cache_dir=cache, report=lines.append)
    assert lines[1] == f"Built imagenette/160px-v2 from imagenette2-160: {tmp_path / 'records' / VERSION}"
    folder = load(str(root), side=6, cache_dir=cache, report=lines.append)
    assert data.name == "imagenette/160px-v2" and data.classes == folder.classes == ("cat", "dog")
    for split in ("train", "val"):
        assert by_label_and_pixels(getattr(data, split)) == by_label_and_pixels(getattr(folder, split))
        np.testing.assert_array_equal(getattr(data, split).sizes, getattr(folder, split).sizes)
    (root / "train").rename(root / "away")  # nothing to build from any more
    again = load(where, side=6, cache_dir=cache, report=pytest.fail)
    np.testing.assert_array_equal(data.train.images, again.train.images)
    assert "tensorflow" not in sys.modules
    assert [path.name for path in (tmp_path / "records" / VERSION).parent.iterdir()] == [VERSION.name]


def test_tfds_reads_what_was_built(make_folder, cache: Path, tmp_path: Path, monkeypatch) -> None:
    import tensorflow_datasets as tfds

    make_folder("work/imagenette2-160")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "records"))
    load("tfds", side=6, cache_dir=cache, report=lambda line: None)
    source: Any = tfds.data_source("imagenette/160px-v2", data_dir=tmp_path / "records", download=False)
    assert {name: len(split) for name, split in source.items()} == {"train": 7, "validation": 3}
    example = source["train"][0]
    assert sorted(example) == ["image", "label"] and example["image"].shape == (9, 12, 3)
    assert tfds.builder_cls("imagenette").__module__.startswith("tensorflow_datasets.")  # ours takes no name away


def test_other_formats_become_jpeg_and_jpegs_stay(make_folder, cache: Path, tmp_path: Path) -> None:
    root = make_folder("work/imagenette2-160", {"train/cat": 1, "val/cat": 1})
    Image.new("CMYK", (12, 9), (55, 225, 165, 0)).save(root / "train/cat/cmyk.jpg")
    Image.new("L", (12, 9), 77).save(root / "train/cat/grey.jpg")
    Image.new("RGBA", (12, 9), (30, 200, 90, 9)).save(root / "train/cat/alpha.png")
    load(f"tfds:{tmp_path}", side=6, cache_dir=cache, report=lambda line: None)
    source = records.open_records(tmp_path, lambda: pytest.fail("was built again"))
    stored = {picture.data for picture in source.train}
    assert {(root / "train/cat" / name).read_bytes() for name in ("0.JPEG", "grey.jpg")} < stored
    assert len(stored) == 4 and all(isinstance(data, bytes) and data[:2] == b"\xff\xd8" for data in stored)


def test_unreadable_images(make_folder, cache: Path, tmp_path: Path) -> None:
    path = make_folder("work/imagenette2-160") / "train/cat/1.JPEG"
    path.write_bytes(b"no image")
    with pytest.raises(RunError, match=r"Cannot read the image imagenette2-160/train/cat/1\.JPEG"):
        load(f"tfds:{tmp_path}", side=6, strict=True, cache_dir=cache)
    assert list((tmp_path / VERSION).parent.iterdir()) == []
    lines: list[str] = []
    data = load(f"tfds:{tmp_path}", side=6, cache_dir=cache, report=lines.append)
    assert len(data.train) == 6 and "Left out 1 unreadable: imagenette2-160/train/cat/1.JPEG" in lines


def test_full_disk(make_folder, cache: Path, tmp_path: Path, monkeypatch) -> None:
    from train.data.builder import Imagenette

    def fail(self: Imagenette) -> None:
        raise RuntimeError("write() failed: No space left on device; writing train.array_record")

    make_folder("work/imagenette2-160")
    monkeypatch.setattr(Imagenette, "download_and_prepare", fail)
    with pytest.raises(RunError, match=f"The disk of {tmp_path / VERSION} is full: .*--data tfds:DATA_DIR"):
        load(f"tfds:{tmp_path}", cache_dir=cache, report=lambda line: None)
    assert list((tmp_path / VERSION).parent.iterdir()) == []


def test_nothing_to_build_from(cache: Path, tmp_path: Path) -> None:
    message = f"{tmp_path} holds no imagenette/160px-v2, and there is nothing to build it from.\nno network in a test"
    with pytest.raises(RunError, match=message):
        load(f"tfds:{tmp_path}", cache_dir=cache)


def test_only_160_px_is_built_from(make_folder, cache: Path, tmp_path: Path) -> None:
    make_folder("work/imagenette2-320")
    with pytest.raises(RunError, match="nothing to build it from"):
        load(f"tfds:{tmp_path}", cache_dir=cache)


def test_records_of_another_kind(tmp_path: Path, cache: Path) -> None:
    (tmp_path / VERSION).mkdir(parents=True)
    with pytest.raises(RunError, match=f"{VERSION} cannot be read without TensorFlow .*--data tfds:DATA_DIR"):
        load(f"tfds:{tmp_path}", cache_dir=cache)


def test_missing_package_names_the_extra(tmp_path: Path, cache: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(RunError, match=r'tensorflow_datasets is not installed; run: pip install "jconv\[tfds\]"'):
        load(f"tfds:{tmp_path}", cache_dir=cache)
