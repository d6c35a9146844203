"""State dicts on disk and on the Hugging Face hub: {name: array}, and the preprocessing that came with them."""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jconv.weights.preprocessing import Preprocessing

__all__ = ["Source", "read", "write"]

HUB = "hf-hub:"
NAMES = ("model.safetensors", "pytorch_model.bin", "model.npz", "weights.safetensors")
"""Where a folder keeps its weights, the first that is there."""
KINDS = ".safetensors, .npz, .pth, .pt or .bin"
"""The endings of files that can be read, in capitals or not; `.tar` may follow."""


WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")
"""Under which names a training program's checkpoint keeps its state dict, the first that is there: averages before."""


class Source(NamedTuple):
    """What was read."""

    tensors: dict[str, np.ndarray]
    preprocessing: Preprocessing | None
    path: Path | None = None
    """Of the file, if it was one."""


def read(source: str | Path | Mapping[str, Any]) -> Source:
    """A state dict from a file, a folder, the hub, or memory.

    Args:
        source: a .safetensors, .npz or torch file (.pth, .pt, .bin, .pth.tar; numbers only, never arbitrary pickles); a
            folder with one of them and perhaps a config.json, as a snapshot of the hub is; "hf-hub:OWNER/NAME", with
            "@REVISION" or without; or {name: array}, torch's tensors too. The hub's cache, HF_HOME, HF_TOKEN and
            HF_HUB_OFFLINE hold, and what it keeps under a checksum is compared with it. A state dict may be one of the
            entries of what is read, as in a training program's checkpoint.

    Raises:
        FileNotFoundError: nothing is there.
        ImportError: a torch file, and torch is not installed.
        ValueError: a file of another kind, or a broken one.
    """
    if isinstance(source, Mapping):
        return Source(_state_dict(source), None)
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
        if path.suffix.lower() == ".safetensors":
            from safetensors.numpy import save  # `save_file` makes a file that its owner alone can read

            metadata = {"format": "pt"} | ({"preprocessing": preprocessing.dump()} if preprocessing else {})
            part.write_bytes(save(arrays, metadata=metadata))
        elif path.suffix.lower() == ".npz":
            extra: dict[str, Any] = {"preprocessing": np.array(preprocessing.dump())} if preprocessing else {}
            with part.open("wb") as file:
                np.savez(file, **{name: _for_npz(a) for name, a in arrays.items()}, **extra)
        else:
            raise ValueError(f"{path}: expected a name that ends in .safetensors or .npz, got {path.suffix!r}")
        os.replace(part, path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _for_npz(a: np.ndarray) -> np.ndarray:
    """NumPy's format has no bfloat16."""
    return a.astype(np.float32) if a.dtype == jnp.bfloat16 else a


def _state_dict(found: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The state dict that this is, or that it keeps under one of WRAPPERS."""
    found = next((found[key] for key in WRAPPERS if isinstance(found.get(key), Mapping)), found)
    return {name: _array(name, t) for name, t in found.items()}


def _array(name: str, value: Any) -> np.ndarray:
    """A tensor of torch's, a Parameter too, or anything that is an array of numbers."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        half = str(value.dtype) == "torch.bfloat16"  # NumPy alone has no such type
        value = value.float().numpy().astype(jnp.bfloat16) if half else value.numpy()
    if isinstance(value, Mapping) or (array := np.asarray(value)).dtype.kind in "OUS":
        raise ValueError(
            f"{name}: expected numbers, got {type(value).__name__}; a state dict may be an entry of the checkpoint if "
            f"that is one of {', '.join(WRAPPERS)}"
        )
    return array


def _of_folder(folder: Path) -> Source:
    path = next((folder / name for name in NAMES if (folder / name).exists()), None)
    if path is None:
        raise FileNotFoundError(f"{folder}: expected one of {', '.join(NAMES)} in it")
    found, config = _of_file(path), folder / "config.json"
    if found.preprocessing is None and config.exists():
        try:
            return found._replace(preprocessing=Preprocessing.of_timm(json.loads(config.read_text())))
        except (KeyError, TypeError, AttributeError):  # not one of timm's
            return found
        except ValueError as error:
            raise ValueError(f"{config}: {error}") from error
    return found


def _of_file(path: Path) -> Source:
    readers = {".safetensors": _safetensors, ".npz": _npz, ".pth": _torch, ".pt": _torch, ".bin": _torch}
    suffix = Path(path.name.lower().removesuffix(".tar")).suffix
    if suffix not in readers:
        raise ValueError(f"{path}: expected {KINDS}, got {path.suffix!r}")
    try:
        found, text = readers[suffix](path)
        tensors = _state_dict(found)
    except (ImportError, OSError):
        raise
    except Exception as error:
        raise ValueError(f"{path}: this is no {suffix} file of numbers alone: {error}") from error
    try:
        return Source(tensors, Preprocessing.parse(text) if text else None, path)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _safetensors(path: Path) -> tuple[Mapping[str, Any], str | None]:
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, (file.metadata() or {}).get("preprocessing")  # noqa: SIM118


def _npz(path: Path) -> tuple[Mapping[str, Any], str | None]:
    with np.load(path, allow_pickle=False) as file:
        tensors = dict(file)
    text = tensors.pop("preprocessing", None)
    return tensors, None if text is None else str(text)


def _torch(path: Path) -> tuple[Mapping[str, Any], None]:
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError(
            f"{path}: torch's own format needs torch to be read: pip install torch, or take the .safetensors of these "
            f"weights"
        ) from error
    found = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(found, Mapping):
        raise ValueError(f"expected a state dict, got {type(found).__name__}")
    return found, None


def _snapshot(name: str) -> Path:
    """The folder in the hub's cache with one file of weights, the first of NAMES that the repository has, checked."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise ImportError(
            f"hf-hub:{name}: weights from the Hugging Face hub need huggingface_hub: pip install huggingface_hub"
        ) from error
    repository, _, revision = name.partition("@")
    folder = Path()
    for weights in NAMES[:2]:
        wanted = ["config.json", weights]
        folder = Path(snapshot_download(repository, revision=revision or None, allow_patterns=wanted))
        if (folder / weights).exists():
            _check(folder / weights)
            break
    return folder


def _check(path: Path) -> None:
    """Compare a file of the hub's cache, a link to a blob, with the sha256 by which a large one is named."""
    blob = path.resolve()
    if re.fullmatch("[0-9a-f]{64}", blob.name) and (got := _sha256(blob)) != blob.name:
        raise ValueError(f"{path}: expected sha256 {blob.name}, got {got}; delete {blob} and load it again")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
