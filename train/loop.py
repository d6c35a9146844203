"""The loop: epochs of steps, a checkpoint after each, and everything a run tells while it goes and leaves behind."""

import collections
import json
import math
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from jconv.layers import Conv, ConvTranspose, Params, State
from jconv.models import Network, create
from jconv.ops.lowerings import LOWERINGS
from train import checkpoint, finetune, lock, machine, plots
from train.config import Config, flag
from train.data import Dataset, Split, batches
from train.errors import RunError
from train.schedule import optimizer, schedules
from train.step import Steps, TrainState, new_state, steps

__all__ = ["fit", "network_of"]

LAG = 2  # steps that the device may be ahead of what is shown, so that it never waits for the screen


def network_of(config: Config, classes: int) -> Network:
    """The network that a config describes. RunError for an unknown name, and for an option that it does not have."""
    if config.lowering not in (names := ("auto", *LOWERINGS)):
        raise RunError(f"--lowering {config.lowering}: expected {', '.join(names)}")
    asked = {"num_classes": classes, "stem": config.stem, "drop_path": config.drop_path}
    options = {name: value for name, value in asked.items() if value is not None}
    try:
        network = create(config.model or "", **options)
    except ValueError as error:
        name, _, rest = str(error).partition(": ")
        known = name in ("stem", "drop_path") and name in options and rest
        raise RunError(
            f"{flag(name)} {options[name]}: {rest}" if known else f"--model {config.model}: {error}"
        ) from None
    if config.lowering == "auto":
        return network
    return network.update(Conv, lowering=config.lowering).update(ConvTranspose, lowering=config.lowering)


def fit(config: Config, data: Dataset, console: Console) -> dict[str, Any]:
    """Train as the config says, or go on where its run stopped; return the summary that is written to its folder."""
    if config.out is None:
        raise ValueError("config: expected a complete one; see Config.complete")
    with lock.sole(config.out):
        return _fit(config, config.out, data, console)


def _fit(config: Config, out: Path, data: Dataset, console: Console) -> dict[str, Any]:
    if config.epochs is None or config.batch_size is None:
        raise ValueError("config: expected a complete one; see Config.complete")
    began = time.perf_counter()
    per_epoch = len(data.train.labels) // config.batch_size
    if not per_epoch:
        raise RunError(f"--batch-size {config.batch_size}: there are only {len(data.train.labels)} training images")
    total = per_epoch * config.epochs
    network = finetune.frozen(config, network_of(config, len(data.classes)))
    tx = optimizer(config, total)
    rates = _at_each_step(schedules(config, total), total)
    known, params, state = _start(config, network, data.train.images.shape[-1], len(data.classes))
    ts = new_state(tx, params, state)
    size = sum(p.size for p in jax.tree.leaves(ts.params))
    mean, std = known.mean or data.mean, known.std or data.std
    program = steps(config, network, tx, mean=mean, std=std)

    done, rows = 0, []
    if config.resume:
        _same_data(out, data)
        ts, done = checkpoint.load(out / "checkpoint.msgpack", ts)
        rows = _read_rows(out / "metrics.jsonl", done)
        if done == config.epochs and (out / "summary.json").exists():
            console.print(f"{out}: all {done} epochs are done; to train longer, start another run with more --epochs")
            return json.loads((out / "summary.json").read_text())
    else:
        if (out / "config.json").exists():
            raise RunError(f"--out: {out} holds a run already, which began meanwhile; name another folder")
        checkpoint.save(out / "checkpoint.msgpack", ts, 0)
        checkpoint.write_json(out / "config.json", known.to_json() | {"images": _of_data(data)})  # now it is a run
    earlier = rows[-1]["seconds"] if rows else 0.0
    title = f"{config.model}{f', stem {config.stem}' if config.stem else ''} on {data.name}"
    about = f": {size:,} parameters, {config.size} px, {config.dtype}, on {machine.device()}"
    console.print(Text.assemble((title, "bold"), about))
    sizes = f"{len(data.train.labels):,} images train, {len(data.val.labels):,} validate"
    console.print(Text(f"{sizes}; writing to {out}"))
    if config.weights or config.freeze:
        learn = jax.tree.map(lambda p, rate: p.size if rate else 0, ts.params, finetune.rates(config, ts.params))
        origin = f"from {config.weights}; " if config.weights else ""
        console.print(f"{origin}{sum(jax.tree.leaves(learn)):,} parameters learn, the others stay")
    if config.resume:
        console.print(f"resumed after epoch {done} of {config.epochs}")
    ts = program.place_state(ts)

    console.print(Text(_HEAD, "bold"))
    for row in rows:
        if row["kind"] == "epoch":
            console.print(_row(row, config.epochs))
    with _progress(console) as progress:
        task = progress.add_task("", total=total, completed=done * per_epoch, note="compiling")
        for epoch in range(done + 1, config.epochs + 1):
            ts, train_rows, speed = _train_epoch(config, data, program, ts, epoch, per_epoch, rates, progress, task)
            progress.update(task, note=f"epoch {epoch}/{config.epochs}  validating")
            val_loss, val_accuracy = evaluate(program, ts, data.val, config.batch_size)
            if not math.isfinite(val_loss):
                raise _not_finite(config, "validation loss", val_loss, epoch * per_epoch, epoch, train_rows[-1]["lr"])
            row = {
                "kind": "epoch",
                "epoch": epoch,
                "train_loss": _mean(train_rows, "loss"),
                "train_accuracy": _mean(train_rows, "accuracy"),
                "val_loss": val_loss,
                "val_accuracy": val_accuracy,
                "img_per_s": speed,
                "seconds": earlier + time.perf_counter() - began,
            }
            rows += [*train_rows, row]
            checkpoint.write(out / "metrics.jsonl", "".join(json.dumps(r) + "\n" for r in rows).encode())
            checkpoint.save(out / "checkpoint.msgpack", program.fetch(ts), epoch)
            console.print(_row(row, config.epochs))
            plots.curves(rows, out / "curves.png", title)
    if done == config.epochs:  # stopped between the last checkpoint and its curve
        plots.curves(rows, out / "curves.png", title)
    epochs = [row for row in rows if row["kind"] == "epoch"]
    summary = {
        "val_accuracy": epochs[-1]["val_accuracy"],
        "val_loss": epochs[-1]["val_loss"],
        "best_val_accuracy": max(row["val_accuracy"] for row in epochs),
        "seconds": earlier + time.perf_counter() - began,
        "img_per_s": float(np.median([row["img_per_s"] for row in epochs])),
        "parameters": size,
        **_of_data(data),
        "skipped_images": list(data.skipped),
        "data": data.name,
        "mean": list(mean),
        "std": list(std),
        "config": known.to_json(),
        "device": machine.device(),
        "versions": machine.versions(),
        "git": machine.revision(),
    }
    checkpoint.write_json(out / "summary.json", summary)
    took = f" after {config.epochs} epochs in {_clock(summary['seconds'])}, {summary['img_per_s']:,.0f} img/s; "
    where = f"summary.json, metrics.jsonl and curves.png are in {out}"
    console.print(Text.assemble((f"validation accuracy {summary['val_accuracy']:.2%}", "bold"), took, where))
    return summary


def _of_data(data: Dataset) -> dict[str, Any]:
    """What steps and epochs depend on."""
    return {
        "train_images": len(data.train.labels),
        "val_images": len(data.val.labels),
        "classes": list(data.classes),
    }


def _same_data(out: Path, data: Dataset) -> None:
    """RunError if a run began with other images: its schedule and its epochs would be of neither."""
    began, now = json.loads((out / "config.json").read_text()).get("images", {}), _of_data(data)
    for name, value in began.items():
        if value != now.get(name):
            raise RunError(
                f"--resume: the data has changed since {out} began: {name} {now.get(name)}, expected {value}; bring "
                f"back what was there, or start another run with another --out"
            )


def _start(config: Config, network: Network, channels: int, classes: int) -> tuple[Config, Params, State]:
    """The first parameters and statistics, and the config with what they know of the images."""
    for name in ("mean", "std"):
        value = getattr(config, name)
        if value is not None and len(value) != channels:
            raise RunError(f"{flag(name)}: expected a number for each of the {channels} channels, got {len(value)}")
    image = jax.ShapeDtypeStruct((1, config.size, config.size, channels), config.dtype)
    key = jax.random.key(config.seed)
    try:
        if config.weights is None or config.resume:  # then a checkpoint takes their place
            known, params, state = config, *network.init(key, image)
        else:
            known, params, state = finetune.pretrained(config, network, image, key)
        y, _ = jax.eval_shape(network.apply, params, state, image)
        if y.shape != (1, classes):
            raise ValueError(f"expected a network that classifies pictures, (N, {classes}), got (N, {y.shape[1:]})")
    except ValueError as error:
        where = "".join(f" ({note})" for note in getattr(error, "__notes__", []) if note.startswith("in layer"))
        raise RunError(f"--model {config.model} with --size {config.size}: {error}{where}") from error
    return known, params, state


def _train_epoch(
    config: Config,
    data: Dataset,
    program: Steps,
    ts: TrainState,
    epoch: int,
    per_epoch: int,
    rates: tuple[np.ndarray, np.ndarray],
    progress: Progress,
    task: Any,
) -> tuple[TrainState, list[dict[str, Any]], float]:
    """One pass over the shuffled training images: the new state, a row for each step, and images per second."""
    batch_size = config.batch_size or 0
    order = _shuffled(config.seed, epoch, len(data.train.labels))[: per_epoch * batch_size]
    rows: list[dict[str, Any]] = []
    began = clock = time.perf_counter()
    waiting: collections.deque[dict[str, jax.Array]] = collections.deque()

    def arrived(metrics: dict[str, jax.Array]) -> None:
        nonlocal clock
        step = (epoch - 1) * per_epoch + len(rows)
        loss, correct, count = (float(np.ravel(metrics[k])[0]) for k in ("loss", "correct", "count"))
        row = {
            "kind": "step", "epoch": epoch, "step": step + 1, "loss": loss / count, "accuracy": correct / count,
            "lr": float(rates[0][step]), "momentum": float(rates[1][step]),
        }  # fmt: skip
        rows.append(row)
        if not math.isfinite(loss):
            raise _not_finite(config, "loss", loss / count, step + 1, epoch, row["lr"])
        if len(rows) == 1:  # the first step may have compiled
            clock = time.perf_counter()
        speed = (len(rows) - 1) * batch_size / max(time.perf_counter() - clock, 1e-9)
        recent = rows[-50:]
        progress.update(
            task,
            completed=step + 1,
            note=f"epoch {epoch}/{config.epochs}  loss {_mean(recent, 'loss'):.3f}  "
            f"accuracy {_mean(recent, 'accuracy'):.1%}  {speed:,.0f} img/s",
        )

    for batch in batches(data.train, order, batch_size):
        ts, metrics = program.train(ts, program.place_batch(batch))
        waiting.append(metrics)
        if len(waiting) > LAG:
            arrived(waiting.popleft())
    while waiting:
        arrived(waiting.popleft())
    now = time.perf_counter()
    speed = (per_epoch - 1) * batch_size / (now - clock) if per_epoch > 1 else batch_size / (now - began)
    return ts, rows, speed


def _not_finite(config: Config, what: str, value: float, step: int, epoch: int, lr: float) -> RunError:
    other = "" if config.dtype == "float32" else ", or with --dtype float32"
    return RunError(
        f"the {what} is {value} at step {step} (epoch {epoch}, learning rate {lr:.3g}). The checkpoint after epoch "
        f"{epoch - 1} in {config.out} is kept. Start another run with a lower --lr{other}"
    )


def evaluate(program: Steps, ts: TrainState, split: Split, batch_size: int) -> tuple[float, float]:
    """Mean loss and accuracy over a split."""
    sums = collections.defaultdict[str, float](float)
    for batch in batches(split, np.arange(len(split.labels)), batch_size):
        for name, value in program.evaluate(ts, program.place_batch(_padded(batch, batch_size))).items():
            sums[name] += float(np.ravel(value)[0])
    return sums["loss"] / sums["count"], sums["correct"] / sums["count"]


def _padded(batch: dict[str, np.ndarray], size: int) -> dict[str, np.ndarray]:
    """The batch with its first example repeated, at weight 0, until it is full: one shape is compiled, not two."""
    n = len(batch["label"])
    index = np.where(np.arange(size) < n, np.arange(size), 0)
    return {k: v[index] for k, v in batch.items()} | {"weight": (np.arange(size) < n).astype(np.float32)}


def _shuffled(seed: int, epoch: int, n: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(n)


def _mean(rows: list[dict[str, Any]], name: str) -> float:
    return float(np.mean([row[name] for row in rows]))


def _at_each_step(rates: tuple[optax.Schedule, optax.Schedule], steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Both rates at every step, computed at once: asked for one by one, they would wait for the device's queue."""
    lr, momentum = (np.broadcast_to(np.asarray(rate(np.arange(steps))), steps) for rate in rates)
    return lr, momentum


def _read_rows(path: Path, epochs: int) -> list[dict[str, Any]]:
    """The rows of the epochs that the checkpoint knows. RunError if they are not there."""
    try:
        rows = [json.loads(line) for line in path.read_text().splitlines()] if epochs else []
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: it cannot be read ({error}); start another run with another --out") from None
    rows = [row for row in rows if row["epoch"] <= epochs]
    if sum(row["kind"] == "epoch" for row in rows) != epochs:
        raise RunError(f"{path}: expected the rows of {epochs} epochs; start another run with another --out")
    return rows


# What is shown

_COLUMNS = ("epoch", "train loss", "train acc", "val loss", "val acc", "img/s", "time")
_HEAD = " ".join(f"{name:>10}" for name in _COLUMNS)


def _row(row: dict[str, Any], epochs: int) -> str:
    values = (
        f"{row['epoch']}/{epochs}",
        f"{row['train_loss']:.4f}",
        f"{row['train_accuracy']:.2%}",
        f"{row['val_loss']:.4f}",
        f"{row['val_accuracy']:.2%}",
        f"{row['img_per_s']:,.0f}",
        _clock(row["seconds"]),
    )
    return " ".join(f"{value:>10}" for value in values)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}:{seconds:02d} min"


def _progress(console: Console) -> Progress:
    return Progress(
        BarColumn(12),
        TextColumn("{task.fields[note]}"),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
