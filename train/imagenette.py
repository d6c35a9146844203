"""Train an image classifier on digits, on Imagenette, or on any folder of pictures.

    python -m train.imagenette --data digits
    python -m train.imagenette --model resnet18 --stem c --size 64 --epochs 5
"""

import dataclasses
import sys
import time
from pathlib import Path

from train.errors import RunError

EXAMPLES = """Train an image classifier, by default a ResNet on Imagenette.

Try it in a minute, without a download:   python -m train.imagenette --data digits
Imagenette, another stem:                 python -m train.imagenette --stem c --size 64
A folder of yours, train/ and val/:       python -m train.imagenette --data photos --model resnet50d
Go on after Ctrl-C or a crash:            python -m train.imagenette --resume --out runs/x

A run writes config.json, metrics.jsonl, curves.png and checkpoint.msgpack after each epoch, and summary.json at its end."""


def main(arguments: list[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    try:
        import tyro
        from rich.console import Console
    except ImportError as error:
        print(f'{error}: training needs more packages: pip install "jconv[train]"', file=sys.stderr)
        return 2
    from train.config import Config

    asked = tyro.cli(Config, prog="python -m train.imagenette", description=EXAMPLES, args=arguments)
    console = Console(highlight=False, soft_wrap=True)
    out: Path | None = None
    try:
        config = settle(asked)
        out = config.out
        from train import data, loop

        dataset = data.load(config.data, side=config.side, strict=config.strict, report=console.print)
        loop.fit(config, dataset, console)
    except RunError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"[bold red]error:[/] {error}", markup=True)
        return 1
    except KeyboardInterrupt:
        if out is not None and (out / "checkpoint.msgpack").exists():
            print(f"\nstopped; go on with: python -m train.imagenette --resume --out {out}", file=sys.stderr)
        return 130
    return 0


def settle(asked: "Config") -> "Config":  # noqa: F821
    """The config of the run that is meant, complete: a new one's, or the one to resume."""
    from train.config import data_kind, read_config

    if asked.resume:
        if asked.out is None:
            newest = max(Path("runs").glob("*/config.json"), key=lambda p: p.stat().st_mtime, default=None)
            hint = f"the newest is --out {newest.parent}" if newest else "there is none in runs/"
            raise RunError(f"--resume: expected --out with the folder of the run; {hint}")
        saved = asked.out / "config.json"
        if not saved.exists():
            raise RunError(f"--resume: {asked.out} holds no run (no config.json); start it without --resume")
        return read_config(saved, asked)
    config = asked.complete(data_kind(asked.data))
    out = config.out or Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{config.model}"
    if (out / "config.json").exists():
        raise RunError(f"--out: {out} holds a run already; add --resume to go on with it, or name another folder")
    config = dataclasses.replace(config, out=out)
    config.check()
    return config


if __name__ == "__main__":
    sys.exit(main())
