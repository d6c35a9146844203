"""State dicts on disk and on the Hugging Face hub: {name: array}, and the preprocessing that came with them."""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jconv.weights.preprocessing import Preprocessing

__all__ = ["Source", "read", "write"]

HUB = "hf-hub:"
NAMES = ("model.safetensors", "pytorch_model.bin", "model.npz", "weights.safetensors")
"""Where a folder keeps its weights, the first that is there."""
KINDS = ".safetensors, .npz, .pth, .pt or .bin"


class Source(NamedTuple):
    """What was read."""

    tensors: dict[str, np.ndarray]
    preprocessing: Preprocessing | None
    path: Path


def read(source: str | Path) -> Source:
    """A state dict from a file, a folder, or the hub.

    Args:
        source: a .safetensors, .npz or torch file (.pth, .pt, .bin; numbers only, never arbitrary pickles); a folder
            with one of them and perhaps a config.json, as a snapshot of the hub is; or "hf-hub:OWNER/NAME", with
            "@REVISION" or without. The hub's cache, HF_HOME, HF_TOKEN and HF_HUB_OFFLINE hold, and what it keeps under
            a checksum is compared with it.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: a file of another kind, or a broken one.
    """
    if str(source).startswith(HUB):
        return _of_folder(_snapshot(str(source).removeprefix(HUB)))
    path = Path(source).expanduser()
    if path.is_dir():
        return _of_folder(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder; a model of the hub is {HUB}OWNER/NAME")
    return _of_file(path)


def write(path: str | Path, tensors: Mapping[str, np.ndarray], preprocessing: Preprocessing | None = None) -> None:
    """A state dict as .safetensors or .npz, whole or not at all. ValueError for another ending."""
    path = Path(path)
    part = path.with_name(f".{path.name}.part")
    arrays = dict(tensors)
    try:
        if path.suffix == ".safetensors":
            from safetensors.numpy import save_file

            metadata = {"format": "pt"} | ({"preprocessing": preprocessing.dump()} if preprocessing else {})
            save_file(arrays, part, metadata=metadata)
        elif path.suffix == ".npz":
            extra: dict[str, Any] = {"preprocessing": np.array(preprocessing.dump())} if preprocessing else {}
            with part.open("wb") as file:
                np.savez(file, **arrays, **extra)
        else:
            raise ValueError(f"{path}: expected a name that ends in .safetensors or .npz, got {path.suffix!r}")
        os.replace(part, path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _of_folder(folder: Path) -> Source:
    path = next((folder / name for name in NAMES if (folder / name).exists()), None)
    if path is None:
        raise FileNotFoundError(f"{folder}: expected one of {', '.join(NAMES)} in it")
    found, config = _of_file(path), folder / "config.json"
    if found.preprocessing is None and config.exists():
        with contextlib.suppress(KeyError):  # not one of timm's
            return found._replace(preprocessing=Preprocessing.of_timm(json.loads(config.read_text())))
    return found


def _of_file(path: Path) -> Source:
    readers = {".safetensors": _safetensors, ".npz": _npz, ".pth": _torch, ".pt": _torch, ".bin": _torch}
    if path.suffix not in readers:
        raise ValueError(f"{path}: expected {KINDS}, got {path.suffix!r}")
    try:
        tensors, text = readers[path.suffix](path)
    except (ImportError, OSError):
        raise
    except Exception as error:
        raise ValueError(f"{path}: this is no {path.suffix} file of numbers alone: {error}") from error
    return Source(tensors, Preprocessing.parse(text) if text else None, path)


def _safetensors(path: Path) -> tuple[dict[str, np.ndarray], str | None]:
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, (file.metadata() or {}).get("preprocessing")  # noqa: SIM118


def _npz(path: Path) -> tuple[dict[str, np.ndarray], str | None]:
    with np.load(path, allow_pickle=False) as file:
        tensors = dict(file)
    text = tensors.pop("preprocessing", None)
    return tensors, None if text is None else str(text)


def _torch(path: Path) -> tuple[dict[str, np.ndarray], None]:
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        error.add_note(f"{path} is torch's own format: pip install torch, or take the .safetensors of these weights")
        raise
    found = torch.load(path, map_location="cpu", weights_only=True)
    found = next((found[key] for key in ("state_dict", "model") if isinstance(found.get(key), dict)), found)
    return {re.sub(r"^module\.", "", name): t.numpy() for name, t in found.items()}, None


def _snapshot(name: str) -> Path:
    """The folder in the hub's cache, checked."""
    from huggingface_hub import snapshot_download

    repository, _, revision = name.partition("@")
    folder = Path(snapshot_download(repository, revision=revision or None, allow_patterns=["config.json", *NAMES[:2]]))
    for path in folder.iterdir():  # a link to a blob; a large one is named by its sha256
        blob = path.resolve()
        if re.fullmatch("[0-9a-f]{64}", blob.name) and (got := _sha256(blob)) != blob.name:
            raise ValueError(f"{path}: expected sha256 {blob.name}, got {got}; delete {blob} and load it again")
    return folder


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
