"""Weights: names both ways bit for bit, every format, every source, every mismatch at once."""

import json
import pickle
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jconv
from jconv import models, weights
from jconv.layers import BatchNorm, Conv, ConvTranspose, Linear, Sequential
from jconv.weights import Preprocessing, files
from tests.models.parity import imported

KEY = jax.random.key(0)
X = jax.ShapeDtypeStruct((2, 32, 32, 3), "float32")
NET = models.resnet(18, width=8, stem="c", shortcut="avgpool", num_classes=7)


def arrays(net: Any = NET, x: Any = X, seed: int = 0) -> tuple[Any, Any]:
    """Random parameters and statistics."""
    rng = np.random.default_rng(seed)
    like = jax.eval_shape(net.init, KEY, x)
    return jax.tree.map(lambda a: jnp.asarray(rng.uniform(0.5, 1.5, a.shape), jnp.float32), like)


def same(a: Any, b: Any) -> bool:
    return jax.tree.all(jax.tree.map(lambda p, q: p.dtype == q.dtype and np.array_equal(p, q), a, b))


def test_there_and_back_is_the_same_bit_for_bit() -> None:
    made = arrays()
    tensors = weights.to_torch(*made)
    assert same(weights.from_torch(tensors, *made), made)
    assert not same(weights.from_torch(tensors | {"fc.bias": tensors["fc.bias"] + 1e-7}, *made), made)
    assert {"conv1.0.weight", "layer2.0.downsample.1.weight", "bn1.running_var", "fc.bias"} < set(tensors)


def test_trailing_axes_of_one_element_are_no_difference() -> None:
    """A matrix as the 1×1 convolution that it is; a vector as (C, 1, 1)."""
    made = arrays()
    tensors = weights.to_torch(*made)
    wide = {name: tensors[name].reshape(*tensors[name].shape, 1, 1) for name in ("fc.weight", "bn1.bias")}
    assert same(weights.from_torch(tensors | wide, *made), made)
    for wrong in (np.zeros((8, 2)), np.zeros((8, 1, 2)), np.zeros((1, 8)), np.zeros(())):
        with pytest.raises(ValueError, match=r"shape: bn1.bias: expected \(8,\), got"):
            weights.from_torch(tensors | {"bn1.bias": wrong}, *made)


@pytest.mark.parametrize("layer", [Conv(6, (3, 5), groups=2), ConvTranspose(6, 3, groups=2), Linear(6), BatchNorm()])
def test_axes_are_torchs(layer: Any, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    twin = {
        Conv: lambda: torch.nn.Conv2d(4, 6, (3, 5), padding=(1, 2), groups=2),
        ConvTranspose: lambda: torch.nn.ConvTranspose2d(4, 6, 3, padding=1, groups=2),
        Linear: lambda: torch.nn.Linear(4, 6),
        BatchNorm: lambda: torch.nn.BatchNorm2d(4),
    }[type(layer)]().eval()
    x = rng.normal(size=(2, 7, 9, 4)).astype(np.float32)
    params, state = arrays(layer, jax.ShapeDtypeStruct(x.shape, x.dtype))
    twin.load_state_dict({n: torch.tensor(a) for n, a in weights.to_torch(params, state).items()})
    first = torch.tensor(x if isinstance(layer, Linear) else np.moveaxis(x, -1, 1))
    y = twin(first).detach().numpy()
    ours, _ = layer.apply(params, state, jnp.asarray(x))
    np.testing.assert_allclose(ours, y if isinstance(layer, Linear) else np.moveaxis(y, 1, -1), rtol=1e-5, atol=1e-5)


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
    for content in (tensors, {"state_dict": {f"module.{n}": t for n, t in tensors.items()}, "epoch": 3}):
        torch.save(content, tmp_path / "net.pth")
        assert same(weights.load(NET, tmp_path / "net.pth", x=X)[:2], made)


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


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
def test_other_channels_as_timm(channels: int) -> None:
    made = arrays()
    tensors = weights.to_torch(*made)
    x = jax.ShapeDtypeStruct((2, 32, 32, channels), "float32")
    got = weights.to_torch(*weights.load(NET, tensors, x=x)[:2])
    old, new = tensors["conv1.0.weight"], got["conv1.0.weight"]
    if channels == 1:
        right = old.sum(1, keepdims=True)
    else:
        right = np.concatenate([old] * 3, axis=1)[:, :channels] * (3 / channels)
    np.testing.assert_allclose(new, right, rtol=1e-6)
    assert all(np.array_equal(got[n], tensors[n]) for n in tensors if n != "conv1.0.weight")


def test_another_number_of_classes() -> None:
    net = models.resnet(18, width=8, stem="c", shortcut="avgpool", num_classes=3)
    tensors = weights.to_torch(*arrays())
    with pytest.raises(ValueError, match=r"fc\.\w+, fc\.\w+: .* key=jax\.random\.key\(0\) starts a new classifier"):
        weights.load(net, tensors, x=X)
    found = weights.load(net, tensors, x=X, key=KEY)
    fresh, _ = net.init(KEY, X)
    assert same(found.params["fc"], fresh["fc"]) and found.params["fc"]["kernel"].shape == (64, 3)
    got = weights.to_torch(found.params, found.state)
    assert all(np.array_equal(got[n], tensors[n]) for n in tensors if not n.startswith("fc."))


def test_a_backbone_without_its_classifier() -> None:
    net = models.resnet(18, width=8, stem="c", shortcut="avgpool", num_classes=0)
    tensors = weights.to_torch(*arrays())
    with pytest.raises(ValueError, match=r"0 missing, 2 unexpected.*\nunexpected: fc"):
        weights.load(net, tensors, x=X)
    assert "fc" not in weights.load(net, tensors, x=X, ignore=["fc.*"]).params


def test_every_difference_is_told_at_once() -> None:
    tensors = weights.to_torch(*arrays())
    tensors["layer1.0.conv7.weight"] = tensors.pop("layer1.0.conv1.weight")
    tensors["bn1.bias"] = tensors["bn1.bias"][:-1]
    del tensors["layer4.1.bn2.weight"]
    with pytest.raises(ValueError, match="of another network: 2 missing, 1 unexpected, 1 of another shape") as caught:
        weights.load(NET, tensors, x=X)
    text = str(caught.value)
    assert "unexpected: layer1.0.conv7.weight (8, 8, 3, 3), nearest missing layer1.0.conv1.weight" in text
    assert "missing: layer4.1.bn2.weight (64,)" in text and "shape: bn1.bias: expected (8,), got (7,)" in text


@pytest.mark.parametrize(("layer", "shape"), [(Conv(5, (4, 3), padding=0), (5, 24)), (Linear(5), (5, 2, 1, 1))])
def test_a_matrix_may_be_a_convolution_and_back(layer: Any, shape: tuple[int, ...], rng: np.random.Generator) -> None:
    x = jax.ShapeDtypeStruct((1, 4, 3, 2), "float32")
    params, state = layer.init(KEY, x)
    own = weights.to_torch(params, state)
    a = rng.normal(size=shape).astype(np.float32)
    got = weights.to_torch(*weights.load(layer, own | {"weight": a}, x=x)[:2])
    np.testing.assert_array_equal(got["weight"], a.reshape(own["weight"].shape))
    for wrong in (a[:, :1], a.reshape(-1), a.T):
        with pytest.raises(ValueError, match="shape: weight: expected"):
            weights.load(layer, own | {"weight": wrong}, x=x)


def test_names_that_others_use() -> None:
    made = arrays()
    tensors = {name.replace("layer", "stage"): a for name, a in weights.to_torch(*made).items()}
    renamed = models.Network(stages=dict(NET.stages), renames=[_back], **NET.children())
    assert same(weights.load(renamed, tensors, x=X)[:2], made)
    assert same(weights.load(renamed, weights.to_torch(*made), x=X)[:2], made)  # its own names too


def _back(name: str) -> str:
    return name.replace("stage", "layer")


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


# Preprocessing


def test_preprocessing_is_timms(rng: np.random.Generator) -> None:
    image_module = pytest.importorskip("PIL.Image")
    create_transform = imported("timm").data.create_transform

    for width, height, size, crop, method in ((320, 213, 128, 0.875, "bilinear"), (99, 200, 96, 0.95, "bicubic")):
        image = image_module.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))
        ours = Preprocessing(size=size, crop=crop, interpolation=method)(image)
        options = {"mean": Preprocessing.mean, "std": Preprocessing.std, "crop_pct": crop, "interpolation": method}
        theirs = create_transform(size, **options)
        np.testing.assert_allclose(ours, np.moveaxis(theirs(image).numpy(), 0, -1), rtol=1e-5, atol=1e-5)


def test_preprocessing_of_a_file(tmp_path: Path, rng: np.random.Generator) -> None:
    image_module = pytest.importorskip("PIL.Image")
    image = image_module.fromarray(rng.integers(0, 256, (50, 70, 3), np.uint8))
    image.save(tmp_path / "a.png")
    prep = Preprocessing(size=32)
    np.testing.assert_array_equal(prep(tmp_path / "a.png"), prep(image))
    grey = Preprocessing(mean=(0.5,), std=(0.5,), size=32)
    assert grey(tmp_path / "a.png").shape == (32, 32, 1)
    assert Preprocessing.parse(prep.dump()) == prep


def test_bad_preprocessing_is_said() -> None:
    with pytest.raises(ValueError, match=r"crop: expected a part of the image in \(0, 1\], got 1.5"):
        Preprocessing(crop=1.5)
    with pytest.raises(ValueError, match=r"interpolation: expected one of nearest, .*, got 'cubic'"):
        Preprocessing(interpolation="cubic")


def test_the_layers_of_a_network_are_enough() -> None:
    net = Sequential(conv=Conv(4, 3), bn=BatchNorm())
    made = arrays(net)
    assert same(jconv.weights.load(net, weights.to_torch(*made), x=X)[:2], made)
