"""Accuracy on labelled pictures: against a naive count, of the network on the shelf, and with what goes wrong."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from jconv import models, weights
from tests.train.conftest import MakeFolder
from train import evaluate, trained
from train.errors import RunError
from train.evaluate import judge, targets

IMAGENETTE = {
    "n01440764": 0, "n02102040": 217, "n02979186": 482, "n03000684": 491, "n03028079": 497, "n03394916": 566,
    "n03417042": 569, "n03425413": 571, "n03445777": 574, "n03888257": 701,
}  # fmt: skip


def test_scores_are_counted(rng: np.random.Generator) -> None:
    """Logits far from 0 too, where exp alone overflows."""
    found, labels = rng.normal(size=(200, 12)).astype(np.float32) * 300 + 900, rng.integers(0, 12, 200)
    scores = judge(found, labels, [f"c{i}" for i in range(12)])
    order = np.argsort(-found, axis=1)
    assert scores.top1 == np.mean([a == b for a, b in zip(order[:, 0], labels, strict=True)])
    assert scores.top5 == np.mean([b in a for a, b in zip(order[:, :5], labels, strict=True)])
    loss = -jax.nn.log_softmax(found)[np.arange(200), labels].mean()
    np.testing.assert_allclose(scores.loss, loss, rtol=1e-5)
    assert sum(n for _, _, n in scores.taken_for) == 200 - round(200 * scores.top1)
    assert [n for *_, n in scores.taken_for] == sorted((n for *_, n in scores.taken_for), reverse=True)
    a, b, n = scores.taken_for[0]
    assert n == sum((f"c{i}", f"c{j}") == (a, b) for i, j in zip(labels, order[:, 0], strict=True))
    np.testing.assert_allclose(scores.error, np.std(order[:, 0] == labels) / 200**0.5)


def test_of_equal_logits_the_first_is_taken() -> None:
    """As argmax does: a network that says nothing is right one time in ten."""
    scores = judge(np.zeros((40, 10)), np.arange(40) % 10, [f"c{i}" for i in range(10)])
    assert (scores.top1, scores.top5) == (0.1, 0.5)
    assert sum(n for *_, n in scores.taken_for) == 36


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_no_answer(bad: float) -> None:
    found = np.zeros((4, 10))
    found[1, 3] = bad
    with pytest.raises(RunError, match="logits are not finite for 1 of 4 pictures: its weights are broken"):
        judge(found, np.arange(4), [f"c{i}" for i in range(10)])


def ready(classes: tuple[str, ...]) -> models.Trained:
    return models.Trained(models.create("lenet5"), {}, {}, weights.Preprocessing(), classes, {})


def test_wordnet_ids_are_imagenets_places() -> None:
    assert targets(list(IMAGENETTE), ready(trained.words())).tolist() == list(IMAGENETTE.values())
    ids = trained.wnids()
    assert len(set(ids)) == 1000 and list(ids) == sorted(ids)
    words = trained.words()
    assert {words[i] for i in (0, 497, 566, 574, 701)} == {"tench", "church", "French horn", "golf ball", "parachute"}


def test_words_are_places_too() -> None:
    network = ready(("cat", "church", "dog"))
    assert targets(["dog", "n03028079", "cat"], network).tolist() == [2, 1, 0]
    with pytest.raises(RunError, match=r"does not know cow, n01440764: .* its 3 classes \(cat, church, dog, ...\)"):
        targets(["dog", "cow", "n01440764"], network)


def test_the_shelf_keeps_its_word(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Every network on it, on the data that its card names, where they come with a package."""
    for name, card in models.shelf().items():
        if card["data"] != "digits":
            continue
        out = tmp_path / f"{name}.json"
        assert evaluate.main(["--model", name, "--data", "digits", "--out", str(out)]) == 0
        found = json.loads(out.read_text())
        assert round(100 * found["top1"], 2) == card["accuracy_of_these_weights"] and found["n"] == card["val_images"]
        assert f"top-1 {found['top1']:.2%}" in capsys.readouterr().out


@pytest.mark.slow
def test_the_shelf_keeps_its_word_on_pictures(real_folder: Path, tmp_path: Path) -> None:
    """On the pictures as they are, where training validates on those it has squeezed to squares."""
    for name, card in models.shelf().items():
        if not card["data"].startswith("imagenette"):
            continue
        out = tmp_path / f"{name}.json"
        assert evaluate.main(["--model", name, "--data", str(real_folder), "--out", str(out)]) == 0
        found = json.loads(out.read_text())
        assert found["n"] == card["val_images"]
        assert abs(100 * found["top1"] - card["accuracy_of_these_weights"]) < 1


def test_pictures_that_cannot_be_read(make_folder: MakeFolder, tmp_path: Path, capsys, monkeypatch) -> None:
    folder = make_folder("pets", {"train/0": 1, "val/0": 3, "val/1": 2, "train/1": 1})
    (folder / "val/1/broken.JPEG").write_bytes(b"no picture")
    Image.new("L", (30, 9), 200).save(folder / "val/1/grey.png")
    monkeypatch.setenv("JCONV_CACHE", str(tmp_path / "cache"))
    arguments = ["--model", "digits_resnet20", "--batch-size", "4", "--data"]
    assert evaluate.main([*arguments, str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "on 6 pictures" in shown and "not read: val/1/broken.JPEG: cannot identify image" in " ".join(shown.split())
    for path in folder.glob("val/*/*"):
        path.write_bytes(b"")
    assert evaluate.main([*arguments, str(folder)]) == 1
    assert "none of the 7 pictures could be read" in " ".join(capsys.readouterr().err.split())
    assert evaluate.main([*arguments[:2], "--batch-size", "0"]) == 1
    assert "--batch-size: expected at least 1, got 0" in capsys.readouterr().err


def test_what_pictures_become_can_be_told() -> None:
    seen = trained.Seen(size=12, mean=(0.5,), interpolation="bicubic")
    asked, said = (trained.ready("digits_resnet20", None, s).preprocessing for s in (seen, None))
    assert (asked.size, asked.mean, asked.interpolation, asked.std, asked.crop) == (
        12, (0.5,), "bicubic", said.std, said.crop
    )  # fmt: skip
    with pytest.raises(RunError, match="--model digits_resnet20: crop: expected a part"):
        trained.ready("digits_resnet20", None, trained.Seen(crop=2.0))
