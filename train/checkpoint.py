"""What a run writes, whole or not at all: a file appears under its name only when every byte of it is on the disk."""

import errno
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from flax import serialization

from train.errors import RunError
from train.step import TrainState

__all__ = ["load", "save", "write", "write_json"]


def write(path: Path, content: bytes) -> None:
    """Replace the file by this content, atomically. RunError if the disk is full; the old file stays then."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = file.name
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        kept = "the one written before is kept" if path.exists() else "nothing was written before it"
        raise RunError(
            f"{path}: the disk is full: {len(content) / 1e6:.1f} MB could not be written; {kept}. "
            f"Free some space, then go on with: python -m train.imagenette --resume --out {path.parent}"
        ) from error


def write_json(path: Path, content: Any) -> None:
    """`write` as JSON."""
    write(path, (json.dumps(content, indent=2) + "\n").encode())


def save(path: Path, state: TrainState, epoch: int) -> None:
    """The state after so many whole epochs."""
    write(path, serialization.to_bytes({"epoch": epoch, "state": state}))


def load(path: Path, like: TrainState) -> tuple[TrainState, int]:
    """The state that was saved, in the shape of `like`, and its epoch. RunError if there is none or it does not fit."""
    try:
        content = serialization.from_bytes({"epoch": 0, "state": like}, path.read_bytes())
    except FileNotFoundError:
        raise RunError(f"{path}: no checkpoint to resume from; start the run without --resume") from None
    except ValueError as error:
        raise RunError(f"{path}: this is no checkpoint of that network ({error}); start another run with --out") from error
    return content["state"], content["epoch"]
