"""EfficientNet: sizes, scaling, the inverted residual block, names in three libraries, the same numbers as torch."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from jconv import models
from jconv.layers import Activation, BatchNorm, Conv, Dropout, DropPath, Residual, Sequential, SqueezeExcite
from jconv.models import efficientnet
from jconv.models.efficientnet import TABLE, from_efficientnet_pytorch, from_torchvision
from jconv.models.mobile import Row, Style, divisible, inverted_residual, scaled
from jconv.models.renames import place
from jconv.weights.names import needs
from tests.models.parity import Agree, reference
from tests.models.shapes import abstract, maps

STYLE = Style("relu", BatchNorm(), None)


def test_features_are_the_stages_before_each_stride() -> None:
    assert maps(efficientnet(num_classes=7), 1, 96, 64, 3) == {
        "blocks.0": (48, 32, 16), "blocks.1": (24, 16, 24), "blocks.2": (12, 8, 40), "blocks.4": (6, 4, 112),
        "blocks.6": (3, 2, 320), "value": (7,),
    }  # fmt: skip
    assert maps(efficientnet(num_classes=0, width=1 / 4, depth=1 / 4), 1, 33, 40, 3)["value"] == (320,)


@pytest.mark.parametrize("by", [8, 4])
def test_rounding_is_to_the_nearest_multiple_that_is_not_much_less(by: int, rng: np.random.Generator) -> None:
    for features in (*range(1, 200), *rng.uniform(1, 2000, 200)):
        multiples = np.arange(by, 2100, by)
        allowed = multiples[multiples >= 0.9 * features]
        distances = np.abs(allowed - features)
        assert divisible(features, by) == allowed[distances == distances.min()].max()  # of two, the larger


def test_a_table_scales_in_width_and_depth() -> None:
    wide = scaled(TABLE, width=1.2, depth=1.4)
    assert [rows[0].features for rows in wide] == [24, 32, 48, 96, 136, 232, 384]
    assert [rows[0].blocks for rows in wide] == [2, 3, 3, 5, 5, 6, 2]
    assert [rows[0].blocks for rows in scaled(TABLE, depth=1.4, fixed=True)] == [1, 3, 3, 5, 5, 6, 1]
    assert scaled(TABLE) == TABLE


@pytest.mark.parametrize(
    ("row", "paths"),
    [
        (Row(1, 3, 1, 1, 16), ["conv_dw", "bn1", "act1", "conv_pw", "bn2"]),
        (Row(1, 3, 1, 6, 16), ["conv_pw", "bn1", "act1", "conv_dw", "bn2", "act2", "conv_pwl", "bn3"]),
    ],
)
def test_a_block_is_wide_inside_and_ends_without_an_activation(row: Row, paths: list[str]) -> None:
    block = Sequential(block=inverted_residual(16, row, STYLE))
    assert isinstance(block["block"], Residual)
    assert [
        p.removeprefix("block.") for p, _ in block.walk() if p not in ("block", "block.downsample", "block.act")
    ] == paths
    dw = block["block.conv_dw"]
    assert isinstance(dw, Conv)
    assert dw.groups == dw.features == 16 * row.expand


@pytest.mark.parametrize("row", [Row(1, 3, 2, 6, 16), Row(1, 3, 1, 6, 24)])
def test_there_is_no_shortcut_where_the_shape_changes(row: Row) -> None:
    block = inverted_residual(16, row, STYLE, drop_path=0.5)
    assert type(block) is Sequential
    assert not any(isinstance(layer, DropPath) for layer in block.children().values())
    kept = inverted_residual(16, row._replace(stride=1, features=16), STYLE, drop_path=0.5)
    assert isinstance(kept, Residual)
    assert Sequential(b=kept)["b.drop_path"] == DropPath(0.5)


def test_a_row_may_have_its_own_activation() -> None:
    block = inverted_residual(16, Row(1, 3, 2, 6, 16, act="silu"), STYLE)
    assert isinstance(block, Sequential)
    assert block["act1"] == block["act2"] == Activation("silu")


def test_excitation_squeezes_to_a_part_of_the_blocks_input() -> None:
    net, channels = efficientnet(), 32
    excites = {path: layer for path, layer in net.walk() if isinstance(layer, SqueezeExcite)}
    assert len(excites) == 16
    for rows_path, layer in excites.items():
        block = rows_path.removesuffix(".se")
        last = net[f"{block}.{'conv_pw' if block.startswith('blocks.0.') else 'conv_pwl'}"]
        assert isinstance(last, Conv)
        assert layer.children()["fc1"] == Conv(channels // 4, 1)
        channels = last.features
    assert not any(isinstance(layer, SqueezeExcite) for _, layer in efficientnet(se=0.0).walk())


def test_paths_are_left_out_more_often_towards_the_end() -> None:
    net = efficientnet(drop_path=0.32, dropout=0.5)
    rates = {path: layer.rate for path, layer in net.walk() if isinstance(layer, DropPath)}
    starts = np.cumsum([0, *(rows[0].blocks for rows in TABLE)])
    for path, rate in rates.items():
        stage, i = map(int, path.split(".")[1:3])
        assert rate == pytest.approx(0.32 * (starts[stage] + i) / 16)
    assert all(a < b for a, b in pairwise(rates.values()))
    assert net["drop"] == Dropout(0.5)
    plain = efficientnet(drop_path=0.0, dropout=0.0)
    assert not any(isinstance(layer, Dropout) for _, layer in plain.walk())


def test_lite_keeps_stem_head_and_ends() -> None:
    lite, wide = models.create("efficientnet_lite2"), models.create("efficientnet_b2")
    assert [net[path].features for net in (lite, wide) for path in ("conv_stem", "conv_head")] == [32, 1280, 32, 1408]  # pyright: ignore[reportAttributeAccessIssue]
    assert [path in dict(net.walk()) for net in (lite, wide) for path in ("blocks.0.1", "blocks.6.1")] == [
        False,
        False,
        True,
        True,
    ]
    assert lite["act1"] == lite["blocks.1.0.act1"] == Activation("relu6")


def test_googles_pad_and_norm_in_their_own_way() -> None:
    ours, google = models.create("efficientnet_b1"), models.create("tf_efficientnet_b1")
    for _, layer in google.walk():
        if isinstance(layer, BatchNorm):
            assert layer == BatchNorm(eps=1e-3)
        elif isinstance(layer, Conv) and layer.kernel != 1:
            assert layer.padding == "SAME"
    assert google.update(BatchNorm, eps=1e-5).update(Conv, padding=None) == ours.update(Conv, padding=None)


@pytest.mark.parametrize("scale", [{"width": 0.0}, {"depth": -1.0}])
def test_a_network_without_layers(scale: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"(width|depth): expected a number, above 0, got (0|-1)"):
        efficientnet(**scale)


# Names


@pytest.mark.parametrize("name", ["efficientnet_b1", "tf_efficientnet_lite2"])
def test_names_of_efficientnet_pytorch(name: str) -> None:
    net = models.create(name)
    params, state, _ = abstract(net, 1, 64, 64, 3)
    needed = needs(params, state)
    lite = "lite" in name
    counts = [rows[0].blocks for rows in scaled(TABLE, depth=1.2 if lite else 1.1, fixed=lite)]

    def norm(path: str) -> list[str]:
        return [f"{path}.{leaf}" for leaf in ("weight", "bias", "running_mean", "running_var")]

    theirs = ["_conv_stem.weight", *norm("_bn0"), "_conv_head.weight", *norm("_bn1"), "_fc.weight", "_fc.bias"]
    for i in range(sum(counts)):
        if i >= counts[0]:
            theirs += [f"_blocks.{i}._expand_conv.weight", *norm(f"_blocks.{i}._bn0")]
        theirs += [f"_blocks.{i}._depthwise_conv.weight", *norm(f"_blocks.{i}._bn1")]
        for part in () if lite else ("reduce", "expand"):
            theirs += [f"_blocks.{i}._se_{part}.{leaf}" for leaf in ("weight", "bias")]
        theirs += [f"_blocks.{i}._project_conv.weight", *norm(f"_blocks.{i}._bn2")]
    rename = net.renames[-1]
    assert sorted(map(rename, theirs)) == sorted(needed)
    assert rename is from_efficientnet_pytorch(tuple(counts))  # equal networks are equal
    assert net == models.create(name)
    assert hash(net) == hash(models.create(name))


def test_names_that_are_not_theirs_stay() -> None:
    net = efficientnet()
    params, state, _ = abstract(net, 1, 64, 64, 3)
    for name in needs(params, state):
        assert all(rename(name) == name for rename in net.renames)
    assert net.renames[-1]("_blocks.99._bn0.weight").startswith("blocks.7.")  # a deeper network's: no stage of ours


def test_places_are_in_order() -> None:
    counts = (2, 1, 3)
    assert [place(i, counts) for i in range(6)] == [f"{s}.{i}" for s, n in enumerate(counts) for i in range(n)]


# Parity


@pytest.mark.parametrize(
    ("name", "shape"), [("efficientnet_b0", (2, 64, 32, 3)), ("tf_efficientnet_lite0", (2, 47, 64, 3))]
)
def test_it_is_timms(name: str, shape: tuple[int, ...], agree: Agree) -> None:
    net = models.create(name, num_classes=10, dropout=0.0, drop_path=0.0)
    agree(net, reference("timm", name, num_classes=10), shape)


def test_it_is_torchvisions(agree: Agree) -> None:
    theirs = reference("torchvision", "efficientnet_b1", num_classes=10, dropout=0.0, stochastic_depth_prob=0.0)
    net = models.create("efficientnet_b1", num_classes=10, dropout=0.0, drop_path=0.0)
    agree(net, theirs, (2, 64, 32, 3), rename=from_torchvision)
