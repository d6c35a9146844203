"""MobileNet v1, v2 and v3: sizes, what each block is, names in two libraries, the same numbers as torch."""

from typing import Any

import pytest

from jconv import models
from jconv.layers import Activation, BatchNorm, Conv, Residual, SqueezeExcite
from jconv.models import mobilenet_v1, mobilenet_v2, mobilenet_v3
from jconv.models.mobilenet import from_torchvision
from jconv.models.mobilenet_v3 import RENAMES, TABLES
from jconv.weights.names import needs
from tests.models.parity import HARD_SIGMOID, Agree, reference
from tests.models.shapes import abstract, maps


def test_sizes() -> None:
    assert maps(mobilenet_v1(num_classes=7), 1, 64, 96, 3) == {
        "blocks.0": (32, 48, 64), "blocks.1": (16, 24, 128), "blocks.2": (8, 12, 256), "blocks.3": (4, 6, 512),
        "blocks.4": (2, 3, 1024), "value": (7,),
    }  # fmt: skip
    assert maps(mobilenet_v2(num_classes=7), 1, 64, 96, 3) == {
        "blocks.0": (32, 48, 16), "blocks.1": (16, 24, 24), "blocks.2": (8, 12, 32), "blocks.4": (4, 6, 96),
        "blocks.6": (2, 3, 320), "value": (7,),
    }  # fmt: skip
    assert maps(mobilenet_v3(num_classes=7), 1, 64, 96, 3) == {
        "blocks.0": (32, 48, 16), "blocks.1": (16, 24, 24), "blocks.2": (8, 12, 40), "blocks.4": (4, 6, 112),
        "blocks.6": (2, 3, 960), "value": (7,),
    }  # fmt: skip
    assert maps(mobilenet_v3(size="small", num_classes=7), 1, 64, 96, 3) == {
        "stem": (32, 48, 16), "blocks.0": (16, 24, 16), "blocks.1": (8, 12, 24), "blocks.3": (4, 6, 48),
        "blocks.5": (2, 3, 576), "value": (7,),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("net", "features"),
    [(mobilenet_v1(num_classes=0), 1024), (mobilenet_v2(num_classes=0), 1280), (mobilenet_v3(num_classes=0), 1280)],
)
def test_without_classes_a_network_ends_in_features(net: models.Network, features: int) -> None:
    assert maps(net, 1, 32, 32, 1)["value"] == (features,)
    assert not {"drop", "classifier"} & set(net.children())


def blocks(net: models.Network) -> dict[str, Any]:
    return {path: layer for path, layer in net.walk() if path.count(".") == 2 and path.startswith("blocks.")}


def test_v1_has_no_shortcuts_and_v2_one_in_each_block_that_keeps_its_shape() -> None:
    assert len(blocks(mobilenet_v1())) == 13
    assert not any(isinstance(block, Residual) for block in blocks(mobilenet_v1()).values())
    shortcuts = {path for path, block in blocks(mobilenet_v2()).items() if isinstance(block, Residual)}
    counts = [1, 2, 3, 4, 3, 3, 1]
    assert shortcuts == {f"blocks.{s}.{i}" for s, count in enumerate(counts) for i in range(1, count)}


def test_the_head_of_v2_never_shrinks() -> None:
    for width, right in ((0.5, 1280), (1.0, 1280), (1.4, 1792)):
        assert mobilenet_v2(width=width)["conv_head"] == Conv(right, 1, bias=False)
    fixed = mobilenet_v2(width=1.4, fixed=True)
    assert [fixed[path].features for path in ("conv_stem", "conv_head")] == [32, 1280]  # pyright: ignore[reportAttributeAccessIssue]


def test_v3_excites_squeezes_and_bends_where_the_table_says() -> None:
    for size, table in TABLES.items():
        net = mobilenet_v3(size=size)
        rows = [row for stage in table for row in stage for _ in range(row.blocks)][:-1]
        assert len(rows) == len(blocks(net)) - 1
        for (path, block), row in zip(blocks(net).items(), rows, strict=False):
            inner = dict(net.walk())
            assert (f"{path}.se" in inner) == row.se
            assert inner[f"{path}.act1"] == Activation(row.act or "hard_swish")
            if row.se:
                excite = inner[f"{path}.se"]
                assert isinstance(excite, SqueezeExcite)
                assert excite.gate == Activation("hard_sigmoid")
                assert excite.act == Activation("relu")
                assert inner[f"{path}.se.conv_reduce"].features % 8 == 0  # pyright: ignore[reportAttributeAccessIssue]
            assert block is inner[path]


def test_the_stem_of_v3_stays_where_the_network_is_narrow() -> None:
    stems = [mobilenet_v3(width=width)["conv_stem"] for width in (0.25, 0.75, 1.0, 1.5)]
    assert [stem.features for stem in stems] == [16, 16, 16, 24]  # pyright: ignore[reportAttributeAccessIssue]


def test_torchvisions_v3_norms_in_its_own_way() -> None:
    norms = [layer for _, layer in models.create("mobilenet_v3_small").walk() if isinstance(layer, BatchNorm)]
    assert set(norms) == {BatchNorm(eps=1e-3, momentum=0.01)}


def test_an_unknown_size() -> None:
    with pytest.raises(ValueError, match=r"size: unknown 'smal'; did you mean 'small'"):
        mobilenet_v3(size="smal")


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large"])
def test_renames(name: str) -> None:
    net = models.create(name)
    params, state, _ = abstract(net, 1, 64, 64, 3)
    (rename,) = net.renames
    assert all(rename(name) == name for name in needs(params, state))  # ours stay
    assert rename("features.0.1.running_mean") == "bn1.running_mean"
    assert net == models.create(name)
    assert hash(net) == hash(models.create(name))


# Parity


@pytest.mark.parametrize(
    "name", ["mobilenetv1_100", "mobilenetv2_035", "mobilenetv3_small_050", "tf_mobilenetv3_large_075"]
)
def test_it_is_timms(name: str, agree: Agree) -> None:
    net = models.create(name, num_classes=10, dropout=0.0)
    exact = {"exact": HARD_SIGMOID} if "v3" in name else {}
    agree(net, reference("timm", name, num_classes=10), (2, 47, 64, 3), **exact)


def test_v2_is_torchvisions(agree: Agree) -> None:
    theirs = reference("torchvision", "mobilenet_v2", num_classes=10, dropout=0.0, width_mult=0.5)
    net = mobilenet_v2(width=0.5, num_classes=10, dropout=0.0)
    agree(net, theirs, (2, 47, 64, 3), rename=from_torchvision)


@pytest.mark.parametrize("size", TABLES)
def test_v3_is_torchvisions(size: str, agree: Agree) -> None:
    theirs = reference("torchvision", f"mobilenet_v3_{size}", num_classes=10, dropout=0.0)
    net = models.create(f"mobilenet_v3_{size}", num_classes=10, dropout=0.0)
    agree(net, theirs, (2, 47, 64, 3), rename=RENAMES[size][0], exact=HARD_SIGMOID)
