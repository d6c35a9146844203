"""A run as a picture: loss, accuracy, and the rates that drove them."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from train.checkpoint import write

__all__ = ["curves"]


def curves(rows: Sequence[dict[str, Any]], path: Path, title: str) -> None:
    """Draw the rows of metrics.jsonl: loss per step and smoothed, accuracy per epoch, learning rate and momentum."""
    from matplotlib.figure import Figure

    steps = [row for row in rows if row["kind"] == "step"]
    epochs = [row for row in rows if row["kind"] == "epoch"]
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    loss, accuracy, rate = figure.subplots(1, 3)
    figure.suptitle(title, fontsize=10, parse_math=False)
    train, val = "#4c78a8", "#e45756"

    per_epoch = max(1, len(steps) // max(1, len(epochs)))
    position = np.array([row["step"] for row in steps]) / per_epoch
    ends = [row["epoch"] for row in epochs]
    raw = np.array([row["loss"] for row in steps])
    loss.plot(position, raw, color=train, alpha=0.25, lw=0.7)
    smooth, later = _smooth(raw, per_epoch // 4), [row["val_loss"] for row in epochs]
    loss.plot(position, smooth, color=train, lw=1.5, label="training, smoothed")
    loss.plot(ends, later, "o-", color=val, ms=3.5, lw=1.2, label="validation")
    top = min(1.05 * max([*raw, *later]), 1.5 * max(smooth))  # an early epoch may validate at a hundred times the loss
    loss.set(xlabel="epoch", ylabel="cross-entropy", ylim=(0, top or None))
    loss.legend(frameon=False, fontsize=8)

    accuracy.plot(
        ends, [100 * row["train_accuracy"] for row in epochs], "o-", color=train, ms=3.5, lw=1.2, label="training"
    )
    found = [100 * row["val_accuracy"] for row in epochs]
    last = f"validation, at last {found[-1]:.2f}"
    accuracy.plot(ends, found, "o-", color=val, ms=3.5, lw=1.2, label=last)
    accuracy.set(xlabel="epoch", ylabel="accuracy, %")
    accuracy.legend(frameon=False, fontsize=8, loc="lower right", bbox_to_anchor=(1, 0.1))

    rate.plot(position, [row["lr"] for row in steps], color="#54a24b", lw=1.5)
    rate.set(xlabel="epoch", ylim=(0, None))
    rate.set_ylabel("learning rate", color="#54a24b")
    other = rate.twinx()
    other.plot(position, [row["momentum"] for row in steps], color="#b279a2", lw=1.5)
    other.set_ylim(min([0.5, *(row["momentum"] for row in steps)]), 1)
    other.set_ylabel("momentum", color="#b279a2")
    for axes in (loss, accuracy, rate, other):
        axes.spines["top"].set_visible(False)
        if axes is not other:
            axes.grid(alpha=0.2)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    write(path, buffer.getvalue())


def _smooth(values: np.ndarray, width: int) -> np.ndarray:
    """A running mean over `width` values on each side that there are."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    i = np.arange(len(values))
    first, last = np.maximum(0, i - width), np.minimum(len(values), i + width + 1)
    return (sums[last] - sums[first]) / (last - first)
