"""Finished runs side by side: a table of accuracy over seeds, and their curves in one picture.

python -m train.compare runs/a0 runs/a1 runs/c0 runs/c1 --plot stems.png
"""

import dataclasses
import io
import json
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from train.checkpoint import go_on, write
from train.config import Config
from train.errors import RunError

__all__ = ["Options", "main", "table"]

Group = list[tuple[Path, dict[str, Any]]]


@dataclasses.dataclass(frozen=True)
class Options:
    """Compare finished runs; those that differ only in their seed are one row."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of runs, each with a summary.json and, of a kind, another seed."""
    plot: Path | None = None
    """Where to draw validation accuracy by epoch."""


def groups(runs: Sequence[Path]) -> dict[str, Group]:
    """The runs by what tells them apart, seeds together. RunError if one is not finished, or is there twice."""
    if not runs:
        raise RunError("expected the folders of one or more runs: python -m train.compare runs/a0 runs/c0")
    summaries: Group = []
    for run in runs:
        path = run / "summary.json"
        if not path.exists():
            raise RunError(f"{run}: no summary.json; finish it with: {go_on(run)}")
        try:
            summary = json.loads(path.read_text())
            summary["config"] = Config.of_json(summary["config"]).to_json()  # a later field has its default
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise RunError(f"{path}: this is no summary of a run ({error})") from None
        summaries.append((run, summary))
    configs = [{k: v for k, v in s["config"].items() if k not in ("seed", "out", "resume")} for _, s in summaries]
    differ = [k for k in configs[0] if len({json.dumps(c[k]) for c in configs}) > 1]
    found: dict[str, Group] = {}
    for config, pair in zip(configs, summaries, strict=True):
        name = ", ".join(f"{k} {config[k]}" for k in differ) or str(config["model"])
        found.setdefault(name, []).append(pair)
    for name, group in found.items():
        for seed, times in Counter(s["config"]["seed"] for _, s in group).items():
            if times > 1:
                same = ", ".join(str(run) for run, s in group if s["config"]["seed"] == seed)
                raise RunError(f"{name}: expected another seed in each run, but {same} have seed {seed}; leave one out")
    return found


def table(found: dict[str, Group]) -> str:
    """A Markdown table, one row a group: accuracy as mean ± standard deviation over seeds, in percent."""
    lines = ["| run | seeds | validation accuracy, % | img/s | minutes |", "|---|---|---|---|---|"]
    for name, group in found.items():
        accuracy = [100 * s["val_accuracy"] for _, s in group]
        spread = f" ± {statistics.stdev(accuracy):.2f}" if len(group) > 1 else ""
        each = f" ({', '.join(f'{a:.2f}' for a in accuracy)})" if len(group) > 1 else ""
        speed = statistics.mean(s["img_per_s"] for _, s in group)
        minutes = statistics.mean(s["seconds"] for _, s in group) / 60
        cells = (name, len(group), f"{statistics.mean(accuracy):.2f}{spread}{each}", f"{speed:,.0f}", f"{minutes:.1f}")
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def draw(found: dict[str, Group], path: Path) -> None:
    """Validation accuracy by epoch: a line for each run, a colour for each group."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(6, 3.8), layout="constrained")
    axes = figure.subplots()
    for i, (name, group) in enumerate(found.items()):
        for j, (run, _) in enumerate(group):
            try:
                rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
            except (OSError, ValueError) as error:
                raise RunError(f"{run / 'metrics.jsonl'}: it cannot be read ({error}); leave this run out") from None
            points = [(r["epoch"], 100 * r["val_accuracy"]) for r in rows if r["kind"] == "epoch"]
            label = f"{name} ({len(group)} seed{'s' * (len(group) > 1)})" if not j else None
            axes.plot(*zip(*points, strict=True), "o-", color=f"C{i}", alpha=0.8, ms=3.5, lw=1.4, label=label)
    axes.set(xlabel="epoch", ylabel="validation accuracy, %")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.2)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    write(path, buffer.getvalue())


def main(arguments: list[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    options = tyro.cli(Options, prog="python -m train.compare", args=arguments)
    console = Console(highlight=False, soft_wrap=True, markup=False)
    try:
        found = groups(options.runs)
        console.print(table(found))
        if options.plot is not None:
            draw(found, options.plot)
            console.print(f"\ndrawn to {options.plot}")
    except RunError as error:
        console.print(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
