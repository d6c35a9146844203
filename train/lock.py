"""Locks between processes, where the system and the disk have them."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from train.errors import RunError

if sys.platform != "win32":
    import fcntl

__all__ = ["flock", "sole"]


def flock(file: IO[str] | int, *, wait: bool = True) -> bool:
    """Locks an open file or folder until it is closed; False where there are no locks.

    Raises:
        BlockingIOError: another process holds it, and `wait` is False.
    """
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise
    except OSError:  # some network file systems have no locks
        return False
    return True


@contextlib.contextmanager
def sole(folder: Path) -> Iterator[None]:
    """Makes a folder and holds it for one process; it is removed if it stays empty. RunError if another one has it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{folder}: could not be written: {error.strerror}; choose another folder") from error
    with contextlib.ExitStack() as after:
        if sys.platform != "win32":  # where a folder cannot be opened
            opened = os.open(folder, os.O_RDONLY)
            after.callback(os.close, opened)
            try:
                flock(opened, wait=False)
            except BlockingIOError:
                raise RunError(
                    f"{folder}: another process is training in it; wait for it, or choose another --out"
                ) from None
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                folder.rmdir()
