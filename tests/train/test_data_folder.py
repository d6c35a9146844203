"""Folders of images: the layout, what counts as an image, the order of the labels, and every way to get it wrong."""

import re
import shutil
from pathlib import Path

import pytest

from train.data import load
from train.data.folder import WORDS, find_root, scan, words
from train.errors import RunError


def test_labels_follow_the_sorted_names_of_train(make_folder) -> None:
    source = scan(make_folder("zoo", {"train/b": 2, "train/a": 1, "train/c": 1, "val/c": 1}))
    assert source.classes == ("a", "b", "c") and source.name == "zoo"
    assert [(p.name, p.label) for p in source.train] == [
        ("train/a/0.JPEG", 0),
        ("train/b/0.JPEG", 1),
        ("train/b/1.JPEG", 1),
        ("train/c/0.JPEG", 2),
    ]
    assert [(p.name, p.label) for p in source.val] == [("val/c/0.JPEG", 2)]  # a class need not be in val


def test_suffixes_in_any_case_and_nothing_hidden(make_folder) -> None:
    root = make_folder("zoo", {"train/a": 1, "val/a": 1, "train/.ipynb_checkpoints": 1})
    for name in ("x.PnG", "y.webp", ".hidden.jpg", "notes.txt", "Thumbs.db"):
        (root / "train/a" / name).write_bytes(b"")
    (root / "train/a/folder.jpg").mkdir()
    (root / "train/readme.jpg").write_bytes(b"")
    assert [p.name for p in scan(root).train] == ["train/a/0.JPEG", "train/a/x.PnG", "train/a/y.webp"]


def test_parent_of_the_root_will_do(make_folder, tmp_path: Path) -> None:
    root = make_folder("imagenette2-160")
    assert find_root(root) == find_root(tmp_path) == root


def test_words_of_imagenette() -> None:
    assert words((*sorted(WORDS), "mosque")) == (
        *("tench", "English springer", "cassette player", "chain saw", "church"),
        *("French horn", "garbage truck", "gas pump", "golf ball", "parachute"),
        "mosque",
    )


def fails(folder: Path, message: str) -> None:
    with pytest.raises(RunError, match=re.escape(message)):
        load(str(folder), cache_dir=folder.parent / "cache")


def test_missing_directory(tmp_path: Path) -> None:
    fails(tmp_path / "nowhere", f"{tmp_path / 'nowhere'}: there is no such folder or archive")
    with pytest.raises(RunError, match=r"There is no directory .*nowhere"):
        find_root(tmp_path / "nowhere")


def test_empty_directory(tmp_path: Path) -> None:
    (tmp_path / "void").mkdir()
    fails(tmp_path / "void", f"{tmp_path / 'void'} is empty: expected train/CLASS/IMAGE and val/CLASS/IMAGE")


@pytest.mark.parametrize(("removed", "missing"), [("val", "no val/"), ("train", "no train/")])
def test_half_of_the_layout(make_folder, removed: str, missing: str) -> None:
    root = make_folder("parent/pets")
    shutil.rmtree(root / removed)
    fails(root, f"{root} has {missing}: expected")
    fails(root.parent, f"{root} has {missing}: expected")


def test_neither_half(make_folder) -> None:
    root = make_folder("pets", {"cat": 1, "dog": 1})
    fails(root, f"{root} has no train/ and no val/: expected")


def test_several_data_sets(make_folder, tmp_path: Path) -> None:
    make_folder("one")
    make_folder("two")
    fails(tmp_path, f"{tmp_path} holds several data sets (one, two): name one of them.")


def test_class_that_train_lacks(make_folder) -> None:
    root = make_folder("pets", {"train/cat": 1, "val/cat": 1, "val/eel": 1, "val/owl": 1})
    fails(root, f"{root}/val has classes that train/ lacks: eel, owl.")


def test_class_without_images(make_folder) -> None:
    root = make_folder("pets", {"train/cat": 1, "train/dog": 0, "val/cat": 1})
    fails(root, f"{root}/train has classes without images: dog.")


@pytest.mark.parametrize("split", ["train", "val"])
def test_split_without_images(make_folder, split: str) -> None:
    root = make_folder("pets", {"train/cat": split != "train", "val/cat": split != "val"})
    fails(root, f"{root}/{split} holds no images: expected")
