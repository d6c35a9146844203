"""What `load` makes of the word it is given, where the cache is, and what is imported before it is needed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import train.data
from train.data import default_cache, load
from train.errors import RunError

ROOT = Path(train.data.__file__).parents[2]


@pytest.mark.parametrize(
    ("word", "hint"),
    [("digit", " Did you mean digits?"), ("Digits", " Did you mean digits?"), ("tdfs", " Did you mean tfds?")],
)
def test_unknown_word(word: str, hint: str, cache: Path) -> None:
    with pytest.raises(RunError) as caught:
        load(word, cache_dir=cache)
    head = f"--data {word}: there is no such folder or archive, and the keywords are digits, tfds."
    assert str(caught.value) == head + hint and not cache.exists()


@pytest.mark.parametrize("word", ["", "imagenet", "some/where.tgz"])
def test_unknown_word_far_from_all(word: str, cache: Path) -> None:
    with pytest.raises(RunError, match=r"the keywords are digits, tfds\.$"):
        load(word, cache_dir=cache)


def test_side_below_one(make_folder, cache: Path) -> None:
    with pytest.raises(RunError, match="must be at least 1 pixel, got 0"):
        load(str(make_folder()), side=0, cache_dir=cache)


def test_cache_of_the_environment(make_folder, cache: Path, monkeypatch) -> None:
    monkeypatch.setenv("JCONV_CACHE", str(cache))
    assert default_cache() == cache
    load(str(make_folder()), side=6, report=lambda line: None)
    assert len(list(cache.iterdir())) == 1
    monkeypatch.delenv("JCONV_CACHE")
    assert default_cache().name == "jconv"


def test_missing_package_names_the_extra(make_folder, cache: Path, monkeypatch) -> None:
    root = make_folder()
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(RunError, match=r'sklearn is not installed; run: pip install "jconv\[train\]"'):
        load("digits")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(RunError, match=r'PIL is not installed; run: pip install "jconv\[train\]"'):
        load(str(root), cache_dir=cache)


def test_permission_denied(make_folder, cache: Path, monkeypatch) -> None:
    def refuse(*args: object) -> None:
        raise PermissionError(13, "Permission denied", "pets/train")

    root = make_folder()
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(RunError, match="No permission to read or write pets/train: Permission denied"):
        load(str(root), cache_dir=cache)


def test_import_is_light() -> None:
    heavy = "{'jax', 'PIL', 'pooch', 'requests', 'rich', 'sklearn', 'tensorflow_datasets', 'tensorflow'}"
    code = f"import sys, train.data; print(sorted({heavy} & set(sys.modules)))"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    output = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert output.stdout == "[]\n"
