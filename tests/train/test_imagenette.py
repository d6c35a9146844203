"""The command line: what it teaches, what it refuses, and runs that are killed, interrupted, piped or watched."""

import dataclasses
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import train
from jconv.models import Network
from train import imagenette, loop
from train.config import Config, flag
from train.data.types import Dataset
from train.errors import RunError

ROOT = Path(train.__file__).parents[1]

TINY = """
import signal, sys
from jconv.layers import Activation, BatchNorm, Conv, GlobalAvgPool, Linear
from jconv.models import Network
from train import imagenette, loop

def tiny(config, classes):
    return Network(stages={}, conv1=Conv(4, 3, bias=False), bn1=BatchNorm(), act1=Activation("relu"),
                   global_pool=GlobalAvgPool(), fc=Linear(classes))

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have told its background jobs to ignore it
loop.network_of = tiny
sys.exit(imagenette.main())
"""
"""The program with a network that compiles in a second."""

Main = Callable[..., tuple[int, str, str]]


@pytest.fixture
def main(capsys, monkeypatch, tmp_path: Path) -> Main:
    """`main("--data digits ...")`: exit code, output, errors; in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(line: str) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = imagenette.main(line.split())
        except SystemExit as exit:
            code = exit.code if isinstance(exit.code, int) else 1
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


@pytest.fixture
def tiny_main(main: Main, monkeypatch, tiny_network: Network, tiny_data: Dataset) -> Main:
    """`main` with a tiny network on tiny data."""
    monkeypatch.setattr(loop, "network_of", lambda config, classes: tiny_network)
    monkeypatch.setattr("train.data.load", lambda *args, **options: tiny_data)
    return main


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}


def start(program: list[str], **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(  # pyright: ignore[reportCallIssue]
        [sys.executable, *program],
        env=environment(),
        text=True,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},  # pyright: ignore[reportArgumentType]
    )


# What it teaches


def test_help_names_every_field_and_the_examples() -> None:
    process = start(["-m", "train.imagenette", "--help"], cwd=ROOT)
    out = process.communicate()[0]
    assert process.returncode == 0
    for field in dataclasses.fields(Config):
        assert re.search(rf"{flag(field.name)}\b", out), field.name
    commands = re.findall(r"^ *(python -m train\.imagenette .*?) *$", out, re.MULTILINE)
    assert len(commands) == 4, "each example on a line of its own"
    for command in commands:
        words = command.split()[3:]
        assert {w for w in words if w.startswith("--")} <= {flag(f.name) for f in dataclasses.fields(Config)}
    assert max(map(len, out.splitlines())) <= 100


def test_a_near_miss_names_the_flag(main: Main) -> None:
    code, out, err = main("--epoch 3")
    assert code == 2
    assert "--epochs" in out + err


# What it refuses


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("--data digits --model resnet5O", "--model resnet5O: unknown model 'resnet5O'; did you mean 'resnet50'"),
        ("--data digits --stem d", "--stem d: unknown 'd'; there are 'a', 'c',"),
        ("--data digits --lowering nonsense", "--lowering nonsense: expected auto, lax, im2col"),
        (
            "--data digit",
            "--data digit: there is no such folder or archive, and the keywords are digits, tfds. Did you",
        ),
        ("--data some/[train]", "--data some/[train]: there is no such folder or archive"),
        ("--data digits --epochs 0", "--epochs: expected at least 1, got 0"),
        ("--data digits --size 0", "--size: expected at least 1, got 0"),
        ("--data digits --batch-size -4", "--batch-size: expected at least 1, got -4"),
        ("--data digits --lr -1", "--lr: expected a number of at least 0, got -1.0"),
        ("--data digits --lr nan", "--lr: expected a number of at least 0, got nan"),
        ("--data digits --momentum 1", "--momentum: expected a number from 0 to below 1, got 1.0"),
        ("--data digits --min-scale 0", "--min-scale: expected a number above 0, at most 1, got 0.0"),
        ("--data digits --crop 1.2", "--crop: expected a number above 0, at most 1, got 1.2"),
        ("--data digits --drop-path 1", "--drop-path: expected a number from 0 to below 1, got 1.0"),
        ("--data digits --label-smoothing 2", "--label-smoothing: expected a number from 0 to 1, got 2.0"),
        ("--data digits --seed -1", "--seed: expected a whole number from 0 to 2**32 - 1, got -1"),
        ("--data digits --std 0", "--std: expected finite numbers above 0, got (0.0,)"),
        ("--data digits --mean nan", "--mean: expected finite numbers, got (nan,)"),
        ("--data digits --batch-size 2000", "--batch-size 2000: there are only 1437 training images"),
        ("--resume", "--resume: expected --out with the folder of the run; there is none in runs/"),
        ("--resume --out nowhere", "--resume: nowhere holds no run (no config.json); start it without --resume"),
    ],
)
def test_mistakes(main: Main, line: str, text: str, tmp_path: Path) -> None:
    code, out, err = main(line)
    assert code == 1
    assert not out
    assert err.startswith(f"error: {text}")
    assert err.count("\n") == 1, "one line, without a traceback"
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_a_wrong_name_is_told_before_the_data_are_read(main: Main, monkeypatch) -> None:
    monkeypatch.setattr("train.data.load", lambda *args, **options: pytest.fail("read"))
    assert main("--stem d")[2].startswith("error: --stem d: ")


def test_runs_that_begin_together_have_folders_of_their_own(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.strftime", lambda _: "now")
    config = Config(model="m")
    assert [imagenette.fresh(config).name for _ in range(3)] == ["now-m", "now-m-2", "now-m-3"]
    monkeypatch.chdir(tmp_path / "runs" / "now-m")
    Path("runs").write_text("a file")
    with pytest.raises(RunError, match=r"runs/now-m: could not be made: .*; name a folder with --out"):
        imagenette.fresh(config)


def test_missing_package_names_the_extra(main: Main, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    assert 'run: pip install "jconv[train]"' in main("--data digits")[2], "brackets are text, not markup"
    monkeypatch.setitem(sys.modules, "rich.console", None)
    code, _, err = main("--data digits")
    assert code == 2
    assert 'pip install "jconv[train]"' in err


def test_a_run_in_a_folder_with_brackets(tiny_main: Main, tmp_path: Path) -> None:
    """A first run, and everything that can be asked of its folder afterwards."""
    line = "--data digits --epochs 1 --batch-size 8 --warmup 0.5 --out a[/b]:smile:"
    code, out, err = tiny_main(line)
    assert (code, err) == (0, "")
    assert "writing to a[/b]:smile:" in out
    assert out.rstrip().endswith("curves.png are in a[/b]:smile:")
    config = json.loads((tmp_path / "a[/b]:smile:" / "config.json").read_text())
    defaults = {"model": "cifar_resnet20", "size": 8, "schedule": "onecycle", "flip": False, "crop": 1.0, "lr": 0.1}
    assert {k: config[k] for k in defaults} == defaults
    assert (config["epochs"], config["warmup"]) == (1, 0.5)

    code, _, err = tiny_main(line)
    assert code == 1
    assert "--out: a[/b]:smile: holds a run already; add --resume to go on with it, or name another" in err

    resume = "--resume --out a[/b]:smile:"
    for flags in ("", "--epochs 1", "--warmup 0.5 --seed 0"):
        code, out, _ = tiny_main(f"{resume} {flags}")
        assert code == 0
        assert "all 1 epochs are done" in out
    for flags, change in [
        ("--epochs 7", "--epochs 7 (the run has 1)"),
        ("--warmup 0.25", "--warmup 0.25 (the run has 0.5)"),  # the default, but not the run's
        ("--lr 0.2 --seed 3", "--lr 0.2 (the run has 0.1), --seed 3 (the run has 0)"),
    ]:
        code, _, err = tiny_main(f"{resume} {flags}")
        assert code == 1
        assert f"--resume goes on with the run as it was, but the command line changes {change}; leave these" in err

    (tmp_path / "a[/b]:smile:" / "config.json").write_text("{")
    code, _, err = tiny_main(resume)
    assert code == 1
    assert "config.json: this is no config of a run" in err


def test_resume_without_out_names_the_newest(main: Main, tmp_path: Path) -> None:
    for age, name in ((20, "old"), (0, "new"), (10, "middle")):
        config = tmp_path / "runs" / name / "config.json"
        config.parent.mkdir(parents=True)
        config.touch()
        os.utime(config, (time.time() - age, time.time() - age))
    assert main("--resume")[2] == (
        "error: --resume: expected --out with the folder of the run; the newest is --out runs/new\n"
    )


def test_out_is_a_file(main: Main, tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    code, _, err = main("--data digits --out taken")
    assert code == 1
    assert "could not be written" in err
    assert "choose another folder" in err


def test_default_folder(tiny_main: Main, tmp_path: Path) -> None:
    assert tiny_main("--data digits --epochs 1 --batch-size 8")[0] == 0
    (run,) = (tmp_path / "runs").iterdir()
    assert re.fullmatch(r"\d{8}-\d{6}-cifar_resnet20", run.name)
    assert (run / "summary.json").exists()


def test_interrupt_before_there_is_a_run(main: Main, monkeypatch) -> None:
    def interrupt(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("train.data.load", interrupt)
    assert main("--data digits") == (130, "", "\nstopped\n")


# Whole programs


LINE = ["--data", "digits", "--epochs", "4", "--batch-size", "3"]


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run that nothing stopped, and what it printed into a pipe."""
    out = tmp_path_factory.mktemp("straight") / "run"
    process = start(["-W", "error", "-c", TINY, *LINE, "--out", str(out)])
    shown, errors = process.communicate()
    assert (process.returncode, errors) == (0, "")
    return out, shown


def test_piped_output_is_plain(straight: tuple[Path, str]) -> None:
    lines = straight[1].splitlines()
    assert "\x1b" not in straight[1]
    assert "\r" not in straight[1]
    assert len(lines) == 3 + 4 + 1, straight[1]
    assert re.fullmatch(r" +2/4 +\d\.\d{4} +\d+\.\d\d% +\d\.\d{4} +\d+\.\d\d% +[\d,]+ +\d+:\d\d min", lines[4])


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_run_goes_on_bit_for_bit(straight: tuple[Path, str], tmp_path: Path, how: signal.Signals) -> None:
    out = tmp_path / "run [1]"
    process = start(["-c", TINY, *LINE, "--out", str(out)])
    while not (out / "curves.png").exists() and process.poll() is None:  # the end of the first epoch
        time.sleep(0.01)
    time.sleep(0.1)
    process.send_signal(how)
    errors = process.communicate()[1]
    assert process.returncode == (130 if how == signal.SIGINT else -how), errors
    assert not (out / "summary.json").exists(), "it was stopped too late to test anything"
    if how == signal.SIGINT:
        assert errors == f"\nstopped; go on with: python -m train.imagenette --resume --out '{out}'\n"
    process = start(["-c", TINY, "--resume", "--out", str(out)])
    shown, errors = process.communicate()
    assert process.returncode == 0, errors
    assert re.search(r"resumed after epoch [123] of 4", shown)
    assert (out / "checkpoint.msgpack").read_bytes() == (straight[0] / "checkpoint.msgpack").read_bytes()
    losses = [
        [
            (r["kind"], r.get("loss"), r.get("val_loss"))
            for r in map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
        ]
        for run in (out, straight[0])
    ]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 4 * 480
    assert {p.name for p in out.iterdir()} == {p.name for p in straight[0].iterdir()}, "no half-written file stays"


def test_what_a_terminal_shows(tmp_path: Path) -> None:
    """On 80 columns, a progress line that fits and a table below; nothing is cut off."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    line = ["--data", "digits", "--epochs", "2", "--batch-size", "2", "--out", str(tmp_path / "run")]
    process = subprocess.Popen(
        [sys.executable, "-c", TINY, *line],
        env=environment() | {"TERM": "xterm-256color"},
        stdin=child,
        stdout=child,
        stderr=child,
    )
    os.close(child)
    shown = b""
    while True:
        try:
            part = os.read(parent, 65536)
        except OSError:  # how Linux says that the other side is closed
            break
        if not part:
            break
        shown += part
    os.close(parent)
    assert process.wait() == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    lines = [part for part in re.split(r"[\r\n]+", text) if part.strip()]
    progress = [part for part in lines if "ETA" in part]
    assert any("compiling" in part for part in progress)
    assert any(re.search(r"epoch [12]/2  loss \d\.\d{3}  accuracy \d+\.\d%  [\d,]+ img/s ETA", p) for p in progress)
    assert max(map(len, progress)) < 80
    assert "…" not in text
    assert [part.split()[0] for part in lines if " min" in part and "/2 " in part] == ["1/2", "2/2"]
