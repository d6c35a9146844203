"""`load`: another number of classes or channels, names of others, what is left out, and what is never passed over."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv import models, weights
from jconv.layers import Conv, ConvTranspose, GlobalAvgPool, Linear, Sequential
from jconv.weights import Preprocessing, files
from jconv.weights.heads import heads
from jconv.weights.names import LISTED, needs
from tests.models.parity import reference
from tests.weights.nets import KEY, NET, X, arrays, image, same

Make = Callable[[int], models.Network]
COLOUR = image(32, 32, 3)
CLASSIFIERS: dict[str, tuple[Make, jax.ShapeDtypeStruct]] = {  # 8 classes, as many as some layers have features
    "resnet": (lambda n: models.resnet(18, width=8, num_classes=n), COLOUR),
    "alexnet": (lambda n: models.alexnet(width=1 / 16, num_classes=n), image(64, 64, 3)),
    "convnext": (lambda n: models.convnext(depths=(1, 1, 1, 1), width=4, num_classes=n), COLOUR),
    "deeplab": (lambda n: models.deeplab(18, width=8, rates=(1,), head_width=8, num_classes=n), COLOUR),
    "deeplab, auxiliary": (
        lambda n: models.deeplab(18, width=8, rates=(1,), head_width=8, auxiliary=True, num_classes=n),
        COLOUR,
    ),
    "densenet": (lambda n: models.densenet(layers=(1, 1), growth=4, num_classes=n), COLOUR),
    "efficientnet": (lambda n: models.efficientnet(width=1 / 8, depth=1 / 4, num_classes=n), COLOUR),
    "flattened": (lambda n: models.flattened_cnn(width=1 / 8, num_classes=n), COLOUR),
    "flattened, smaller": (lambda n: models.flattened_cnn(width=1 / 8, num_classes=n), image(16, 16, 3)),
    "googlenet": (lambda n: models.googlenet(width=1 / 8, num_classes=n), COLOUR),
    "highway": (lambda n: models.highway(11, width=8, num_classes=n), COLOUR),
    "inception": (lambda n: models.inception_v3(width=1 / 16, num_classes=n), image(75, 75, 3)),
    "lenet": (lambda n: models.lenet5(num_classes=n), image(32, 32, 1)),
    "lesson": (lambda n: models.lesson_cnn(num_classes=n), image(28, 28, 1)),
    "mobilenet v1": (lambda n: models.mobilenet_v1(width=1 / 8, num_classes=n), COLOUR),
    "mobilenet v2": (lambda n: models.mobilenet_v2(width=1 / 8, depth=1 / 4, num_classes=n), COLOUR),
    "mobilenet v3": (lambda n: models.mobilenet_v3(size="small", width=1 / 4, num_classes=n), COLOUR),
    "nin": (lambda n: models.nin(form="cifar", width=1 / 8, num_classes=n), COLOUR),
    "regnet": (lambda n: models.regnet(depth=4, width=8, slope=8, ratio=1.9, num_classes=n), COLOUR),
    "shufflenet v1": (lambda n: models.shufflenet_v1(groups=2, width=4 / 25, num_classes=n), COLOUR),
    "shufflenet v2": (lambda n: models.shufflenet_v2(width=1 / 8, num_classes=n), COLOUR),
    "simple": (lambda n: models.simple_cnn(bn=True, num_classes=n), image(28, 28, 1)),
    "squeezenet": (lambda n: models.squeezenet(version="1.1", width=1 / 4, num_classes=n), COLOUR),
    "tcn": (lambda n: models.tcn(levels=2, width=8, channels=4, num_classes=n), image(12, 4)),
    "textcnn": (lambda n: models.textcnn(width=8, embedding=8, num_classes=n), image(12, 8)),
    "textcnn of words": (
        lambda n: models.textcnn(vocabulary=11, width=8, embedding=8, num_classes=n),
        image(12, dtype="int32"),
    ),
    "vgg": (lambda n: models.vgg(11, width=1, num_classes=n), COLOUR),
    "xception": (lambda n: models.xception(width=1 / 32, num_classes=n), image(75, 75, 3)),
}
EVERY = pytest.mark.parametrize(("make", "x"), CLASSIFIERS.values(), ids=CLASSIFIERS)


def needed(net: Any, x: Any) -> dict[str, tuple[int, ...]]:
    return needs(*jax.eval_shape(net.init, KEY, x))


# Classifiers


@EVERY
def test_a_classifier_is_what_another_number_of_classes_changes(make: Make, x: Any) -> None:
    of8, of5 = needed(make(8), x), needed(make(5), x)
    assert set().union(*heads(make(8), x)) == {name for name in of8 if of8[name] != of5[name]} != set()


@EVERY
def test_a_network_without_classes_leaves_the_classifier_out(make: Make, x: Any) -> None:
    tensors = weights.to_torch(*arrays(make(8), x))
    found = weights.to_torch(*weights.load(make(0), tensors, x=x)[:2])
    assert found.keys() == weights.to_torch(*arrays(make(0), x)).keys() < tensors.keys()
    assert all(np.array_equal(t, tensors[name]) for name, t in found.items())


@pytest.mark.parametrize("family", ["resnet", "alexnet", "lenet", "simple", "squeezenet", "tcn", "textcnn", "vgg"])
@pytest.mark.parametrize("classes", [0, 8])
def test_a_classifier_starts_anew(family: str, classes: int) -> None:
    make, x = CLASSIFIERS[family]
    tensors = weights.to_torch(*arrays(make(classes), x))
    names = set().union(*heads(make(5), x))
    with pytest.raises(
        ValueError, match=r"another number of classes, or none; key=jax\.random\.key\(0\) starts"
    ) as caught:
        weights.load(make(5), tensors, x=x)
    assert str(caught.value).splitlines()[-1].startswith(f"{', '.join(sorted(names))}: the source has")
    found = weights.to_torch(*weights.load(make(5), tensors, x=x, key=KEY)[:2])
    fresh = weights.to_torch(*make(5).init(KEY, x))
    assert found.keys() == fresh.keys()
    for name, t in found.items():
        assert np.array_equal(t, fresh[name] if name in names else tensors.get(name, 0)), name


@EVERY
def test_weights_say_what_input_they_are_for(make: Make, x: Any) -> None:
    made = arrays(make(8), x)
    assert same(weights.load(make(8), weights.to_torch(*made))[:2], made)


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


def test_names_that_others_use() -> None:
    made = arrays()
    tensors = {name.replace("layer", "stage"): a for name, a in weights.to_torch(*made).items()}
    renamed = models.Network(stages=dict(NET.stages), renames=[_back], **NET.children())
    assert same(weights.load(renamed, tensors, x=X)[:2], made)
    assert same(weights.load(renamed, weights.to_torch(*made), x=X)[:2], made)  # its own names too


def _back(name: str) -> str:
    return name.replace("stage", "layer")


def test_nothing_but_the_classifier_starts_anew(rng: np.random.Generator) -> None:
    """A kernel of other features than the network's is another network, though the features be its classes."""
    net = models.resnet(18, width=8, num_classes=8)
    tensors = weights.to_torch(*arrays(net))
    for name, shape in (("conv1.weight", (16, 3, 7, 7)), ("layer1.0.bn1.bias", (16,)), ("fc.weight", (16, 32))):
        wrong = tensors | {name: rng.normal(size=shape).astype(np.float32)}
        with pytest.raises(ValueError, match=rf"1 of another shape, out of 102\nshape: {name}: .*\Z"):
            weights.load(net, wrong, x=X, key=KEY)
    without_bias = {n: t for n, t in tensors.items() if n != "fc.bias"}
    with pytest.raises(ValueError, match=r"1 missing, .*\nmissing: fc.bias \(8,\)\Z"):
        weights.load(net, without_bias, x=X, key=KEY)


def test_only_a_classifier_is_left_over(rng: np.random.Generator) -> None:
    net = models.resnet(18, width=8, num_classes=0)
    tensors = weights.to_torch(*arrays(net))
    assert same(weights.load(net, tensors | {"fc.weight": np.ones((5, 64), np.float32)}, x=X)[:2], arrays(net))
    for shape in ((5, 63), (64,), (5, 63, 1, 1)):
        with pytest.raises(ValueError, match=r"0 missing, 1 unexpected.*\nunexpected: fc.weight"):
            weights.load(net, tensors | {"fc.weight": rng.normal(size=shape)}, x=X)
    more = {"fc.weight": np.ones((5, 64)), "fc2.weight": np.ones((3, 5))}
    with pytest.raises(ValueError, match="0 missing, 2 unexpected"):
        weights.load(net, tensors | more, x=X)


@pytest.mark.parametrize("family", ["googlenet", "deeplab"])
def test_auxiliary_heads_that_a_network_lacks_are_left_out(family: str) -> None:
    having, lacking = (
        models.googlenet(width=1 / 8, aux=has)
        if family == "googlenet"
        else models.deeplab(18, width=8, rates=(1,), head_width=8, auxiliary=has)
        for has in (True, False)
    )
    tensors = weights.to_torch(*arrays(having))
    found = weights.to_torch(*weights.load(lacking, tensors, x=X)[:2])
    assert found.keys() < tensors.keys() and all(np.array_equal(t, tensors[n]) for n, t in found.items())
    with pytest.raises(ValueError, match="0 missing, 1 unexpected"):
        weights.load(lacking, tensors | {"other1.weight": np.ones(3)}, x=X)
    if family == "deeplab":
        with pytest.raises(ValueError, match=r"missing: aux_classifier\.0\.weight"):  # more than its last layer
            weights.load(having, found, x=X, key=KEY)


# What is left out, and what is not


def test_patterns_name_what_is_left_out() -> None:
    """As `--freeze` does: a path or one above it, here or at the source."""
    net = models.Network(
        stages=dict(NET.stages), renames=[_back], **{n: c for n, c in NET.children().items() if n != "fc"}
    )
    tensors = weights.to_torch(*arrays()) | {"extra.0.weight": np.ones(2)}
    theirs = {name.replace("layer", "stage"): t for name, t in tensors.items()}
    for patterns in (["fc", "extra"], ["fc.*", "*.0.weight"], ["f?", "extra.0"], "extra"):
        if "*.0.weight" in patterns:
            with pytest.raises(ValueError, match=r"missing: .*\.0\.weight"):
                weights.load(net, theirs, x=X, ignore=patterns)
        else:
            found = weights.to_torch(*weights.load(net, theirs, x=X, ignore=patterns)[:2])
            assert all(np.array_equal(t, tensors[n]) for n, t in found.items())
    for pattern in ("layer1", "stage1"):
        with pytest.raises(ValueError, match=r"[1-9]\d* missing, 0 unexpected.*\nmissing: layer1") as caught:
            weights.load(net, theirs, x=X, ignore=["fc", "extra", pattern])
        assert "layer2" not in str(caught.value)
    with pytest.raises(ValueError, match="unexpected: extra"):
        weights.load(net, theirs, x=X, ignore=["fc", "extr"])


def test_another_network_is_told_in_a_page() -> None:
    other = weights.to_torch(*arrays(models.densenet(layers=(2, 2, 2), growth=4)))
    with pytest.raises(ValueError, match="of another network") as caught:
        weights.load(NET, other, x=X)
    first, *lines = str(caught.value).splitlines()
    for kind, total in (("missing", len(needed(NET, X))), ("unexpected", sum("num_batches" not in n for n in other))):
        listed = [line for line in lines if line.startswith(f"{kind}: ")]
        [rest] = [line for line in lines if line.startswith("and ") and f" more {kind}: " in line]
        counts = [int(part.split(" in ")[0]) for part in rest.split(": ")[1].split(", ")]
        assert len(listed) == LISTED and int(rest.split()[1]) == sum(counts) == total - LISTED
        assert f"{total} {kind}" in first
    assert len(lines) == 2 * LISTED + 3 and lines[-1].startswith("fc.bias, fc.weight: the source has another number")


# The input


@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (Linear(3), image(5)),
        (Conv(4, 3, groups=2), image(9, 9, 6)),
        (Conv(4, 3), image(9, 2)),
        (Conv(4, 3), image(5, 5, 5, 2)),
        (ConvTranspose(4, 3, groups=2), image(5, 5, 6)),
        (Sequential(conv=Conv(4, 1), pool=GlobalAvgPool(), fc=Linear(3)), image(5, 7, 2)),
        (models.dcgan(size=16, width=4), image(7)),
        (models.dcgan(size=16, width=4, up="resize"), image(1, 1, 7)),
    ],
    ids=str,
)
def test_the_first_kernel_has_the_channels_and_axes(layer: Any, x: Any) -> None:
    made = arrays(layer, x)
    assert same(weights.load(layer, weights.to_torch(*made))[:2], made)


def test_without_the_first_kernel_images_have_colours() -> None:
    lacking = {name: t for name, t in weights.to_torch(*arrays()).items() if name != "conv1.0.weight"}
    with pytest.raises(ValueError, match=r"1 missing, 0 unexpected, 0 of .*\nmissing: conv1.0.weight \(4, 3, 3, 3\)\Z"):
        weights.load(NET, lacking)


def test_no_input_fits() -> None:
    net = Sequential(conv=Conv(4, 3), conv2=Conv(4, 3, groups=3))
    with pytest.raises(ValueError, match="x: give an input as the network takes it"):
        weights.load(net, {"conv.weight": np.ones((4, 2, 3, 3))})


# The names that they came with


def write(folder: Path, tensors: dict[str, Any]) -> bytes:
    from safetensors.numpy import save

    (folder / "source.safetensors").write_bytes(save(tensors, metadata={"format": "pt"}))
    return (folder / "source.safetensors").read_bytes()


def old(name: str) -> str:
    return name.replace("norm1.", "norm.1.").replace("conv2.", "conv.2.")


def of_vgg(name: str) -> str:
    for ours, theirs in (("pre_logits.fc1", "classifier.0"), ("pre_logits.fc2", "classifier.3")):
        name = name.replace(ours, theirs)
    return name.replace("head.fc", "classifier.6")


def of_phases(name: str) -> str:
    name = name.replace("head.fc", "classifier.2").replace("head.norm", "classifier.0").replace("stem.", "features.0.")
    for i in range(4):
        name = name.replace(f"stages.{i}.blocks", f"features.{2 * i + 1}").replace(
            f"stages.{i}.downsample", f"features.{2 * i}"
        )
    for ours, theirs in {"conv_dw": "block.0", "norm": "block.2", "mlp.fc1": "block.3", "mlp.fc2": "block.5"}.items():
        name = name.replace(f".{ours}.", f".{theirs}.") if ".norm." not in name or ".0.norm" in name else name
    return name.replace(".gamma", ".layer_scale")


RENAMED: dict[str, tuple[Callable[[], models.Network], Callable[[str], str]]] = {
    "vgg": (lambda: models.vgg(11, bn=True, width=1), of_vgg),
    "densenet": (lambda: models.densenet(layers=(2, 2), growth=4), old),
    "convnext": (lambda: models.convnext(depths=(1, 1, 1, 1), width=4), of_phases),
    "resnet, in parallel": (lambda: models.resnet(18, width=8), "module.{}".format),
    "resnet, compiled": (lambda: models.resnet(18, width=8), "_orig_mod.module.{}".format),
}


@pytest.mark.parametrize(("make", "theirs"), RENAMED.values(), ids=RENAMED)
def test_weights_go_back_to_the_names_they_came_with(make: Any, theirs: Any, tmp_path: Path) -> None:
    net = make()
    tensors = {theirs(n): t for n, t in weights.to_torch(*arrays(net)).items()}
    tensors = {n: np.array(77, t.dtype) if n.endswith("num_batches_tracked") else t for n, t in tensors.items()}
    for name in ("classifier.0.weight", "classifier.3.weight"):  # matrices on flattened images
        if name in tensors:
            tensors[name] = tensors[name].reshape(len(tensors[name]), -1)
    before = write(tmp_path, tensors)
    found = weights.load(net, tmp_path / "source.safetensors", x=X)
    options = {"like": tmp_path / "source.safetensors", "model": net}
    weights.save(tmp_path / "again.safetensors", *found[:2], **options)
    assert (tmp_path / "again.safetensors").read_bytes() == before
    trained = jax.tree.map(lambda p: p + 1, found.params)
    weights.save(tmp_path / "trained.npz", trained, found.state, **options)
    assert list(np.load(tmp_path / "trained.npz")) == list(files.read(tmp_path / "source.safetensors").tensors)
    assert same(weights.load(net, tmp_path / "trained.npz", x=X)[:2], (trained, found.state))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_the_dtype_comes_back_where_it_holds_the_numbers(dtype: str, tmp_path: Path) -> None:
    made = jax.tree.map(lambda a: a.astype(jnp.bfloat16 if dtype == "bfloat16" else "float16"), arrays())
    tensors = {n: t.astype(dtype) if t.ndim else t for n, t in weights.to_torch(*made).items()}
    before = write(tmp_path, tensors)
    params, state, _ = weights.load(NET, tensors, x=X)
    assert {leaf.dtype.name for leaf in jax.tree.leaves((params, state))} == {"float32"}
    weights.save(tmp_path / "again.safetensors", params, state, like=tensors)
    assert (tmp_path / "again.safetensors").read_bytes() == before
    trained = jax.tree.map(lambda p: p * 1.001, params)
    weights.save(tmp_path / "trained.safetensors", trained, state, like=tensors)
    assert same(weights.load(NET, tmp_path / "trained.safetensors", x=X)[:2], (trained, state))


def test_names_that_one_side_lacks(tmp_path: Path) -> None:
    backbone = models.resnet(18, width=8, stem="c", shortcut="avgpool", num_classes=0)
    full = {n: t for n, t in weights.to_torch(*arrays()).items() if not n.endswith("num_batches_tracked")}
    weights.save(tmp_path / "backbone.npz", *weights.load(backbone, full, x=X)[:2], like=full)
    assert list(np.load(tmp_path / "backbone.npz")) == [n for n in full if not n.startswith("fc.")]
    weights.save(tmp_path / "full.npz", *arrays(), like=tmp_path / "backbone.npz")
    assert sorted(np.load(tmp_path / "full.npz")) == sorted(full)
    with pytest.raises(ValueError, match=r"like: none of its names is known, as 'a'; give the network as model="):
        weights.save(tmp_path / "no.npz", *arrays(), like={"a": np.ones(3)})


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0", "regnet_y_400mf"])
def test_torchvisions_names_come_back(name: str, tmp_path: Path) -> None:
    theirs = reference("torchvision", name, num_classes=10)()
    own = {"regnet_y_400mf": "regnety_004"}.get(name, name)
    net = models.create(own, num_classes=10)
    before = write(tmp_path, {n: t.numpy() for n, t in theirs.state_dict().items()})
    found = weights.load(net, theirs.state_dict(keep_vars=True))
    weights.save(tmp_path / "again.safetensors", *found[:2], like=tmp_path / "source.safetensors", model=net)
    assert (tmp_path / "again.safetensors").read_bytes() == before


# Channels and what was done to the images


@pytest.mark.parametrize("channels", [1, 6])
def test_preprocessing_follows_the_channels(channels: int, tmp_path: Path, rng: np.random.Generator) -> None:
    """Grey images as in colour where all channels are treated alike; an image twice as once."""
    net = models.lesson_cnn(num_classes=4)
    prep = Preprocessing((0.4,) * 3, (0.3,) * 3) if channels == 1 else Preprocessing()
    weights.save(tmp_path / "net.npz", *arrays(net), preprocessing=prep)
    pixels = rng.integers(0, 256, (2, 32, 32, 1 if channels == 1 else 3))
    other = pixels if channels == 1 else np.concatenate([pixels, pixels], -1)
    found = weights.load(net, tmp_path / "net.npz", x=image(32, 32, channels))
    assert found.preprocessing is not None and len(found.preprocessing.mean) == channels
    ours = net.apply(found.params, found.state, jnp.asarray(found.preprocessing.arrays(other)))[0]
    colour = jnp.asarray(prep.arrays(np.broadcast_to(pixels, (2, 32, 32, 3))))
    np.testing.assert_allclose(ours, net.apply(*arrays(net), colour)[0], rtol=1e-4)
    assert weights.load(net, tmp_path / "net.npz", x=image(32, 32, 3)).preprocessing == prep
