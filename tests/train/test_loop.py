"""Whole runs on tiny data: what they write, how they go on bit for bit, and what stops them."""

import dataclasses
import errno
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import serialization
from PIL import Image
from rich.console import Console

from jconv import models
from jconv.models import Network
from tests.train.conftest import Fit
from train import checkpoint, lock, loop, plots
from train.config import Config
from train.data import Dataset
from train.errors import RunError
from train.schedule import schedules
from train.step import Steps

CURVES = plots.curves


def shown(screen: Console) -> str:
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


def rows_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def numbers_of(out: Path) -> list[dict[str, Any]]:
    """The rows without what a clock says."""
    return [{k: v for k, v in row.items() if k not in ("img_per_s", "seconds")} for row in rows_of(out)]


def poison(monkeypatch, change: Callable[..., Any], at: int) -> None:
    """Lets the training step number `at` of each program return `change(state, metrics)`."""
    original = loop.steps

    def steps(*args: Any, **options: Any) -> Steps:
        program, count = original(*args, **options), 0

        def train(ts: Any, batch: Any) -> Any:
            nonlocal count
            count += 1
            ts, metrics = program.train(ts, batch)
            return change(ts, metrics) if count == at else (ts, metrics)

        return program._replace(train=train)

    monkeypatch.setattr(loop, "steps", steps)


def stop_at_epoch(monkeypatch, epoch: int, error: BaseException) -> None:
    """Stops a run after the steps of an epoch, before its checkpoint."""
    original, calls = loop.evaluate, 0

    def evaluate(*args: Any) -> tuple[float, float]:
        nonlocal calls
        calls += 1
        if calls == epoch:
            raise error
        return original(*args)

    monkeypatch.setattr(loop, "evaluate", evaluate)


def test_what_a_run_writes(fit: Fit, tiny_config: Config, tmp_path: Path, monkeypatch, screen: Console) -> None:
    monkeypatch.setattr(plots, "curves", CURVES)
    summary = fit()
    out = tmp_path / "run"
    names = {"config.json", "metrics.jsonl", "summary.json", "curves.png", "checkpoint.msgpack"}
    assert {p.name for p in out.iterdir()} == names
    assert json.loads((out / "summary.json").read_text()) == summary
    config = json.loads((out / "config.json").read_text())
    assert config.pop("images") == {"train_images": 42, "val_images": 10, "classes": list("abcd")}
    assert config == tiny_config.to_json() == summary["config"]
    wanted = {"config", "versions", "device", "git", "val_accuracy", "img_per_s", "seconds"}
    assert wanted <= set(summary)
    assert {"python", "jconv", "jax", "flax", "optax", "numpy"} <= set(summary["versions"])
    assert (summary["train_images"], summary["val_images"], summary["classes"]) == (42, 10, list("abcd"))
    assert summary["parameters"] == 3 * 3 * 3 * 4 + 8 + 20
    with Image.open(out / "curves.png") as image:
        image.verify()

    rows = rows_of(out)
    steps, epochs = ([r for r in rows if r["kind"] == kind] for kind in ("step", "epoch"))
    assert [r["step"] for r in steps] == list(range(1, 16))
    assert [r["epoch"] for r in epochs] == [1, 2, 3]
    rates = schedules(tiny_config, 15)
    for name, rate in zip(("lr", "momentum"), rates, strict=True):
        np.testing.assert_allclose(
            [r[name] for r in steps], [float(jnp.asarray(rate(t))) for t in range(15)], rtol=1e-4, atol=1e-7
        )
    for epoch in epochs:
        of_epoch = [r for r in steps if r["epoch"] == epoch["epoch"]]
        assert epoch["train_loss"] == pytest.approx(np.mean([r["loss"] for r in of_epoch]))
    assert summary["val_accuracy"] == epochs[-1]["val_accuracy"]
    assert summary["val_loss"] == epochs[-1]["val_loss"]
    assert summary["best_val_accuracy"] == max(r["val_accuracy"] for r in epochs)
    assert 0 < epochs[0]["seconds"] < epochs[1]["seconds"] < epochs[2]["seconds"] <= summary["seconds"]

    lines = shown(screen).splitlines()
    assert lines[0].startswith("tiny on squares: 136 parameters, 8 px, float32, on ")
    assert " ".join(lines[2].split()) == "epoch train loss train acc val loss val acc img/s time"
    assert [line.split()[0] for line in lines[3:6]] == ["1/3", "2/3", "3/3"]
    assert {len(line) for line in lines[2:6]} == {76}, "a table as wide as its head, on 80 columns"
    assert f"{summary['val_accuracy']:.2%}" in lines[6]


def test_it_learns(fit: Fit) -> None:
    assert fit(epochs=12, lr=0.3, min_scale=0.9)["val_accuracy"] >= 0.7, "of classes that differ in brightness"


def test_resume_is_bit_for_bit(fit: Fit, tmp_path: Path, monkeypatch, screen: Console) -> None:
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    fit(out=straight)
    with monkeypatch.context() as patch:
        stop_at_epoch(patch, 2, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            fit(out=stopped)
    assert [r["epoch"] for r in rows_of(stopped) if r["kind"] == "epoch"] == [1]
    fit(out=stopped, resume=True)
    assert numbers_of(stopped) == numbers_of(straight)
    assert (stopped / "checkpoint.msgpack").read_bytes() == (straight / "checkpoint.msgpack").read_bytes()
    lines = [line.strip() for line in shown(screen).splitlines()]
    resumed = lines[lines.index("resumed after epoch 1 of 3") :]
    assert [line.split()[0] for line in resumed[2:5]] == ["1/3", "2/3", "3/3"], "the whole table, earlier epochs too"


def test_resume_before_the_first_epoch_ended(fit: Fit, tmp_path: Path, monkeypatch) -> None:
    fit(out=tmp_path / "straight", epochs=1)
    with monkeypatch.context() as patch:
        stop_at_epoch(patch, 1, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            fit(out=tmp_path / "stopped", epochs=1)
    assert not (tmp_path / "stopped" / "metrics.jsonl").exists()
    fit(out=tmp_path / "stopped", epochs=1, resume=True)
    assert numbers_of(tmp_path / "stopped") == numbers_of(tmp_path / "straight")


def test_resume_of_a_finished_run(fit: Fit, tmp_path: Path, screen: Console) -> None:
    summary = fit(epochs=1)
    out = tmp_path / "run"
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    assert fit(epochs=1, resume=True) == summary
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    assert shown(screen).endswith("run: all 1 epochs are done; to train longer, start another run with more --epochs\n")
    (out / "summary.json").unlink()  # killed between the last checkpoint and the summary
    again = fit(epochs=1, resume=True)
    assert again["val_accuracy"] == summary["val_accuracy"]
    assert (out / "summary.json").exists()


def test_resume_with_other_images(fit: Fit, tmp_path: Path, monkeypatch, tiny_data: Dataset) -> None:
    """Steps, epochs and the schedule would be neither's."""
    fit(epochs=1)
    (tmp_path / "run" / "summary.json").unlink()
    more = dataclasses.replace(tiny_data, train=tiny_data.val)
    with pytest.raises(RunError, match=r"the data has changed since .*run began: train_images 10, expected 42; bring"):
        fit(more, epochs=1, resume=True)


def test_one_run_at_a_time_in_a_folder(fit: Fit, tmp_path: Path) -> None:
    busy = r"run: another process is training in it; wait for it, or choose another --out"
    with lock.sole(tmp_path / "run"), pytest.raises(RunError, match=busy):
        fit()
    assert not (tmp_path / "run").exists()
    fit(epochs=1)
    with pytest.raises(RunError, match="holds a run already, which began meanwhile"):
        fit(epochs=1)


def test_a_curve_that_was_not_drawn_is_drawn_at_the_end(fit: Fit, tmp_path: Path, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(plots, "curves", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            fit(epochs=1)
    drawn = []
    monkeypatch.setattr(plots, "curves", lambda rows, path, title: drawn.append((len(rows), path.name)))
    fit(epochs=1, resume=True)
    assert drawn == [(6, "curves.png")]


def test_resume_without_its_metrics(fit: Fit, tmp_path: Path) -> None:
    fit(epochs=1)
    path = tmp_path / "run" / "metrics.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(RunError, match=r"metrics\.jsonl: expected the rows of 1 epochs; start another run"):
        fit(epochs=1, resume=True)
    path.write_text('{"kind":')
    with pytest.raises(RunError, match=r"metrics\.jsonl: it cannot be read"):
        fit(epochs=1, resume=True)
    path.unlink()
    with pytest.raises(RunError, match=r"metrics\.jsonl: it cannot be read \(.*No such file"):
        fit(epochs=1, resume=True)


def epoch_of(out: Path) -> int:
    saved: Any = serialization.msgpack_restore((out / "checkpoint.msgpack").read_bytes())
    return saved["epoch"]


@pytest.mark.parametrize(
    ("dtype", "end"), [("float32", "lower --lr"), ("bfloat16", "lower --lr, or with --dtype float32")]
)
def test_loss_that_is_not_finite(fit: Fit, tmp_path: Path, monkeypatch, dtype: str, end: str) -> None:
    poison(monkeypatch, lambda ts, metrics: (ts, metrics | {"loss": jnp.array(jnp.nan)}), at=8)
    with pytest.raises(RunError) as caught:
        fit(dtype=dtype)
    out = tmp_path / "run"
    text = str(caught.value)
    assert text.startswith("the loss is nan at step 8 (epoch 2, learning rate 0.")
    assert text.endswith(f"The checkpoint after epoch 1 in {out} is kept. Start another run with a {end}")
    assert epoch_of(out) == 1
    assert rows_of(out)[-1]["epoch"] == 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_parameters_that_are_not_finite_after_a_finite_loss(
    fit: Fit, tmp_path: Path, monkeypatch, value: float
) -> None:
    def spoil(ts: Any, metrics: Any) -> Any:
        return ts.replace(params=jax.tree.map(lambda p: p * value, ts.params)), metrics

    poison(monkeypatch, spoil, at=10)  # the last of epoch 2: no loss of that epoch shows it
    with pytest.raises(RunError, match=r"the validation loss is nan at step 10 \(epoch 2.*after epoch 1 in .* is kept"):
        fit()
    assert epoch_of(tmp_path / "run") == 1
    assert rows_of(tmp_path / "run")[-1]["epoch"] == 1


def test_learning_rate_that_is_far_too_high(fit: Fit, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"loss is (nan|inf) at step \d+ \(epoch 1, .*The checkpoint after epoch 0"):
        fit(lr=1e38)
    assert epoch_of(tmp_path / "run") == 0


def test_full_disk_in_mid_run(fit: Fit, tmp_path: Path, monkeypatch) -> None:
    """Two files at the start and three for each epoch; the disk fills at one of the second epoch's, time after time."""
    straight, full = tmp_path / "straight", tmp_path / "full"
    fit(out=straight, epochs=2)
    original = os.fsync
    for resume, call, name, epoch in [
        (False, 6, "metrics.jsonl", 1),
        (True, 2, "checkpoint.msgpack", 1),
        (True, 3, "curves.png", 2),
    ]:
        left = call - 1

        def fsync(file: int) -> None:
            nonlocal left
            if not left:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            left -= 1
            original(file)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fsync)
            with pytest.raises(RunError, match=rf"{name}: the disk is full: .* is kept\. .*--resume --out .*full$"):
                fit(out=full, epochs=2, resume=resume)
        assert epoch_of(full) == epoch
        assert not [p.name for p in full.iterdir() if p.name.startswith(".")]
    fit(out=full, epochs=2, resume=True)
    assert numbers_of(full) == numbers_of(straight)
    assert (full / "checkpoint.msgpack").read_bytes() == (straight / "checkpoint.msgpack").read_bytes()
    assert {p.name for p in full.iterdir()} == {p.name for p in straight.iterdir()}


@pytest.mark.parametrize("call", [1, 2])
def test_full_disk_at_the_start_leaves_no_run(fit: Fit, tmp_path: Path, monkeypatch, call: int) -> None:
    original, calls = checkpoint.write, 0

    def write(path: Path, content: bytes) -> None:
        nonlocal calls
        calls += 1
        if calls == call:
            raise RunError("full")
        original(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write", write)
        with pytest.raises(RunError, match="full"):
            fit(epochs=1)
    assert not (tmp_path / "run" / "config.json").exists(), "so that it can be started again in the same folder"
    fit(epochs=1)


def test_pmap_is_the_same_run(fit: Fit, tmp_path: Path) -> None:
    for parallel in ("jit", "pmap"):
        fit(out=tmp_path / parallel, parallel=parallel, epochs=1)
    jit, pmap = (rows_of(tmp_path / parallel) for parallel in ("jit", "pmap"))
    for key in ("loss", "val_loss"):
        expected = [r[key] for r in jit if key in r]
        np.testing.assert_allclose([r[key] for r in pmap if key in r], expected, rtol=1e-3)


def test_fewer_images_than_a_batch(fit: Fit) -> None:
    with pytest.raises(RunError, match="--batch-size 64: there are only 42 training images"):
        fit(batch_size=64)


def test_incomplete_config(tiny_data: Dataset, screen: Console) -> None:
    with pytest.raises(ValueError, match=r"expected a complete one; see Config\.complete"):
        loop.fit(Config(), tiny_data, screen)


# Names of networks


def network_of(**options: Any) -> Network:
    return loop.network_of(Config(**{"model": "cifar_resnet20", **options}), 7)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"model": "resnet5O"}, r"^--model resnet5O: unknown model 'resnet5O'; did you mean 'resnet50' or "),
        ({"stem": "d"}, r"^--stem d: unknown 'd'; there are 'a', 'c', "),
        ({"stem": "pach"}, r"^--stem pach: unknown 'pach'; did you mean 'patch'\?"),
        ({"lowering": "nonsense"}, r"^--lowering nonsense: expected auto, lax, im2col"),
    ],
)
def test_unknown_names(options: dict[str, Any], text: str) -> None:
    with pytest.raises(RunError, match=text):
        network_of(**options)


def test_network_takes_the_options() -> None:
    network = network_of(stem="c", lowering="im2col", drop_path=0.3)
    text = str(network)
    assert "Linear(7)" in text
    assert text.count("im2col") > 10
    assert "DropPath" in text


@pytest.mark.parametrize("name", models.list())
def test_every_classifier_can_be_named(name: str) -> None:
    if name.startswith("dcgan"):
        with pytest.raises(RunError, match=f"^--model {name}: "):
            network_of(model=name)
    else:
        assert network_of(model=name, lowering="lax") != network_of(model=name)


def test_a_network_that_is_no_resnet(tiny_data: Dataset, tiny_config: Config, screen: Console) -> None:
    config = dataclasses.replace(tiny_config, model="simple_cnn_3x3_bn", stem=None, epochs=1)
    assert 0 <= loop.fit(config, tiny_data, screen)["val_accuracy"] <= 1


def test_a_network_that_does_not_classify(tiny_data: Dataset, tiny_config: Config, screen: Console) -> None:
    config = dataclasses.replace(tiny_config, model="deeplabv3_resnet50", stem=None)
    with pytest.raises(RunError, match=r"--model deeplabv3_resnet50 .*expected a network that classifies pictures"):
        loop.fit(config, tiny_data, screen)


def test_image_too_small_for_the_stem(monkeypatch, tiny_data: Dataset, tiny_config: Config, screen: Console) -> None:
    config = dataclasses.replace(tiny_config, model="cifar_resnet20", stem="patch", size=3)
    with pytest.raises(RunError, match=r"(?s)^--model cifar_resnet20 with --size 3: .*does not fit.*in layer 'conv1'"):
        loop.fit(config, tiny_data, screen)
