"""Fixtures of the training tests: a network and data that train in a second; tiny images made on the fly, archives
of them, and the real pictures if there are any.

The real ones are read from the folder named by JCONV_TEST_DATA, which holds imagenette2-160-{train-a,train-b,val}.tar.
"""

import dataclasses
import io
import os
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from jconv.layers import Activation, BatchNorm, Conv, GlobalAvgPool, Linear
from jconv.models import Network
from train import checkpoint, loop, plots
from train.config import Config
from train.data import Dataset, Split

Layout = Mapping[str, int]
MakeFolder = Callable[..., Path]
Fit = Callable[..., dict[str, Any]]


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """`make_folder("name", {"train/cat": 3, "val/cat": 1})` writes so many random 12x9 JPEGs and returns the folder."""

    def make(name: str = "pets", layout: Layout | None = None) -> Path:
        rng = np.random.default_rng(0)
        root = tmp_path / name
        for folder, count in (layout or {"train/cat": 4, "train/dog": 3, "val/cat": 2, "val/dog": 1}).items():
            (root / folder).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (9, 12, 3), np.uint8)
                Image.fromarray(pixels).save(root / folder / f"{i}.JPEG")
        return root

    return make


@pytest.fixture
def make_archive(make_folder: MakeFolder) -> Callable[..., Path]:
    """`make_archive("pets.tgz")` packs a `make_folder` beside it."""

    def make(name: str = "pets.tgz", layout: Layout | None = None) -> Path:
        folder = make_folder(name.partition(".")[0], layout)
        archive = folder.parent / name
        with tarfile.open(archive, "w" if name.endswith(".tar") else "w:gz") as tar:
            tar.add(folder, folder.name)
        return archive

    return make


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache folder that is not there yet."""
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def real_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the three archives of real pictures are unpacked into."""
    where = os.environ.get("JCONV_TEST_DATA")
    if not where:
        pytest.skip("JCONV_TEST_DATA does not name a folder with imagenette2-160-{train-a,train-b,val}.tar")
    folder = tmp_path_factory.mktemp("real")
    for part in ("train-a", "train-b", "val"):
        with tarfile.open(Path(where) / f"imagenette2-160-{part}.tar") as tar:
            tar.extractall(folder, filter="data")
    return folder


@pytest.fixture(autouse=True)
def _strict() -> None:
    """Not here: optax mixes dtypes."""


@pytest.fixture(autouse=True)
def _fast_compilation() -> Iterator[None]:
    """XLA's optimisations cost these tests minutes: most of all, of what draws random numbers."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def tiny_network() -> Network:
    """A network of four classes that compiles in a second: convolution, BatchNorm, ReLU, mean, classifier."""
    return Network(
        stages={},
        conv1=Conv(4, 3, bias=False),
        bn1=BatchNorm(),
        act1=Activation("relu"),
        global_pool=GlobalAvgPool(),
        fc=Linear(4),
    )


@pytest.fixture
def tiny_data() -> Dataset:
    """42 and 10 images of 8x8 in four classes that differ in brightness, from random originals of 5 to 15 pixels."""
    rng = np.random.default_rng(1)

    def split(n: int) -> Split:
        labels = rng.integers(0, 4, n).astype(np.int32)
        images = rng.integers(0, 120, (n, 8, 8, 3)) + 40 * labels[:, None, None, None]
        return Split(images.astype(np.uint8), labels, rng.integers(5, 16, (n, 2)).astype(np.int32))

    mean, std = (0.4, 0.45, 0.5), (0.2, 0.25, 0.3)
    return Dataset("squares", split(42), split(10), ("a", "b", "c", "d"), mean, std, ())


@pytest.fixture
def tiny_config(tmp_path: Path) -> Config:
    """A complete config for `tiny_data`, of three epochs of five steps."""
    config = Config(
        data="tiny", model="tiny", epochs=3, size=8, batch_size=8, lr=0.1, min_scale=0.5, flip=True, crop=1.0,
        out=tmp_path / "run",
    ).complete("imagenette")  # fmt: skip
    config.check()
    return config


@pytest.fixture
def screen() -> Console:
    """A screen of 80 columns that `fit` writes on."""
    return Console(file=io.StringIO(), width=80, soft_wrap=True, markup=False)


@pytest.fixture
def fit(monkeypatch, tiny_network: Network, tiny_data: Dataset, tiny_config: Config, screen: Console) -> Fit:
    """`fit(data, **changes)` runs `tiny_config` with these changes; its picture is an empty file, to save time."""
    monkeypatch.setattr(loop, "network_of", lambda config, classes: tiny_network)
    monkeypatch.setattr(plots, "curves", lambda rows, path, title: checkpoint.write(path, b""))

    def run(data: Dataset = tiny_data, /, **changes: Any) -> dict[str, Any]:
        return loop.fit(dataclasses.replace(tiny_config, **changes), data, screen)

    return run
