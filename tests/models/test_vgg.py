"""VGG: sizes, a classifier for every position of an image, names in two libraries, and the same numbers as torch."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv import ops
from jconv.layers import BatchNorm, Conv, Sequential
from jconv.models import vgg
from jconv.models.vgg import DEPTHS, AtLeast, from_torchvision
from tests.catalogue import fast_jit
from tests.models.parity import Agree, imported
from tests.models.shapes import maps
from tests.models.zoo import NUMBERS


def test_sizes() -> None:
    expected = {f"conv{i}": (96 >> i - 1, 64 >> i - 1, f) for i, f in enumerate((8, 16, 32, 64, 64), 1)}
    expected["pool5"] = (3, 2, 64)
    assert maps(vgg(11, width=8), 1, 96, 64, 3) == expected | {"value": (1000,)}
    assert maps(vgg(13, bn=True, width=8, num_classes=0), 1, 96, 64, 3) == expected | {"value": (512,)}


@pytest.mark.parametrize("depth", DEPTHS)
def test_a_depth_counts_the_weighted_layers(depth: int) -> None:
    for bn in (False, True):
        kinds = [type(layer) for _, layer in vgg(depth, bn=bn).walk()]
        assert kinds.count(Conv) + 1 == depth
        assert kinds.count(BatchNorm) == (depth - 3 if bn else 0)


def test_a_larger_image_is_classified_at_every_position(rng: np.random.Generator, key: jax.Array) -> None:
    net = vgg(11, width=2, num_classes=5)
    head = Sequential(pre_logits=net["pre_logits"], head=net["head"])
    x = jnp.asarray(rng.normal(size=(2, 8, 9, 16)), "float32")
    params, _ = head.init(key, x)

    @fast_jit
    def run(x: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
        crops = [x[:, i : i + 7, j : j + 7] for i in range(2) for j in range(3)]
        return head.apply(params, {}, x)[0], [head.apply(params, {}, crop)[0] for crop in crops]

    y, each = run(x)
    np.testing.assert_allclose(y, np.mean(each, axis=0), rtol=1e-4, atol=1e-5)
    assert not np.allclose(y, each[0], rtol=1e-2)


def test_a_small_map_is_stretched_and_no_other(rng: np.random.Generator) -> None:
    x = jnp.asarray(rng.normal(size=(2, 5, 9, 3)), "float32")
    np.testing.assert_array_equal(AtLeast(7)(x), ops.adaptive_avg_pool(x, size=(7, 9)))
    np.testing.assert_array_equal(AtLeast(5)(x), x)


def test_an_unknown_depth() -> None:
    with pytest.raises(ValueError, match=r"depth: unknown 12; there are 11, 13, 16, 19"):
        vgg(12)


# Parity


SMALL: dict[str, Any] = {"width": 8, "num_classes": 10, "dropout": 0.0}


def plan(depth: int) -> list:
    """The stages as both libraries write them, an eighth as wide."""
    stages = zip((8, 16, 32, 64, 64), DEPTHS[depth], strict=True)
    return [entry for features, count in stages for entry in (*[features] * count, "M")]


@pytest.mark.parametrize(("depth", "bn"), [(11, False), (13, True), (16, False), (19, True)])
def test_it_is_timms(depth: int, bn: bool, agree: Agree) -> None:
    """With a classifier of an eighth, which timm's does not offer: at full width it has 120 million weights."""

    def theirs() -> Any:
        library = imported("timm").models.vgg
        nn = pytest.importorskip("torch").nn
        net = library.VGG(plan(depth), num_classes=10, norm_layer=nn.BatchNorm2d if bn else None)
        net.pre_logits = library.ConvMlp(64, 512, 7, drop_rate=0.0)
        net.head = library.ClassifierHead(512, 10)
        return net

    agree(vgg(depth, bn=bn, **SMALL), theirs, (2, 96, 64, 3))


def test_it_is_torchvisions(agree: Agree) -> None:
    def theirs() -> Any:
        library = imported("torchvision").models.vgg
        nn = pytest.importorskip("torch").nn
        net = library.VGG(library.make_layers(plan(11), batch_norm=True), num_classes=10, dropout=0.0)
        net.classifier[0], net.classifier[3] = nn.Linear(64 * 49, 512), nn.Linear(512, 512)
        net.classifier[6] = nn.Linear(512, 10)
        return net

    net = vgg(11, bn=True, **SMALL)
    agree(net, theirs, (2, 96, 64, 3), rename=from_torchvision)


@pytest.mark.parity
@pytest.mark.parametrize("name", [name for name in NUMBERS if name.startswith("vgg")])
def test_published_numbers_are_torchvisions(name: str) -> None:
    models = imported("torchvision").models
    meta = models.get_model_weights(name).DEFAULT.meta
    assert (meta["num_params"], meta["_ops"]) == (NUMBERS[name].parameters, NUMBERS[name].gmacs)
