"""Files and folders that are there whole or not at all, however their making ends.

They are made in a hidden sibling folder and renamed at the end, under a lock: one process makes, others wait.
"""

import errno
import glob
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from train.errors import RunError
from train.lock import flock

_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
ELSEWHERE = "Free some room, or put the cache on another disk: JCONV_CACHE=/another/disk"


def make_once(final: Path, make: Callable[[Path], None], *, size: int, remedy: str = ELSEWHERE) -> None:
    """Calls `make(part)` and renames `part`, the file or folder it made, to `final`; does nothing if that is there.

    Args:
        final: the path to make. Its parent is created.
        make: makes a file or a folder at the path it is given, in a scratch folder of its own.
        size: bytes that it will take, for a check beforehand and for the message of a full disk.
        remedy: what to do when the disk is full.

    Raises:
        RunError: no room, or no permission to write. Nothing is left behind, then or after any other exception.
    """
    if final.exists():
        return
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        lock = (final.parent / f".{final.name}.lock").open("w")
        lock.close()
    except OSError as error:
        if error.errno in _FULL:
            raise _no_room(final, size, remedy) from error
        raise RunError(f"Cannot write in {final.parent}: {error.strerror}. {remedy}") from error
    with _alone(Path(lock.name)) as locked:
        if final.exists():  # another process made it while this one waited
            return
        if locked:  # so whoever left these is dead
            for leftover in final.parent.glob(f".{glob.escape(final.name)}.*.part"):
                shutil.rmtree(leftover)
        _make(final, make, size, remedy)


def _make(final: Path, make: Callable[[Path], None], size: int, remedy: str) -> None:
    usage = shutil.disk_usage(final.parent)
    if usage.total and usage.free < size:  # some network file systems report 0 and 0
        raise _no_room(final, size, remedy)
    scratch = final.parent / f".{final.name}.{os.getpid()}.part"
    try:
        scratch.mkdir()
        make(scratch / final.name)
        if not final.exists():  # it can only where there are no locks: then the first one stays
            os.replace(scratch / final.name, final)
    except OSError as error:
        if error.errno in _FULL:
            shutil.rmtree(scratch, ignore_errors=True)  # so that the message says what is free without it
            raise _no_room(final, size, remedy) from error
        raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _no_room(final: Path, size: int, remedy: str) -> RunError:
    free = shutil.disk_usage(final.parent if final.parent.exists() else Path(final.anchor)).free
    return RunError(f"The disk of {final} is full: {size / 1e6:,.1f} MB needed, {free / 1e6:,.1f} MB free. {remedy}")


@contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """Waits until no other process or thread holds the lock file `path`; yields False where there are no locks."""
    while True:
        file = path.open("w")
        locked = flock(file)
        if not locked or os.fstat(file.fileno()).st_nlink:
            break
        file.close()  # who held it has removed it: lock the file that is there now
    try:
        yield locked
    finally:
        if locked:
            path.unlink(missing_ok=True)
        file.close()
