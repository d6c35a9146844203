"""From a finished run to the shelf, from the shelf to words: nothing is lost on the way, and mistakes are said."""

import dataclasses
import json
import shlex
import tomllib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tyro
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


CHANGED: dict[str, Any] = {
    "model": "resnet50", "stem": "c", "weights": "hf-hub:timm/x y", "freeze": "conv1,bn*", "lr_by_path": "layer1=0.1",
    "epochs": 7, "size": 96, "batch_size": 16, "lr": 0.3, "schedule": "cosine", "warmup": 0.0, "momentum": 0.8,
    "weight_decay": 0.0, "label_smoothing": 0.0, "min_scale": 0.5, "flip": False, "crop": 0.9, "mean": (0.1, 0.2, 0.3),
    "std": (1.0, 2.0, 3.0), "drop_path": 0.0, "seed": 3, "dtype": "bfloat16", "lowering": "lax", "parallel": "pmap",
    "strict": True, "side": 96,
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGED)
def test_the_command_on_a_card_is_the_run(name: str) -> None:
    """Read as a command line, it is the config again, whatever field was changed."""
    fields = {f.name for f in dataclasses.fields(Config)}
    assert fields - {*CHANGED} == {"data", "out", "resume"}
    config = dataclasses.replace(Config(data="my photos").complete("imagenette"), **{name: CHANGED[name]})
    program, *arguments = shlex.split(shelve.command(config).removeprefix("python -m "))
    assert program == "train.imagenette"
    assert tyro.cli(Config, args=arguments).complete("imagenette") == config


def test_options_of_zero_are_on_the_card(tmp_path: Path) -> None:
    """Without stochastic depth is another network than with the family's own."""
    run, _ = finished(tmp_path / "a", drop_path=0.0)
    folder = shelve.shelve(shelve.Options((run,), folder=tmp_path / "shelf"))
    assert folder.name == "photos_cifar_resnet20"
    assert models.shelf(folder=tmp_path / "shelf")[folder.name]["options"]["drop_path"] == 0


def test_a_network_on_the_shelf_stays_until_another_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = tmp_path / "shelf"
    options = shelve.Options((finished(tmp_path / "a", 0.9)[0],), "pets", shelf)
    shelve.shelve(options)
    before = {path.name: path.read_bytes() for path in (shelf / "pets").iterdir()}
    other = dataclasses.replace(options, runs=(finished(tmp_path / "b", 0.8, seed=1)[0],))
    with pytest.raises(
        RunError, match=r"pets: a network is there; give this one another --name, or --replace that one"
    ):
        shelve.shelve(other)

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("shutil.copyfile", interrupted)
        with pytest.raises(KeyboardInterrupt):
            shelve.shelve(dataclasses.replace(other, replace=True))
    assert {path.name: path.read_bytes() for path in (shelf / "pets").iterdir()} == before
    (tmp_path / "b" / "curves.png").rename(tmp_path / "curves.png")
    with pytest.raises(RunError, match=r"pets: could not be written: .*curves.png"):
        shelve.shelve(dataclasses.replace(other, replace=True))
    (tmp_path / "curves.png").rename(tmp_path / "b" / "curves.png")
    with monkeypatch.context() as patch:
        move = Path.replace

        def fails(path: Path, to: Path) -> Path:
            if path.name == ".pets.part":
                raise OSError(5, "Input/output error")
            return move(path, to)

        patch.setattr(Path, "replace", fails)
        with pytest.raises(RunError, match=r"pets: could not be written: .*Input/output error"):
            shelve.shelve(dataclasses.replace(other, replace=True))
    assert {path.name: path.read_bytes() for path in (shelf / "pets").iterdir()} == before
    (shelf / "pets").rename(shelf / ".pets.old")
    with pytest.raises(RunError, match=r"pets: a network is there"):
        shelve.shelve(other)
    (shelf / "pets").rename(shelf / ".pets.old")  # as a process leaves it that stops while they change places
    with monkeypatch.context() as patch:
        patch.setattr("shutil.copyfile", interrupted)
        with pytest.raises(KeyboardInterrupt):
            shelve.shelve(dataclasses.replace(other, replace=True))
    assert {path.name: path.read_bytes() for path in (shelf / "pets").iterdir()} == before
    shelve.shelve(dataclasses.replace(other, replace=True))
    assert models.shelf(folder=shelf)["pets"]["accuracy"] == 80
    assert [path.name for path in shelf.iterdir()] == ["pets"]


def test_names_are_text_and_not_markup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    shelve.shelve(shelve.Options((finished(tmp_path / "a")[0],), "pets", tmp_path / "shelf"))
    monkeypatch.setenv("JCONV_SHELF", str(tmp_path / "shelf"))
    path = tmp_path / "photo[red].png"
    Image.new("RGB", (20, 20)).save(path)
    assert predict.main([str(path), "--model", "pets", "--out", str(tmp_path / "[bold]drawn.png")]) == 0
    shown = capsys.readouterr().out
    assert "photo[red].png" in shown
    assert "[bold]drawn.png" in shown


def test_a_damaged_picture_is_no_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """Pillow raises a SyntaxError for a damaged PNG, and its own error for one that is too large."""
    shelve.shelve(shelve.Options((finished(tmp_path / "a")[0],), "pets", tmp_path / "shelf"))
    monkeypatch.setenv("JCONV_SHELF", str(tmp_path / "shelf"))
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    damaged = bytearray((tmp_path / "a.png").read_bytes())
    damaged[damaged.index(b"IDAT") - 5] ^= 0xFF  # the checksum of what is before
    (tmp_path / "a.png").write_bytes(damaged)
    Image.new("1", (20_000, 20_000)).save(tmp_path / "large.png")
    monkeypatch.chdir(tmp_path)  # where it would draw
    for name in ("a.png", "large.png"):
        assert predict.main([str(tmp_path / name), "--model", "pets"]) == 1
        assert f"{name}: expected a picture: " in "".join(capsys.readouterr().err.splitlines())


def test_a_run_is_not_yet_a_network(tmp_path: Path) -> None:
    run, _ = finished(tmp_path / "a")
    with pytest.raises(
        ValueError, match=r"this is the folder of a run, of which `python -m train.shelve .*` makes one"
    ):
        models.load(run)
