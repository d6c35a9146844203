"""Network in Network: sizes of both forms, names, and that its perceptrons look at one position each."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv.layers import Conv, Sequential
from jconv.models import nin
from tests.models.parity import Agree
from tests.models.shapes import maps


def test_sizes() -> None:
    assert maps(nin(), 1, 224, 224, 3) == {
        "block1": (54, 54, 96), "block2": (27, 27, 256), "block3": (13, 13, 384), "block4": (6, 6, 1000),
        "value": (1000,),
    }  # fmt: skip
    assert maps(nin(form="cifar", num_classes=10), 1, 32, 32, 3) == {
        "block1": (32, 32, 96), "block2": (16, 16, 192), "block3": (8, 8, 10), "value": (10,),
    }  # fmt: skip


def test_no_classes_leaves_the_last_convolution_out() -> None:
    assert maps(nin(num_classes=0), 1, 96, 64, 3)["value"] == (1024,)
    assert maps(nin(), 1, 39, 39, 3)["value"] == maps(nin(), 1, 39, 47, 3)["value"] == (1000,)
    assert maps(nin(form="cifar"), 1, 4, 4, 3)["value"] == (1000,)
    for net, n in ((nin(), 38), (nin(form="cifar"), 3)):
        with pytest.raises(ValueError, match=r"spatial axis 0: a window of 3 .* does not fit"):
            maps(net, 1, n, 64, 3)
    assert maps(nin(form="cifar", num_classes=0, width=1 / 8), 1, 32, 48, 3) == {
        "block1": (32, 48, 12), "block2": (16, 24, 24), "block3": (8, 12, 24), "value": (24,),
    }  # fmt: skip


def test_names_are_the_authors() -> None:
    """Convolutions of 1×1 are numbered on their own."""
    convs = [name for name, layer in nin().children().items() if isinstance(layer, Conv)]
    assert convs == [
        "conv1", "cccp1", "cccp2", "conv2", "cccp3", "cccp4", "conv3", "cccp5", "cccp6", "conv4", "cccp7", "cccp8",
    ]  # fmt: skip


def test_a_score_is_the_mean_of_its_classes_map(rng: np.random.Generator, key: jax.Array) -> None:
    net = nin(form="cifar", width=1 / 16, num_classes=3)
    x = jnp.asarray(rng.normal(size=(2, 16, 16, 3)), "float32")
    arrays = net.init(key, x)
    taken, _ = net.outputs(*arrays, x, ["relu_cccp6", "global_pool"])
    np.testing.assert_allclose(taken["global_pool"], taken["relu_cccp6"].mean((1, 2)), rtol=1e-5)
    mlp = Sequential(**{name: net[name] for name in ("cccp1", "relu_cccp1", "cccp2", "relu_cccp2")})
    x = jnp.asarray(rng.normal(size=(2, 5, 5, 12)), "float32")
    params, _ = mlp.init(key, x)
    moved = jnp.roll(x, (1, 2), (1, 2))
    right = jnp.roll(mlp.apply(params, {}, x)[0], (1, 2), (1, 2))
    np.testing.assert_allclose(mlp.apply(params, {}, moved)[0], right, rtol=1e-5, atol=1e-6)


def test_an_unknown_form() -> None:
    with pytest.raises(ValueError, match=r"form: unknown 'cifar10'; did you mean 'cifar'\?"):
        nin(form="cifar10")


def layers() -> Any:
    nn = pytest.importorskip("torch").nn
    theirs = nn.Sequential()

    def block(i: int, channels: int, features: tuple[int, int, int], kernel: int) -> None:
        for j, name in enumerate((f"conv{i}", f"cccp{2 * i - 1}", f"cccp{2 * i}")):
            size = 1 if j else kernel
            theirs.add_module(name, nn.Conv2d(channels, features[j], size, padding=size // 2))
            theirs.add_module(f"relu_{name}", nn.ReLU())
            channels = features[j]

    block(1, 3, (48, 40, 24), 5)
    theirs.pool1 = nn.MaxPool2d(3, 2, ceil_mode=True)
    block(2, 24, (48, 48, 48), 5)
    theirs.pool2 = nn.AvgPool2d(3, 2, ceil_mode=True)
    block(3, 48, (48, 48, 10), 3)
    theirs.global_pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return theirs


def test_it_is_a_sequence_of_torchs_layers(agree: Agree) -> None:
    net = nin(form="cifar", width=1 / 4, num_classes=10, dropout=0.0)
    agree(net, layers, (2, 33, 32, 3))
