"""Put a finished run on the shelf: its weights, history and curve, and a card that says how to make it again.

python -m train.shelve runs/digits-0 runs/digits-1 runs/digits-2 --name digits_resnet20
"""

import contextlib
import dataclasses
import datetime
import re
import shlex
import shutil
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import tyro
from rich.console import Console

from jconv import cost, weights
from train import checkpoint
from train.compare import groups
from train.config import Config, data_kind, flag
from train.errors import RunError
from train.loop import network_of
from train.schedule import optimizer
from train.step import new_state

__all__ = ["Options", "main", "shelve"]


@dataclasses.dataclass(frozen=True)
class Options:
    """Shelve a trained network; further runs that differ only in their seed give its accuracy a mean and a spread."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of finished runs; the weights are the first one's."""
    name: str = ""
    """The network's name on the shelf. Default: data and model."""
    folder: Path = Path("models")
    """The shelf."""
    licence: str = "Apache-2.0"
    """Of the weights."""
    replace: bool = False
    """Take the place of a network of that name."""


def shelve(options: Options) -> Path:
    """Write the folder of a network; its path. RunError if a run is not finished, or they are not of one kind."""
    found = groups(options.runs)
    if len(found) > 1:
        raise RunError(
            f"expected runs that differ only in their seed, got {' and '.join(found)}; shelve each kind alone"
        )
    [runs] = found.values()
    summary = runs[0][1]
    config = Config.of_json(summary["config"])
    folder = options.folder / (options.name or f"{re.sub(r'[^a-z0-9]+', '_', summary['data'].lower())}_{config.model}")
    _back(folder)
    if folder.exists() and not options.replace:
        raise RunError(f"{folder}: a network is there; give this one another --name, or --replace that one")
    network = network_of(config, len(summary["classes"]))
    shape = (config.size or 0, config.size or 0, len(summary["mean"]))
    x = jax.ShapeDtypeStruct((1, *shape), "float32")
    like = new_state(optimizer(config, 1), *network.init(jax.random.key(0), x))
    trained, _ = checkpoint.load(options.runs[0] / "checkpoint.msgpack", like)
    prep = weights.Preprocessing(tuple(summary["mean"]), tuple(summary["std"]), shape[0], config.crop or 1.0)
    seen = [100 * s["val_accuracy"] for _, s in runs]
    card = {
        "architecture": config.model,
        "options": {
            "num_classes": len(summary["classes"]),
            **({} if config.stem is None else {"stem": config.stem}),
            **({} if config.drop_path is None else {"drop_path": config.drop_path}),
        },
        "input": list(shape),
        "parameters": summary["parameters"],
        "macs": cost.analyze(network.apply, trained.params, trained.state, x, has_aux=True).total.macs,
        "data": summary["data"],
        "train_images": summary["train_images"],
        "val_images": summary["val_images"],
        "accuracy": round(statistics.mean(seen), 2),
        **({"accuracy_sd": round(statistics.stdev(seen), 2)} if len(seen) > 1 else {}),
        "accuracy_of_these_weights": round(seen[0], 2),
        "seeds": [s["config"]["seed"] for _, s in runs],
        "command": command(config),
        "seconds": round(summary["seconds"]),
        "hardware": summary["device"],
        "versions": summary["versions"],
        "commit": summary["git"],
        "date": datetime.date.today(),
        "licence": options.licence,
        "classes": summary["classes"],
    }
    params, state = jax.tree.map(np.asarray, (trained.params, trained.state))
    with _whole(folder) as part:
        weights.save(part / "weights.safetensors", params, state, preprocessing=prep)
        for name in ("metrics.jsonl", "curves.png"):
            shutil.copyfile(options.runs[0] / name, part / name)
        checkpoint.write(part / "card.toml", _toml(card))
    return folder


@contextlib.contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """A folder to write in, which takes this one's place when all is written. RunError if that fails; it stays then."""
    part, old = (folder.with_name(f".{folder.name}.{word}") for word in ("part", "old"))
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        yield part
        if folder.exists():
            folder.replace(old)
        part.replace(folder)
    except OSError as error:
        raise RunError(f"{folder}: could not be written: {error}") from error
    finally:
        _back(folder)
        for left in (part, old):
            shutil.rmtree(left, ignore_errors=True)


def _back(folder: Path) -> None:
    """Puts back what was on the shelf, where a swap stopped halfway."""
    old = folder.with_name(f".{folder.name}.old")
    if old.exists() and not folder.exists():
        old.replace(folder)


def command(config: Config) -> str:
    """The command that makes this run again: what differs from the defaults."""
    default = Config(data=config.data).complete(data_kind(config.data))
    parts = ["python -m train.imagenette"]
    for f in dataclasses.fields(Config):
        value = getattr(config, f.name)
        if f.name in ("out", "resume") or (value == getattr(default, f.name) and f.name not in ("data", "seed")):
            continue
        if value is not None:
            words = () if f.type is bool else value if isinstance(value, tuple) else (value,)  # --strict stands alone
            parts.append(shlex.join([flag(f.name), *map(str, words)]))
    return " ".join(parts)


def _toml(card: dict[str, Any]) -> bytes:
    import tomli_w

    return tomli_w.dumps({k: v for k, v in card.items() if v is not None}).encode()


def main(arguments: list[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    options = tyro.cli(Options, prog="python -m train.shelve", description=__doc__, args=arguments)
    try:
        folder = shelve(options)
    except RunError as error:
        Console(stderr=True, markup=False).print(f"error: {error}", style="bold red")
        return 1
    size = sum(p.stat().st_size for p in folder.iterdir())
    Console(markup=False, highlight=False, soft_wrap=True).print(
        f"{folder}: {size / 2**20:.2f} MiB; use it with jconv.models.load({str(folder.name)!r})"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
