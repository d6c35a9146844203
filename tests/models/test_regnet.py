"""RegNet: the paper's widths, how a width meets its groups, torchvision's names, torchvision's and timm's numbers."""

from typing import Any

import jax
import numpy as np
import pytest

from jconv.layers import BatchNorm, Conv, DropPath, SqueezeExcite
from jconv.models import create, regnet
from jconv.models.regnet import VARIANTS, from_torchvision, widths
from tests.models.parity import Agree, reference
from tests.models.shapes import maps

POINT: dict[str, Any] = {"depth": 6, "width": 16, "slope": 24.0, "ratio": 1.9}
SMALL: dict[str, Any] = {**POINT, "num_classes": 10}
PUBLISHED = {  # widths and depths of the authors' models (pycls, configs/dds_baselines)
    "regnetx_002": ([24, 56, 152, 368], [1, 1, 4, 7]),
    "regnetx_004": ([32, 64, 160, 384], [1, 2, 7, 12]),
    "regnetx_032": ([96, 192, 432, 1008], [2, 6, 15, 2]),
    "regnety_004": ([48, 104, 208, 440], [1, 3, 6, 6]),
    "regnety_032": ([72, 216, 576, 1512], [2, 5, 13, 1]),
    "regnety_080": ([168, 448, 896, 2016], [2, 4, 10, 1]),
    "regnety_080_tv": ([224, 448, 896, 2016], [2, 4, 10, 1]),
}


def plan(name: str) -> list[tuple[int, int]]:
    return widths(**{option: value for option, value in VARIANTS[name].items() if option != "se"})


@pytest.mark.parametrize("name", PUBLISHED)
def test_widths_are_the_published_ones(name: str) -> None:
    assert plan(name) == list(zip(*PUBLISHED[name], strict=True))


@pytest.mark.parametrize("fit", ["pycls", "torchvision"])
def test_widths_follow_the_line_in_whole_groups(fit: str, rng: np.random.Generator) -> None:
    for _ in range(200):
        depth, width, group = int(rng.integers(4, 28)), 8 * int(rng.integers(2, 40)), 8 * int(rng.integers(1, 30))
        slope, ratio = rng.uniform(8, 120), rng.uniform(1.5, 3)
        stages = widths(depth=depth, width=width, slope=slope, ratio=ratio, group_width=group, fit=fit)
        assert sum(count for _, count in stages) == depth
        free = widths(depth=depth, width=width, slope=slope, ratio=ratio, group_width=8)
        for (features, count), (line, same) in zip(stages, free, strict=True):
            group_here = min(group, line)
            assert count == same
            assert features % group_here == 0
            assert features >= group_here
            assert abs(features - line) <= group_here / 2 or (fit == "torchvision" and features > line)
            assert fit == "pycls" or features >= 0.9 * line


def test_where_the_two_fits_differ() -> None:
    differ = [name for name in VARIANTS if not name.endswith("_tv") and plan(name) != tv(name)]
    assert differ == ["regnetx_004", "regnetx_040", "regnety_008", "regnety_040", "regnety_080"]


def tv(name: str) -> list[tuple[int, int]]:
    return widths(**{option: v for option, v in VARIANTS[name].items() if option != "se"}, fit="torchvision")


def test_sizes() -> None:
    assert maps(create("regnety_004"), 1, 224, 224, 3) == {
        "stem": (112, 112, 32), "s1": (56, 56, 48), "s2": (28, 28, 104), "s3": (14, 14, 208), "s4": (7, 7, 440),
        "value": (1000,),
    }  # fmt: skip
    without = maps(regnet(**POINT, num_classes=0), 1, 47, 65, 1)
    assert without["value"] == without["s4"][-1:]


def test_groups_and_excitation() -> None:
    net = create("regnety_032")
    convs = {path: layer for path, layer in net.walk() if isinstance(layer, Conv)}
    for i, width in enumerate((72, 216, 576, 1512), 1):
        assert convs[f"s{i}.b1.conv2.conv"].groups == width // 24
    assert convs["s2.b1.se.fc1"].features == 18  # a quarter of the 72 that enter the block
    assert convs["s2.b2.se.fc1"].features == 54
    assert not any(isinstance(layer, SqueezeExcite) for _, layer in create("regnetx_032").walk())
    assert getattr(create("regnetx_002", width=16, group_width=64)["s1.b1.conv2.conv"], "groups", 0) == 1


def test_drop_path_and_zero_gamma() -> None:
    net = regnet(**POINT, drop_path=0.5)
    rates = [layer.rate for _, layer in net.walk() if isinstance(layer, DropPath)]
    np.testing.assert_allclose(rates, np.linspace(0, 0.5, 6)[1:])
    for zero_gamma in (True, False):
        norms = {p: n for p, n in regnet(**POINT, zero_gamma=zero_gamma).walk() if isinstance(n, BatchNorm)}
        starts = {path for path, norm in norms.items() if not np.any(norm.scale_init(jax.random.key(0), (2,)))}
        assert starts == ({path for path in norms if "conv3" in path} if zero_gamma else set())


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("stem.0.weight", "stem.conv.weight"),
        ("stem.1.running_var", "stem.bn.running_var"),
        ("trunk_output.block1.block1-0.proj.0.weight", "s1.b1.downsample.conv.weight"),
        ("trunk_output.block4.block4-11.f.a.1.bias", "s4.b12.conv1.bn.bias"),
        ("trunk_output.block3.block3-2.f.b.0.weight", "s3.b3.conv2.conv.weight"),
        ("trunk_output.block3.block3-2.f.se.fc1.bias", "s3.b3.se.fc1.bias"),
        ("trunk_output.block3.block3-2.f.c.1.weight", "s3.b3.conv3.bn.weight"),
        ("fc.weight", "head.fc.weight"),
    ],
)
def test_torchvisions_names(theirs: str, ours: str) -> None:
    assert from_torchvision(theirs) == ours
    assert from_torchvision(ours) == ours


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fit": "torch"}, r"fit: unknown 'torch'; did you mean 'torchvision'\?"),
        ({"width": 3}, "width: expected above 4, because stages have multiples of 8 features, got 3"),
        ({"width": 4}, "width: expected above 4, because stages have multiples of 8 features, got 4"),
        ({"slope": -1.0}, r"regnet: expected width > 0, slope >= 0 and ratio > 1, got width=48, slope=-1.0"),
    ],
)
def test_options_that_make_no_sense(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        regnet(**options)


@pytest.mark.parametrize("kind", ["x", "y"])
def test_it_is_timms(kind: str, agree: Agree) -> None:
    theirs = reference("timm", f"regnet{kind}_002", depth=6, w0=16, wa=24.0, wm=1.9, num_classes=10)
    net = regnet(**SMALL, se=0.25 if kind == "y" else 0.0)
    agree(net, theirs, (4, 64, 48, 3))


def test_it_is_torchvisions(agree: Agree) -> None:
    theirs = reference("torchvision", "regnet_y_400mf", num_classes=10)
    agree(create("regnety_004", num_classes=10), theirs, (4, 64, 64, 3), rename=from_torchvision)
