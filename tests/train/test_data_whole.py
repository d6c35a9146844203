"""Whole or not at all: what is left by errors, full disks, kills, and two processes at once."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import train.data
from train.data import whole
from train.data.whole import make_once
from train.errors import RunError

ROOT = Path(train.data.__file__).parents[2]
SLOW = """
import sys, time
from pathlib import Path
from train.data.whole import make_once
def make(part):
    part.mkdir()
    (part / "half").write_text("x")
    print("started", flush=True)
    time.sleep(float(sys.argv[2]))
    (part / "rest").write_text("x")
make_once(Path(sys.argv[1]), make, size=0)
"""


def start(final: Path, seconds: float) -> subprocess.Popen:
    command = [sys.executable, "-c", SLOW, str(final), str(seconds)]
    return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True)


def contents(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_made_once(tmp_path: Path) -> None:
    calls = []

    def make(part: Path) -> None:
        calls.append(part)
        part.write_text("all of it")

    for _ in range(2):
        make_once(tmp_path / "deep/down/file", make, size=9)
    assert len(calls) == 1 and contents(tmp_path / "deep/down") == ["file"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_nothing_is_left_by_an_error(tmp_path: Path, error: type[BaseException]) -> None:
    def make(part: Path) -> None:
        part.mkdir()
        (part / "half").write_text("x")
        raise error

    with pytest.raises(error):
        make_once(tmp_path / "final", make, size=0)
    assert contents(tmp_path) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_while_writing(tmp_path: Path, number: int) -> None:
    def make(part: Path) -> None:
        part.write_text("half")
        raise OSError(number, os.strerror(number))

    with pytest.raises(RunError, match=rf"{tmp_path / 'final'} is full: 2\.5 MB needed, .* MB free\. .*JCONV_CACHE="):
        make_once(tmp_path / "final", make, size=2_500_000)
    assert contents(tmp_path) == []


def test_full_disk_is_seen_beforehand(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"is full: 1,000,000,000,000\.0 MB needed"):
        make_once(tmp_path / "final", lambda part: pytest.fail("was tried"), size=10**18)
    assert contents(tmp_path) == []


def test_no_permission(tmp_path: Path, monkeypatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(RunError, match=f"Cannot write in {tmp_path}: Permission denied. .*JCONV_CACHE="):
        make_once(tmp_path / "final", lambda part: None, size=0)


def test_a_kill_leaves_no_half_and_the_next_run_cleans_up(tmp_path: Path) -> None:
    process = start(tmp_path / "final", 60)
    assert process.stdout is not None and process.stdout.readline() == "started\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "final").exists() and contents(tmp_path) != []  # the scratch folder and the lock
    make_once(tmp_path / "final", Path.mkdir, size=0)
    assert contents(tmp_path) == ["final"]


@pytest.mark.skipif(sys.platform == "win32", reason="no flock")
def test_two_processes_make_it_once(tmp_path: Path) -> None:
    both = [start(tmp_path / "final", 0.5) for _ in range(2)]
    outputs = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0] and sorted(outputs) == ["", "started\n"]
    assert contents(tmp_path) == ["final"] and contents(tmp_path / "final") == ["half", "rest"]


def test_many_threads_make_it_once(tmp_path: Path) -> None:
    calls = []

    def make(part: Path) -> None:
        calls.append(1)
        time.sleep(0.05)
        part.write_text("x")

    threads = [threading.Thread(target=make_once, args=(tmp_path / "f", make), kwargs={"size": 0}) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == [1] and contents(tmp_path) == ["f"]


def test_without_locks_the_first_one_stays(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(whole, "flock", lambda file: False)

    def make(part: Path) -> None:
        part.mkdir()
        (tmp_path / "final").mkdir()  # another process was faster
        (tmp_path / "final/theirs").write_text("x")

    make_once(tmp_path / "final", make, size=0)
    assert contents(tmp_path / "final") == ["theirs"]
