"""Every format and every source: what is read is what was written, and nothing is run."""

import json
import os
import pickle
import shutil
import stat
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jconv import weights
from jconv.weights import Preprocessing, files
from tests.weights.nets import NET, X, arrays, same


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_files_keep_every_bit_and_the_preprocessing(suffix: str, tmp_path: Path) -> None:
    made, prep = arrays(), Preprocessing(mean=(0.5,) * 3, size=96, crop=0.9, interpolation="bicubic")
    weights.save(tmp_path / f"net{suffix}", *made, preprocessing=prep)
    found = weights.load(NET, tmp_path / f"net{suffix}", x=X)
    assert same(found[:2], made) and found.preprocessing == prep
    weights.save(tmp_path / f"again{suffix}", found.params, found.state)
    a, b = (files.read(tmp_path / f"{name}{suffix}") for name in ("net", "again"))
    assert list(a.tensors) == list(b.tensors) and all(np.array_equal(a.tensors[n], b.tensors[n]) for n in a.tensors)
    assert b.preprocessing is None
    assert {p.suffix for p in tmp_path.iterdir()} == {suffix}  # nothing half written is left


def test_torchs_own_files(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    made = arrays()
    tensors = {name: torch.tensor(a) for name, a in weights.to_torch(*made).items()}
    wrong = {name: torch.zeros_like(t) for name, t in tensors.items()}
    parameters = {n: torch.nn.Parameter(t) if t.is_floating_point() else t for n, t in tensors.items()}
    for i, content in enumerate(
        (
            tensors,
            parameters,
            {"state_dict": {f"module.{n}": t for n, t in tensors.items()}, "epoch": 3},
            {"model": {f"_orig_mod.{n}": t for n, t in tensors.items()}, "optimizer": {"state": {}}},
            {
                "model": wrong,
                "state_dict": wrong,
                "state_dict_ema": {f"module._orig_mod.{n}": t for n, t in tensors.items()},
            },
            {"state_dict": wrong, "model_ema": tensors},
        )
    ):
        path = tmp_path / f"net{i}{('.pth', '.pt', '.bin', '.pth.tar', '.PTH', '.Pt')[i]}"
        torch.save(content, path)
        assert same(weights.load(NET, path, x=X)[:2], made), path
        assert same(weights.load(NET, content, x=X)[:2], made), path
    for content in ({"epoch": 3, "net": tensors}, [1, 2], {"model": "resnet18"}):
        torch.save(content, tmp_path / "other.pth")
        with pytest.raises(ValueError, match=r"other.pth: this is no .pth file of numbers alone: .*expected"):
            weights.load(NET, tmp_path / "other.pth", x=X)


def test_bfloat16_of_torchs(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    tensors = {
        n: torch.tensor(a).bfloat16() if a.ndim else torch.tensor(a) for n, a in weights.to_torch(*arrays()).items()
    }
    torch.save(tensors, tmp_path / "net.pth")
    read = files.read(tmp_path / "net.pth").tensors
    assert {t.dtype.name for t in read.values()} == {"bfloat16", "int64"}
    files.write(tmp_path / "net.safetensors", read)
    files.write(tmp_path / "net.npz", read)  # which has no such type
    for found in (tensors, *(tmp_path / f"net{suffix}" for suffix in (".pth", ".safetensors", ".npz"))):
        back = weights.to_torch(*weights.load(NET, found, x=X)[:2])
        assert all(np.array_equal(t, tensors[n].float().numpy()) for n, t in back.items())


def test_without_torch_its_files_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.pth").touch()
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"net.pth: torch's own format needs torch to be read: pip install torch, or"):
        weights.load(NET, tmp_path / "net.pth", x=X)


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".SAFETENSORS"])
def test_whom_a_file_is_for_is_the_umasks_choice(suffix: str, tmp_path: Path) -> None:
    for mask in (0o022, 0o077, 0o002):
        before = os.umask(mask)
        try:
            weights.save(tmp_path / f"net{suffix}", *arrays())
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / f"net{suffix}").stat().st_mode) == 0o666 & ~mask


class Evil:
    """What a pickle can do."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("harmed"),)


def test_pickles_are_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("evil.npz", a=np.array([Evil()], object))
    Path("evil.pth").write_bytes(pickle.dumps(Evil()))
    names = ["evil.npz"]
    if pytest.importorskip("torch"):
        names.append("evil.pth")
    for name in names:
        with pytest.raises(ValueError, match=rf"{name}: this is no \.\w+ file of numbers alone"):
            weights.load(NET, name, x=X)
    assert not Path("harmed").exists()


def snapshot(folder: Path, made: tuple[Any, Any], **config: Any) -> Path:
    """A model as the hub keeps one of timm's."""
    folder.mkdir(parents=True)
    weights.save(folder / "model.safetensors", *made)
    about = {"mean": [0.5] * 3, "std": [0.25] * 3, "input_size": [3, 288, 288], "crop_pct": 0.95,
             "interpolation": "bicubic"}  # fmt: skip
    (folder / "config.json").write_text(json.dumps({"architecture": "x", "pretrained_cfg": about | config}))
    return folder


def test_a_snapshot_of_the_hub(tmp_path: Path) -> None:
    made = arrays()
    found = weights.load(NET, snapshot(tmp_path / "net", made), x=X)
    assert same(found[:2], made)
    assert found.preprocessing == Preprocessing((0.5,) * 3, (0.25,) * 3, 288, 0.95, "bicubic")


@pytest.mark.parametrize("config", ["[]", '{"input_size": 5}', '{"pretrained_cfg": null}', '{"model_type": "x"}'])
def test_a_config_that_is_not_timms_says_nothing(config: str, tmp_path: Path) -> None:
    made = arrays()
    folder = snapshot(tmp_path / "net", made)
    (folder / "config.json").write_text(config)
    found = weights.load(NET, folder, x=X)
    assert same(found[:2], made)
    assert found.preprocessing is None


def test_a_broken_config_is_named(tmp_path: Path) -> None:
    folder = snapshot(tmp_path / "net", arrays())
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config.json: Expecting property name"):
        weights.load(NET, folder, x=X)
    weights.save(tmp_path / "a.npz", *arrays(), preprocessing=Preprocessing())
    with np.load(tmp_path / "a.npz") as file:
        tensors = dict(file) | {"preprocessing": np.array('{"sized": 3}')}
    np.savez(tmp_path / "a.npz", **tensors)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"a.npz: preprocessing: .* unexpected keyword argument 'sized', in '{"):
        weights.load(NET, tmp_path / "a.npz", x=X)


def test_the_hub_needs_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(
        ImportError, match=r"hf-hub:timm/tiny: weights from the Hugging Face hub need huggingface_hub: "
    ):
        weights.load(NET, "hf-hub:timm/tiny", x=X)


def cached(home: Path, made: tuple[Any, Any], name: str = "timm/tiny") -> Path:
    """The hub's own cache with one model: blobs named by checksum, a snapshot of links. The weights' blob."""
    import hashlib

    root = home / f"models--{name.replace('/', '--')}"
    real, commit = snapshot(home / "real", made), "0" * 40
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(commit)
    (root / "blobs").mkdir()
    (root / "snapshots" / commit).mkdir(parents=True)
    blob = root
    for path in sorted(real.iterdir()):
        content = path.read_bytes()
        digest = hashlib.sha256 if path.suffix == ".safetensors" else hashlib.sha1  # the hub's own choice
        at = root / "blobs" / digest(content).hexdigest()
        at.write_bytes(content)
        (root / "snapshots" / commit / path.name).symlink_to(at)
        blob = at if path.suffix == ".safetensors" else blob
    return blob


def test_the_hub_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    made = arrays()
    blob = cached(tmp_path, made)
    assert same(weights.load(NET, "hf-hub:timm/tiny", x=X)[:2], made)
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)
    with pytest.raises(ValueError, match=rf"expected sha256 {blob.name}, got [0-9a-f]{{64}}; delete"):
        weights.load(NET, "hf-hub:timm/tiny", x=X)


@pytest.mark.parametrize("has", [("model.safetensors", "pytorch_model.bin"), ("pytorch_model.bin",)])
def test_one_file_of_weights_is_fetched(has: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch, hub = pytest.importorskip("torch"), pytest.importorskip("huggingface_hub")
    made, fetched = arrays(), []
    torch.save({n: torch.tensor(a) for n, a in weights.to_torch(*made).items()}, tmp_path / "pytorch_model.bin")
    weights.save(tmp_path / "model.safetensors", *made)

    def download(repository: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        assert (repository, revision) == ("timm/tiny", "v1")
        (tmp_path / "cache").mkdir(exist_ok=True)
        for name in {*has} & {*allow_patterns}:
            fetched.append(name)
            shutil.copyfile(tmp_path / name, tmp_path / "cache" / name)
        return str(tmp_path / "cache")

    monkeypatch.setattr(hub, "snapshot_download", download)
    assert same(weights.load(NET, "hf-hub:timm/tiny@v1", x=X)[:2], made)
    assert fetched == [has[0]]


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "broken.safetensors").write_bytes(b"not one")
    (tmp_path / "net.h5").touch()
    with pytest.raises(FileNotFoundError, match=r"nothere: no such file or folder; a model of the hub is hf-hub:"):
        weights.load(NET, "nothere", x=X)
    with pytest.raises(FileNotFoundError, match=r"expected one of model.safetensors"):
        weights.load(NET, tmp_path, x=X)
    with pytest.raises(ValueError, match=r"broken.safetensors: this is no .safetensors file"):
        weights.load(NET, tmp_path / "broken.safetensors", x=X)
    with pytest.raises(ValueError, match=r"net.h5: expected .safetensors, .npz, .pth, .pt or .bin, got '.h5'"):
        weights.load(NET, tmp_path / "net.h5", x=X)
    with pytest.raises(ValueError, match=r"expected a name that ends in .safetensors or .npz, got '.pkl'"):
        weights.save(tmp_path / "net.pkl", *arrays())
