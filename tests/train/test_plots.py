"""The picture of a run is a PNG whatever the run was, and its smoothing is a mean over what there is."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from train.plots import _smooth, curves


def rows(epochs: int, per_epoch: int, momentum: float = 0.9) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    found: list[dict[str, Any]] = []
    for epoch in range(1, epochs + 1):
        for i in range(per_epoch):
            step = (epoch - 1) * per_epoch + i + 1
            loss = float(rng.uniform(0.1, 3))
            found.append(
                {"kind": "step", "epoch": epoch, "step": step, "loss": loss, "lr": 0.1 / step, "momentum": momentum}
            )
        found.append(
            {"kind": "epoch", "epoch": epoch, "train_accuracy": 0.4, "val_accuracy": 0.5, "val_loss": 1.0, "loss": 2.0}
        )
    return found


@pytest.mark.parametrize(
    ("epochs", "per_epoch", "title"),
    [(3, 5, "resnet18, stem c on pets"), (1, 1, "one step"), (2, 3, "cost $5 and $10^{ on _x_ % \\frac")],
)
def test_png(tmp_path: Path, epochs: int, per_epoch: int, title: str) -> None:
    path = tmp_path / "curves.png"
    curves(rows(epochs, per_epoch), path, title)
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        assert image.width > image.height > 200
        colours = {c for _, c in image.convert("RGB").getcolors(1 << 24) or []}
    assert {(255, 255, 255), (228, 87, 86)} <= colours, "paper, and the validation's red"
    assert [p.name for p in tmp_path.iterdir()] == ["curves.png"]


def test_low_momentum_is_in_the_picture(tmp_path: Path) -> None:
    curves(rows(2, 3, momentum=0.2), tmp_path / "curves.png", "")
    with Image.open(tmp_path / "curves.png") as image:
        assert (178, 121, 162) in {c for _, c in image.convert("RGB").getcolors(1 << 24) or []}


@pytest.mark.parametrize("width", [0, 1, 3, 50])
def test_smooth_is_a_centred_mean(rng: np.random.Generator, width: int) -> None:
    values = rng.normal(size=20)
    expected = [values[max(0, i - width) : i + width + 1].mean() for i in range(20)]
    np.testing.assert_allclose(_smooth(values, width), expected, rtol=1e-9, atol=1e-12)
