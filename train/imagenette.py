"""Train an image classifier on digits, on Imagenette, or on any folder of pictures.

python -m train.imagenette --data digits
python -m train.imagenette --model resnet18 --stem c --size 64 --epochs 5
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from train.data.needs import needs
from train.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Callable

    from train.config import Config

PROGRAM = "python -m train.imagenette"

EXAMPLES = f"""Train an image classifier, by default a ResNet on Imagenette.
  Try it in a minute, without a download:
    {PROGRAM} --data digits
  Imagenette, another stem:
    {PROGRAM} --stem c --size 64
  A folder of yours, train/ and val/:
    {PROGRAM} --data photos --model resnet50d
  Go on after Ctrl-C or a crash:
    {PROGRAM} --resume --out runs/x

A run leaves config.json, metrics.jsonl, curves.png, checkpoint.msgpack, summary.json."""


def main(arguments: list[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    try:
        import tyro
        from rich.console import Console
    except ImportError as error:
        print(f'{error}: training needs more packages: pip install "jconv[train]"', file=sys.stderr)
        return 2
    from train.config import Config

    def ask(default: Config) -> Config:
        return tyro.cli(Config, default=default, prog=PROGRAM, description=EXAMPLES, args=arguments)

    asked = ask(Config())
    console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)  # paths may hold [brackets]
    out: Path | None = None
    try:
        config = resumed(asked, ask) if asked.resume else new(asked)
        with needs("train"):
            from train import data, loop

        loop.network_of(config, 10)  # a wrong name is told before the data are read
        if config.side < (config.size or 0) and config.data != "digits":
            console.print(f"pictures are kept at {config.side} px and enlarged to {config.size}: --side {config.size}?")
        dataset = data.load(config.data, side=config.side, strict=config.strict, report=console.print)
        out = config.out or fresh(config)
        loop.fit(dataclasses.replace(config, out=out), dataset, console)
    except RunError as error:
        stderr = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)
        stderr.print("error:", style="bold red", end=" ")
        stderr.print(str(error))
        if asked.out is None and out is not None:
            with contextlib.suppress(OSError):
                out.parent.rmdir()  # which was made for this run
        return 1
    except KeyboardInterrupt:
        from train.checkpoint import go_on

        resumable = out is not None and (out / "config.json").exists()
        print(f"\nstopped; go on with: {go_on(out)}" if out and resumable else "\nstopped", file=sys.stderr)
        return 130
    return 0


def resumed(asked: Config, ask: Callable[[Config], Config]) -> Config:
    """The config of the run in --out. `ask` reads the command line with other defaults."""
    from train.config import read_config, unchanged

    if asked.out is None:
        newest = max(Path("runs").glob("*/config.json"), key=lambda p: p.stat().st_mtime, default=None)
        hint = f"the newest is --out {newest.parent}" if newest else "there is none in runs/"
        raise RunError(f"--resume: expected --out with the folder of the run; {hint}")
    path = asked.out / "config.json"
    if not path.exists():
        raise RunError(f"--resume: {asked.out} holds no run (no config.json); start it without --resume")
    saved = read_config(path)
    return unchanged(saved, ask(saved))


def new(asked: Config) -> Config:
    """The config of a new run, complete but for a folder that is not asked for."""
    from train.config import data_kind

    config = asked.complete(data_kind(asked.data))
    config.check()
    if config.out is not None and (config.out / "config.json").exists():
        raise RunError(
            f"--out: {config.out} holds a run already; add --resume to go on with it, or name another folder"
        )
    return config


def fresh(config: Config) -> Path:
    """A folder for a run without one, by date, time and model: made at once, so that no other run has it."""
    out = Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{config.model}"
    for name in (out.name, *(f"{out.name}-{i}" for i in range(2, 1000))):
        try:
            out.with_name(name).mkdir(parents=True)
        except OSError as error:
            if out.with_name(name).is_dir():
                continue
            raise RunError(f"{out}: could not be made: {error.strerror}; name a folder with --out") from error
        return out.with_name(name)
    raise RunError(f"{out}: 999 runs began in this second; name a folder with --out")


if __name__ == "__main__":
    sys.exit(main())
