"""What every benchmark shares: timing side by side, and a table that says where and when it was measured."""

import datetime
import importlib
import platform
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jaxlib.version

from train.machine import device

__all__ = ["machine", "optional", "table", "times"]


def optional(name: str) -> Any:
    """A module, or None where it is not installed or does not fit the others."""
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError):
        return None


def times(*runs: Callable[[], Any], repeats: int = 5, budget: float = 1.0) -> list[float]:
    """The least seconds of each run, taken in turn, after one round that compiles; a slow one gives up its turns.

    Args:
        repeats: turns at most.
        budget: seconds for each run; one that has spent them takes no further turn.
    """
    for run in runs:
        jax.block_until_ready(run())
    best, spent = [float("inf")] * len(runs), [0.0] * len(runs)
    for _ in range(repeats):
        for i, run in enumerate(runs):
            if spent[i] > budget:
                continue
            began = time.perf_counter()
            jax.block_until_ready(run())
            took = time.perf_counter() - began
            best[i], spent[i] = min(best[i], took), spent[i] + took
    return best


def machine() -> str:
    """Processor or accelerator, versions and date, for the head of a table."""
    versions = f"jax {jax.__version__}, jaxlib {jaxlib.version.__version__}, Python {platform.python_version()}"
    return f"{device()}; {versions}; {datetime.date.today()}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table: first column to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    left = [True, *[False] * (len(head) - 1)]

    def line(cells: Sequence[str]) -> str:
        padded = [c.ljust(w) if at_left else c.rjust(w) for c, w, at_left in zip(cells, widths, left, strict=True)]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * w if at_left else "-" * (w - 1) + ":" for w, at_left in zip(widths, left, strict=True)]
    return "\n".join(map(line, (head, rule, *rows)))
