"""DenseNet: the paper's sizes, what a dense layer adds, the names of old checkpoints, and timm's numbers."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv import weights
from jconv.layers import BatchNorm, Dropout
from jconv.models import densenet
from jconv.models.densenet import from_torchvision
from tests.catalogue import fast_jit
from tests.models.parity import Agree, reference
from tests.models.shapes import abstract, maps

SMALL: dict[str, Any] = {"layers": (2, 3, 2), "growth": 8, "num_classes": 10}


def test_sizes_are_the_papers() -> None:
    """Table 1; a block's features before its transition halves them."""
    assert maps(densenet(), 1, 224, 224, 3) == {
        "stem": (112, 112, 64), "denseblock1": (56, 56, 256), "denseblock2": (28, 28, 512),
        "denseblock3": (14, 14, 1024), "denseblock4": (7, 7, 1024), "value": (1000,),
    }  # fmt: skip
    assert maps(densenet(num_classes=0), 1, 47, 64, 1)["value"] == (1024,)


def test_every_layer_keeps_what_it_was_given(rng: np.random.Generator, key: jax.Array) -> None:
    net = densenet(**SMALL)
    x = jnp.asarray(rng.normal(size=(2, 32, 32, 3)), "float32")
    at = ["features.pool0", *(f"features.denseblock1.denselayer{i}" for i in (1, 2))]
    taken, _ = fast_jit(lambda p, s, x: net.outputs(p, s, x, at))(*net.init(key, x), x)
    for before, after in itertools.pairwise(at):
        old, new = np.split(taken[after], [taken[before].shape[-1]], axis=-1)
        np.testing.assert_array_equal(old, taken[before])
        assert new.shape[-1] == 8
        assert np.all(new.std((0, 1, 2)) > 0)


def test_dropout_is_of_every_layers_new_channels() -> None:
    drops = {path for path, layer in densenet(**SMALL, dropout=0.2).walk() if layer == Dropout(0.2)}
    block = [(i, j) for i, count in enumerate(SMALL["layers"], 1) for j in range(1, count + 1)]
    assert drops == {f"features.denseblock{i}.denselayer{j}.drop" for i, j in block}
    assert not any(isinstance(layer, Dropout) for _, layer in densenet(**SMALL).walk())


def test_act_reaches_every_layer() -> None:
    acts = {path.rpartition(".")[2]: layer for path, layer in densenet(**SMALL, act="silu").walk() if "relu" in path}
    assert set(acts) == {"relu", "relu0", "relu1", "relu2"}
    assert {getattr(layer, "function", None) for layer in acts.values()} == {"silu"}


def test_old_checkpoints_load(key: jax.Array) -> None:
    net = densenet(**SMALL)
    x = jnp.zeros((1, 32, 32, 3))
    tensors = weights.to_torch(*net.init(key, x))
    old = {name: name.replace("norm1.", "norm.1.").replace("conv2.", "conv.2.") for name in tensors}
    assert sum(name != before for name, before in old.items()) == 7 * (5 + 1)
    assert [from_torchvision(name) for name in old.values()] == list(tensors) == [*map(from_torchvision, tensors)]
    params, _ = weights.load(net, {old[name]: t for name, t in tensors.items()}, x=x)[:2]
    at = "features.denseblock1.denselayer1.conv2.weight"
    np.testing.assert_array_equal(weights.to_torch(params, {})[at], tensors[at])


def test_no_blocks() -> None:
    with pytest.raises(ValueError, match=r"layers: expected several in a tuple, got \(\)"):
        densenet(layers=())


def test_norms_see_all_channels_before_them() -> None:
    params, _, _ = abstract(densenet(), 1, 32, 32, 3)
    block = params["features"]["denseblock2"]
    assert [block[f"denselayer{i}"]["norm1"]["scale"].shape[0] for i in (1, 2, 12)] == [128, 160, 480]
    assert densenet()["features.norm5"] == BatchNorm()


def test_it_is_timms(agree: Agree) -> None:
    theirs = reference("timm", "densenet121", growth_rate=8, block_config=(2, 3, 2), num_classes=10)
    agree(densenet(**SMALL), theirs, (4, 64, 48, 3))


def test_it_is_torchvisions(agree: Agree) -> None:
    theirs = reference("torchvision", "densenet121", num_classes=10)
    agree(densenet(num_classes=10), theirs, (2, 64, 64, 3))
