"""`output_stride`: the same positions and more of them in every family that has it, its sizes, and timm's numbers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv import models
from jconv.layers import Conv
from jconv.models.blocks import Step, atrous
from tests.catalogue import fast_jit
from tests.models.parity import HARD_SIGMOID, Agree, reference
from tests.models.shapes import maps

REGNET: dict[str, Any] = {"depth": 6, "width": 16, "slope": 24.0, "ratio": 1.9, "num_classes": 10}
CONVNEXT: dict[str, Any] = {"depths": (1, 1, 2, 2), "width": 8, "num_classes": 10}

SMALL: dict[str, tuple[str, dict[str, Any], str]] = {  # name, options, the last stage
    "resnet, basic": ("resnet18", {"width": 8, "zero_gamma": False}, "layer4"),
    "resnet, bottlenecks": ("resnet26", {"width": 8, "zero_gamma": False}, "layer4"),
    "mobilenet v1": ("mobilenetv1_100", {"width": 0.25}, "blocks.4"),
    "mobilenet v2": ("mobilenetv2_050", {}, "blocks.6"),
    "efficientnet": ("efficientnet_lite0", {"width": 0.5}, "blocks.6"),
    "regnet": ("regnetx_002", {**REGNET, "zero_gamma": False}, "s4"),
}


@pytest.mark.parametrize("family", SMALL)
def test_an_atrous_network_has_more_of_the_same_positions(family: str, rng: np.random.Generator) -> None:
    """Its last stage at every second or fourth position is that of the network that strides, borders included.

    Of networks without squeeze-and-excitation, whose mean is over all positions.
    """
    name, options, last = SMALL[family]
    nets = [models.create(name, **options, output_stride=stride) for stride in (32, 16, 8)]
    x = jnp.asarray(rng.normal(size=(1, 81, 64, 3)), "float32")
    arrays = nets[0].init(jax.random.key(0), x)
    right, *more = fast_jit(lambda x: [net.features(*arrays, x, at=[last])[0][last] for net in nets])(x)
    assert float(jnp.abs(right).max()) > 0
    for step, found in zip((2, 4), more, strict=True):
        assert found.shape[1:3] == (-(-81 // (32 // step)), 64 // (32 // step))
        scale = float(jnp.abs(right).max())
        np.testing.assert_allclose(found[:, ::step, ::step], right, rtol=1e-4, atol=1e-5 * scale)


def test_positions_of_convnext(rng: np.random.Generator) -> None:
    """Its 2×2 windows with a dilation of 2 look as far back as on: at stride 8, the second of each four positions."""
    nets = [models.convnext(**CONVNEXT, layer_scale=1.0, output_stride=stride) for stride in (32, 16, 8)]
    x = jnp.asarray(rng.normal(size=(1, 64, 96, 3)), "float32")
    arrays = nets[0].init(jax.random.key(0), x)
    right, half, quarter = fast_jit(lambda x: [net.features(*arrays, x)[0]["stages.3"] for net in nets])(x)
    assert (right.shape, quarter.shape) == ((1, 2, 3, 64), (1, 8, 12, 64))
    for found in (half[:, ::2, ::2], quarter[:, 1::4, 1::4]):
        np.testing.assert_allclose(found, right, rtol=1e-4, atol=1e-4)


FAMILIES: dict[str, tuple[str, ...]] = {  # the stages at strides 8, 16 and 32
    "resnet18": ("layer2", "layer3", "layer4"),
    "mobilenetv1_100": ("blocks.2", "blocks.3", "blocks.4"),
    "mobilenetv2_100": ("blocks.2", "blocks.4", "blocks.6"),
    "mobilenetv3_large_100": ("blocks.2", "blocks.4", "blocks.6"),
    "tf_mobilenetv3_small_100": ("blocks.1", "blocks.3", "blocks.5"),
    "efficientnet_b0": ("blocks.2", "blocks.4", "blocks.6"),
    "tf_efficientnet_lite0": ("blocks.2", "blocks.4", "blocks.6"),
    "regnety_002": ("s2", "s3", "s4"),
    "convnext_atto": ("stages.1", "stages.2", "stages.3"),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_features_have_the_output_stride(name: str) -> None:
    own = maps(models.create(name), 1, 64, 96, 3)
    for output_stride in (16, 8):
        found = maps(models.create(name, output_stride=output_stride), 1, 64, 96, 3)
        for path, own_stride in zip(FAMILIES[name], (8, 16, 32), strict=True):
            stride = min(own_stride, output_stride)
            assert found[path] == (64 // stride, 96 // stride, own[path][-1])
        assert {p: size for p, size in found.items() if p not in FAMILIES[name]} == {
            p: size for p, size in own.items() if p not in FAMILIES[name]
        }


@pytest.mark.parametrize("name", FAMILIES)
def test_an_output_stride_that_the_network_does_not_pass(name: str) -> None:
    for wrong in (64, 12, 0, "16"):
        with pytest.raises(ValueError, match=r"output_stride: expected one that this network passes, .*32, got "):
            models.create(name, output_stride=wrong)


def test_a_step_dilates_after_its_first_block() -> None:
    steps = atrous((2, 1, 2, 2, 1, 2), 4)
    assert steps == [Step(1), Step(2), Step(1, 1, 2), Step(1, 2, 2), Step(1, 2, 4)]
    assert list(steps[2].blocks(3)) == [Step(1, 1, 2), Step(1, 2, 2), Step(1, 2, 2)]
    assert list(steps[1].blocks(2)) == [Step(2), Step(1)]
    assert atrous((2, 2, 2), None) == [Step(2), Step(2)]


def test_dilations_of_mobilenet_v3() -> None:
    net = models.mobilenet_v3(output_stride=8)
    dilated = {p: c.dilation for p, c in net.walk() if isinstance(c, Conv) and c.dilation != 1}
    assert dilated == {
        **{f"blocks.3.{i}.conv_dw": 2 for i in (1, 2, 3)},
        **{f"blocks.4.{i}.conv_dw": 2 for i in (0, 1)},
        "blocks.5.0.conv_dw": 2,
        **{f"blocks.5.{i}.conv_dw": 4 for i in (1, 2)},
    }


# Parity

THEIRS: dict[str, tuple[dict, dict]] = {  # our options, timm's
    "mobilenetv1_100": ({}, {}),
    "mobilenetv2_050": ({"dropout": 0.0}, {}),
    "efficientnet_b0": ({"dropout": 0.0, "drop_path": 0.0}, {}),
    "tf_efficientnet_lite0": ({"dropout": 0.0, "drop_path": 0.0}, {}),
    "regnetx_002": (REGNET, {"depth": 6, "w0": 16, "wa": 24.0, "wm": 1.9}),
    "convnext_atto": (CONVNEXT, {"depths": (1, 1, 2, 2), "dims": (8, 16, 32, 64)}),
}


@pytest.mark.parametrize("name", THEIRS)
def test_it_is_timms(name: str, agree: Agree) -> None:
    ours, options = THEIRS[name]
    output_stride = 16 if name in ("mobilenetv1_100", "efficientnet_b0") else 8
    theirs = reference("timm", name, num_classes=10, output_stride=output_stride, **options)
    net = models.create(name, **{**ours, "num_classes": 10}, output_stride=output_stride)
    agree(net, theirs, (2, 47, 64, 3), train=False)


def last(name: str) -> Any:
    torch = pytest.importorskip("torch")

    class Last(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = reference("timm", name, features_only=True, output_stride=8)()

        def forward(self, x: Any) -> Any:
            return self.net(x)[-1]

    return Last()


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "tf_mobilenetv3_large_075"])
def test_v3_is_timms(name: str, agree: Agree) -> None:
    """Of its features: timm's has the option as a backbone alone."""
    whole = models.create(name, output_stride=8).children()
    net = models.Network({part: whole[part] for part in ("conv_stem", "bn1", "act1", "blocks")}, stages={})
    agree(
        net,
        lambda: last(name),
        (2, 47, 64, 3),
        rename=lambda name: name.removeprefix("net."),
        exact=HARD_SIGMOID,
        train=False,
    )
