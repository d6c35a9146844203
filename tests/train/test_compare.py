"""Finished runs side by side: which runs are one row, what the row says, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from train import compare
from train.errors import RunError


def finished(folder: Path, accuracy: float, **config: object) -> Path:
    """A folder as a finished run leaves it."""
    folder.mkdir()
    settings = {"model": "resnet18", "stem": "a", "seed": 0, "out": str(folder), "resume": False} | config
    summary = {"val_accuracy": accuracy, "img_per_s": 1234.5, "seconds": 90.0, "config": settings}
    (folder / "summary.json").write_text(json.dumps(summary))
    rows = [{"kind": "epoch", "epoch": i + 1, "val_accuracy": accuracy * (i + 1) / 3} for i in range(3)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_seeds_are_one_row_with_their_mean_and_deviation(tmp_path: Path, rng: np.random.Generator) -> None:
    accuracies = rng.uniform(0.5, 1, (2, 3))
    runs = [
        finished(tmp_path / f"{stem}{seed}", accuracies[i, seed], stem=stem, seed=seed)
        for i, stem in enumerate("ac")
        for seed in range(3)
    ]
    found = compare.groups(runs)
    assert {name: [run for run, _ in group] for name, group in found.items()} == {
        "stem a": runs[:3],
        "stem c": runs[3:],
    }
    rows = compare.table(found).splitlines()[2:]
    for row, values in zip(rows, 100 * accuracies, strict=True):
        assert f"| 3 | {values.mean():.2f} ± {values.std(ddof=1):.2f} (" in row
        assert "| 1,234 | 1.5 |" in row


def test_equal_configs_are_named_by_their_model(tmp_path: Path) -> None:
    assert list(compare.groups([finished(tmp_path / "x", 0.9)])) == ["resnet18"]


def test_the_plot_is_a_picture(tmp_path: Path) -> None:
    run = finished(tmp_path / "x", 0.9)
    assert compare.main([str(run), "--plot", str(tmp_path / "plot.png")]) == 0
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_that_is_not_finished_is_refused_with_the_command_that_finishes_it(tmp_path: Path) -> None:
    (tmp_path / "half").mkdir()
    with pytest.raises(RunError, match=r"half: no summary.json; finish it with: .*--resume --out \S*half"):
        compare.groups([tmp_path / "half"])
    with pytest.raises(RunError, match="expected the folders of one or more runs"):
        compare.groups([])


def test_a_run_from_before_an_option_has_its_default(tmp_path: Path) -> None:
    old, new = finished(tmp_path / "old", 0.8), finished(tmp_path / "new", 0.9, freeze="layer1", seed=1)
    for runs in ([old, new], [new, old]):
        found = compare.groups(runs)
        assert {name: len(group) for name, group in found.items()} == {"freeze None": 1, "freeze layer1": 1}


def test_a_run_counts_once(tmp_path: Path) -> None:
    first, same = finished(tmp_path / "a", 0.9), finished(tmp_path / "b", 0.9)
    for runs in ([first, first], [first, same]):
        with pytest.raises(RunError, match=r"resnet18: expected another seed in each run, but .* have seed 0"):
            compare.groups(runs)


def test_what_cannot_be_read_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = finished(tmp_path / "a", 0.9)
    (run / "metrics.jsonl").unlink()
    assert compare.main([str(run), "--plot", str(tmp_path / "plot.png")]) == 1
    assert "metrics.jsonl: it cannot be read" in capsys.readouterr().out
    for text in ("{", "[]", '{"config": 3}'):
        (run / "summary.json").write_text(text)
        with pytest.raises(RunError, match=r"summary.json: this is no summary of a run"):
            compare.groups([run])
