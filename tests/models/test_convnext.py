"""ConvNeXt: the paper's sizes, what layer scale does, one function of both mlps, torchvision's and timm's numbers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv.layers import DropPath, Identity, LayerScale
from jconv.models import Network, convnext
from jconv.models.convnext import from_torchvision
from tests.catalogue import fast_jit
from tests.models.parity import Agree, reference
from tests.models.shapes import maps

SMALL: dict[str, Any] = {"depths": (1, 1, 2, 1), "width": 8, "num_classes": 10}
TIMMS = {"depths": (1, 1, 2, 1), "dims": (8, 16, 32, 64), "num_classes": 10}


def test_sizes_are_the_papers() -> None:
    """Section 2 and table 9."""
    assert maps(convnext(), 1, 224, 224, 3) == {
        "stages.0": (56, 56, 96), "stages.1": (28, 28, 192), "stages.2": (14, 14, 384), "stages.3": (7, 7, 768),
        "value": (1000,),
    }  # fmt: skip
    assert maps(convnext(num_classes=0), 1, 70, 33, 1)["value"] == (768,)


def test_a_layer_scale_of_zero_leaves_the_shortcuts(rng: np.random.Generator, key: jax.Array) -> None:
    x = jnp.asarray(rng.normal(size=(2, 32, 32, 3)), "float32")
    at = ["stem", "stages.0", "stages.2.downsample", "stages.2"]
    for start in (0.0, 0.5):
        net = convnext(**SMALL, layer_scale=start)
        taken, _ = fast_jit(lambda *a, net=net: net.outputs(*a, at))(*net.init(key, x), x)
        for before, after in (at[:2], at[2:]):
            assert np.array_equal(taken[before], taken[after]) == (start == 0.0)


def test_layer_scale_starts_where_it_is_told(key: jax.Array) -> None:
    params, _ = convnext(**SMALL, layer_scale=0.1).init(key, jnp.zeros((1, 32, 32, 3)))
    np.testing.assert_array_equal(params["stages"]["2"]["blocks"]["1"]["gamma"], np.full(32, 0.1, "float32"))
    with pytest.raises(ValueError, match=r"x: expected 4 channels in the last axis, got shape \(2, 5\)"):
        LayerScale().apply({"gamma": jnp.ones(4)}, {}, jnp.ones((2, 5)))


def test_both_kinds_of_mlp_are_one_function(rng: np.random.Generator, key: jax.Array) -> None:
    x = jnp.asarray(rng.normal(size=(2, 32, 32, 3)), "float32")
    linear, conv = (convnext(**SMALL, layer_scale=1.0, conv_mlp=conv) for conv in (False, True))
    params, _ = linear.init(key, x)
    shapes = jax.eval_shape(conv.init, key, x)[0]
    reshaped = jax.tree.map(lambda a, like: a.reshape(like.shape), params, shapes)
    assert shapes["stages"]["0"]["blocks"]["0"]["mlp"]["fc1"]["kernel"].shape == (1, 1, 8, 32)
    right = fast_jit(linear.apply)(params, {}, x)[0]
    np.testing.assert_allclose(fast_jit(conv.apply)(reshaped, {}, x)[0], right, rtol=1e-4, atol=1e-5)


def test_drop_path_grows_from_nothing() -> None:
    net = convnext(**SMALL, drop_path=0.4)
    rates = {path: layer.rate for path, layer in net.walk() if isinstance(layer, DropPath)}
    assert list(rates) == [f"stages.{i}.blocks.{j}.drop_path" for i, j in ((1, 0), (2, 0), (2, 1), (3, 0))]
    np.testing.assert_allclose(list(rates.values()), (0.1, 0.2, 0.3, 0.4))


def test_a_layer_may_have_the_name_of_an_option() -> None:
    net = Network({"stages": Identity()}, stages={"last": "stages"}, head=Identity())
    assert list(net.children()) == ["stages", "head"]
    assert net.features({}, {}, jnp.ones((1, 2)))[0].keys() == {"last"}


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("features.0.1.weight", "stem.1.weight"),
        ("features.1.0.block.0.bias", "stages.0.blocks.0.conv_dw.bias"),
        ("features.5.8.block.2.weight", "stages.2.blocks.8.norm.weight"),
        ("features.7.2.block.3.weight", "stages.3.blocks.2.mlp.fc1.weight"),
        ("features.7.2.block.5.weight", "stages.3.blocks.2.mlp.fc2.weight"),
        ("features.3.1.layer_scale", "stages.1.blocks.1.gamma"),
        ("features.6.1.bias", "stages.3.downsample.1.bias"),
        ("classifier.0.weight", "head.norm.weight"),
        ("classifier.2.bias", "head.fc.bias"),
    ],
)
def test_torchvisions_names(theirs: str, ours: str) -> None:
    assert from_torchvision(theirs) == ours
    assert from_torchvision(ours) == ours


def test_an_unknown_activation() -> None:
    with pytest.raises(ValueError, match="unknown activation 'gelu_exacd'; did you mean 'gelu_exact'"):
        convnext(act="gelu_exacd")


@pytest.mark.parametrize("name", ["convnext_atto", "convnext_tiny"])
def test_it_is_timms(name: str, agree: Agree) -> None:
    net = convnext(**SMALL, conv_mlp=name == "convnext_atto")
    agree(net, reference("timm", name, **TIMMS), (4, 64, 48, 3))


def test_it_is_torchvisions(agree: Agree) -> None:
    theirs = reference("torchvision", "convnext_tiny", num_classes=10, stochastic_depth_prob=0.0)
    agree(convnext(num_classes=10), theirs, (2, 64, 64, 3), rename=from_torchvision)
