"""From a finished run to the shelf, from the shelf to words: nothing is lost on the way, and mistakes are said."""

import dataclasses
import json
import tomllib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jconv import models
from train import checkpoint, predict, shelve
from train.config import Config
from train.errors import RunError
from train.loop import network_of
from train.schedule import optimizer
from train.step import TrainState, new_state
from train.trained import ready

CLASSES = ["ant", "bee", "cat"]
X = jax.ShapeDtypeStruct((1, 8, 8, 3), "float32")


def finished(out: Path, accuracy: float = 0.9, **options: Any) -> tuple[Path, TrainState]:
    """A folder as a finished run leaves it, and the state that it ended with."""
    config = Config(**{"data": "photos", "model": "cifar_resnet20", "size": 8, **options}).complete("imagenette")
    network = network_of(config, len(CLASSES))
    state = new_state(optimizer(config, 1), *network.init(jax.random.key(config.seed), X))
    checkpoint.save(out / "checkpoint.msgpack", state, 5)
    summary = {
        "val_accuracy": accuracy, "classes": CLASSES, "data": "photos", "mean": [0.4, 0.5, 0.6], "std": [0.2] * 3,
        "parameters": sum(p.size for p in jax.tree.leaves(state.params)), "train_images": 10, "val_images": 5,
        "seconds": 12.3, "device": "CPU", "git": None, "versions": {"jax": "1"}, "config": config.to_json(),
    }  # fmt: skip
    checkpoint.write_json(out / "summary.json", summary)
    (out / "metrics.jsonl").write_text("{}\n")
    (out / "curves.png").write_bytes(b"\x89PNG")
    return out, state


def test_what_is_shelved_is_what_was_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, state = finished(tmp_path / "a", 0.9)
    other, _ = finished(tmp_path / "b", 0.8, seed=7)
    shelf = tmp_path / "shelf"
    assert shelve.main([str(first), str(other), "--name", "pets", "--folder", str(shelf)]) == 0
    assert "pets" in capsys.readouterr().out
    [(name, card)] = models.shelf(folder=shelf).items()
    assert (name, card["accuracy"], card["accuracy_sd"], card["accuracy_of_these_weights"]) == ("pets", 85, 7.07, 90)
    assert (card["seeds"], card["classes"]) == ([0, 7], CLASSES)
    assert card["command"] == "python -m train.imagenette --data photos --model cifar_resnet20 --size 8 --seed 0"
    for found in (models.load("pets", folder=shelf), models.load(shelf / "pets")):
        assert jax.tree.all(jax.tree.map(np.array_equal, (found.params, found.state), (state.params, state.state)))
        assert (found.preprocessing.mean, found.preprocessing.size) == ((0.4, 0.5, 0.6), 8)
        assert found.model.apply(found.params, found.state, jnp.zeros(X.shape))[0].shape == (1, len(CLASSES))
    assert {p.name for p in (shelf / "pets").iterdir()} == {
        "card.toml", "weights.safetensors", "metrics.jsonl", "curves.png"
    }  # fmt: skip


def test_only_finished_runs_of_one_kind_are_shelved(tmp_path: Path) -> None:
    first, _ = finished(tmp_path / "a")
    other, _ = finished(tmp_path / "b", lr=0.5)
    with pytest.raises(RunError, match=r"expected runs that differ only in their seed, got lr 0\.08 and lr 0\.5"):
        shelve.shelve(shelve.Options((first, other), folder=tmp_path))
    (tmp_path / "c").mkdir()
    assert shelve.main([str(tmp_path / "c")]) == 1


def test_a_name_that_is_not_there_is_answered_with_the_nearest(tmp_path: Path) -> None:
    first, _ = finished(tmp_path / "a")
    shelve.shelve(shelve.Options((first,), "pets", tmp_path))
    with pytest.raises(ValueError, match=r"unknown trained model 'pet': .*did you mean 'pets'\?"):
        models.load("pet", folder=tmp_path)
    with pytest.raises(ValueError, match="there is none in"):
        models.load("pet", folder=tmp_path / "empty")
    (tmp_path / "pets" / "card.toml").write_text("= 1")
    with pytest.raises(ValueError, match=r"card\.toml: this is no card"):
        models.shelf(folder=tmp_path)


def test_pictures_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], rng: np.random.Generator
) -> None:
    first, _ = finished(tmp_path / "a")
    shelve.shelve(shelve.Options((first,), "pets", tmp_path))
    monkeypatch.setenv("JCONV_SHELF", str(tmp_path))
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(path)
    found = predict.predict(ready("pets", None), paths)
    trained = models.load("pets")
    x = jnp.stack([trained.preprocessing(path) for path in paths])
    logits, _ = trained.model.apply(trained.params, trained.state, x)
    np.testing.assert_allclose(found, jax.nn.softmax(logits), rtol=1e-3, atol=1e-6)
    out = tmp_path / "drawn.png"
    assert predict.main([*map(str, paths), "--model", "pets", "--top", "2", "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert all(path.name in shown for path in paths) and CLASSES[found[0].argmax()] in shown
    with Image.open(out) as drawn:
        assert min(drawn.size) > 300
    (tmp_path / "text.png").write_text("no picture")
    for line, words in ((["text.png"], "expected a picture"), (["0.png", "--model", "pat"], "unknown trained model")):
        argv = [str(tmp_path / line[0]), "--model", "pets", *line[1:]]
        assert predict.main(argv) == 1
        assert words in " ".join(capsys.readouterr().err.split())


def test_the_command_is_what_differs_from_the_defaults() -> None:
    config = Config(data="digits").complete("digits")
    assert shelve.command(config) == "python -m train.imagenette --data digits --seed 0"
    changed = dataclasses.replace(config, epochs=3, label_smoothing=0.2, seed=5)
    assert shelve.command(changed).endswith("--data digits --epochs 3 --label-smoothing 0.2 --seed 5")
    assert tomllib.loads(shelve._toml({"a": None, "b": 1}).decode()) == {"b": 1}
    assert json.loads(json.dumps(changed.to_json()))["epochs"] == 3
