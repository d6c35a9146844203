"""Making a network by name: what is told of unknown names, options and sizes, of every family; and of cards."""

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jconv import models
from jconv.layers import Conv, Linear
from jconv.models import FAMILIES, Network
from jconv.models.network import FROM_0, sized


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet50", {"in_chans": 1}, r"resnet50 has no option 'in_chans'; channels come from x"),
        ("vgg11", {"in_channels": 1}, r"vgg11 has no option 'in_channels'; channels come from x"),
        ("resnet50", {"pretrained": True}, r"weights\.load\(model, 'hf-hub:timm/\.\.\.'\)"),
        ("resnet50", {"weights": "DEFAULT"}, r"weights\.load\(model, 'hf-hub:timm/\.\.\.'\)"),
        ("resnet50", {"features_only": True}, r"every network has model\.features\(params, state, x\)"),
        ("resnet50", {"num_clases": 10}, r"resnet50 has no option 'num_clases'; did you mean 'num_classes'\?"),
        ("deeplabv3_resnet50", {"stme": "c"}, r"deeplabv3_resnet50 has no option 'stme'; did you mean 'stem'"),
        ("dcgan", {"num_classes": 10}, r"dcgan has no option 'num_classes'; there are 'size', 'width', 'channels'"),
        (50, {}, r"name: expected a model's name, as 'resnet50', got 50; see jconv\.models\.list\(\)"),
        ("resnet50.a1_in1k", {}, r"create\('resnet50'\), then weights\.load\(model, 'hf-hub:timm/resnet50\.a1_in1k'\)"),
        ("resnet5O.a1", {}, r"unknown model 'resnet5O\.a1'; did you mean 'resnet50"),
        ("resnet20", {}, r"unknown model 'resnet20'; did you mean 'cifar_resnet20'\?"),
    ],
)
def test_unknown_names_and_options(name: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        models.create(name, **options)


def test_options_of_a_backbone_are_handed_on() -> None:
    assert models.create("deeplabv3_resnet50", stem="c") == models.deeplab(50, auxiliary=True, stem="c")


# Sizes


def numbers_of(family: Callable[..., Network]) -> Iterator[tuple[str, Any]]:
    """The options of a family that are sizes, with their defaults: not rates, scales or flags."""
    for name, parameter in inspect.signature(family).parameters.items():
        default, other = parameter.default, ("dropout", "drop_path", "dropout_aux", "layer_scale", "gate_bias", "slope")
        if isinstance(default, int | float | tuple) and not isinstance(default, bool) and name not in other:
            yield name, default


SIZES = [(family, *size) for family, _ in FAMILIES for size in numbers_of(family)]


@pytest.mark.parametrize(("family", "name", "default"), SIZES, ids=lambda value: getattr(value, "__name__", None))
def test_sizes_that_no_network_has(family: Callable[..., Network], name: str, default: Any) -> None:
    wrong: list[Any] = [-1, "10", float("nan")]
    wrong += [] if name in FROM_0 else [(), (0, 1), 0, 3] if isinstance(default, tuple) else [0, None]
    wrong += [1.5] if isinstance(default, int) else []
    for value in wrong:
        with pytest.raises(ValueError, match=name):
            family(**{name: value})


def test_every_family_has_a_size() -> None:
    assert {family for family, _, _ in SIZES} == {family for family, _ in FAMILIES}
    classified = {family for family, name, _ in SIZES if name == "num_classes"}
    assert {family.__name__ for family, _ in FAMILIES if family not in classified} == {"dcgan"}


@pytest.mark.parametrize(
    "name", ["alexnet", "googlenet", "inception_v3", "nin_cifar", "squeezenet1_0", "flattened_cnn"]
)
def test_a_width_that_leaves_no_features(name: str) -> None:
    with pytest.raises(ValueError, match=r"expected a whole number of features above 0, got 0; give .* another width"):
        models.create(name, width=1e-3)


def test_a_network_of_layers_without_features() -> None:
    for layer, got in ((Conv(0, 1), "0"), (Linear(-2), "-2"), (Conv(1.5, 1), "1.5")):  # pyright: ignore[reportArgumentType]
        with pytest.raises(ValueError, match=rf"^body: expected a whole number of features above 0, got {got}"):
            Network(stages={}, body=layer)


def test_what_sizes_are() -> None:
    sized(width=0.5, num_classes=0, se=0, depths=[1, 2])
    sized(int, width=64, se=0.25, depths=(1, 2))
    for kind, sizes, message in (
        (float, {"width": 0}, "width: expected a number, above 0, got 0"),
        (int, {"width": 0.5}, "width: expected a whole number, above 0, got 0.5"),
        (int, {"depths": (1, 0)}, r"depths: expected whole numbers, above 0, got \(1, 0\)"),
        (float, {"num_classes": 0.5}, "num_classes: expected a whole number, 0 or more, got 0.5"),
        (int, {"se": -0.5}, "se: expected a number, 0 or more, got -0.5"),
        (float, {"width": float("inf")}, "width: expected a number, above 0, got inf"),
    ):
        with pytest.raises(ValueError, match=message):
            sized(kind, **sizes)


# Cards


@pytest.mark.parametrize(
    ("card", "message"),
    [
        (
            "input = [8, 8, 1]\n",
            r"card\.toml: expected the keys architecture, input, classes; missing: architecture, cl",
        ),
        ('architecture = "resnet18"\ninput = [8, 8, 1]\nclasses = []\noptions = {dept = 1}\n', "no option 'dept'"),
        ('architecture = "resnet1"\ninput = [8, 8, 1]\nclasses = []\n', "unknown model 'resnet1'"),
    ],
)
def test_a_card_that_says_too_little(card: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "card.toml").write_text(card)
    with pytest.raises(ValueError, match=message):
        models.load("mine", folder=tmp_path)


def test_a_shelf_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"folder: expected a shelf, .*nowhere'"):
        models.shelf(folder=tmp_path / "nowhere")
    assert models.shelf(folder=tmp_path) == {}
