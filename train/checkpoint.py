"""What a run writes, whole or not at all: a file appears under its name only when every byte of it is on the disk."""

import contextlib
import errno
import json
import os
import shlex
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import serialization

from train.errors import RunError
from train.step import TrainState

__all__ = ["go_on", "load", "save", "write", "write_json"]


def write(path: Path, content: bytes) -> None:
    """Replace the file by this content, atomically. RunError if it cannot be written; the old file stays then."""
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        raise RunError(_unwritten(path, len(content), error)) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _unwritten(path: Path, size: int, error: OSError) -> str:
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return f"{path}: could not be written: {error.strerror}; choose another folder"
    kept = "the one written before is kept" if path.exists() else "nothing was written before it"
    resumable = (path.parent / "config.json").exists()
    return f"{path}: the disk is full: {size / 1e6:.1f} MB could not be written; {kept}. Free some space, then " + (
        f"go on with: {go_on(path.parent)}" if resumable else "start it again"
    )


def go_on(out: Path) -> str:
    """The command that goes on with the run in that folder."""
    return f"python -m train.imagenette --resume --out {shlex.quote(str(out))}"


def write_json(path: Path, content: Any) -> None:
    """`write` as JSON."""
    write(path, (json.dumps(content, indent=2) + "\n").encode())


def save(path: Path, state: TrainState, epoch: int) -> None:
    """The state after so many whole epochs."""
    write(path, serialization.to_bytes({"epoch": epoch, "state": state}))


def load(path: Path, like: TrainState) -> tuple[TrainState, int]:
    """The state that was saved, in the shape of `like`, and its epoch. RunError if there is none or it does not fit."""
    what = f"{path}: this is no checkpoint of that network"
    try:
        saved = serialization.msgpack_restore(path.read_bytes())
    except FileNotFoundError:
        raise RunError(f"{path}: no checkpoint to resume from; start another run with another --out") from None
    except ValueError as error:
        raise RunError(f"{what} ({error}); start another run with another --out") from error
    target = {"epoch": 0, "state": like}
    expected, got = _shapes(serialization.to_state_dict(target)), _shapes(saved)
    for name in [*expected, *got]:
        if expected.get(name) != got.get(name):
            raise RunError(
                f"{what}: {name}: expected shape {expected.get(name)}, got {got.get(name)}; has the data changed "
                f"since? If so, start another run with another --out"
            )
    content = serialization.from_state_dict(target, saved)  # pyright: ignore[reportArgumentType]
    return content["state"], content["epoch"]


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    return {jax.tree_util.keystr(path): np.shape(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
