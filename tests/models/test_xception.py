"""Xception: figure 5's sizes and layers, and the same numbers as timm."""

import pytest

from jconv.layers import Activation, Conv, Dropout, MaxPool, Residual
from jconv.models import xception
from tests.models.parity import Agree, reference
from tests.models.shapes import maps


def test_sizes_are_figure_5s() -> None:
    """19 × 19 in the middle flow, for an image of 299."""
    assert maps(xception(), 1, 299, 299, 3) == {
        "stem": (147, 147, 64), "block1": (74, 74, 128), "block2": (37, 37, 256), "block11": (19, 19, 728),
        "exit": (10, 10, 2048), "value": (1000,),
    }  # fmt: skip
    assert maps(xception(width=1 / 4, num_classes=0), 1, 64, 71, 1)["value"] == (512,)


def test_thirty_six_convolutions_with_shortcuts_around_twelve_blocks() -> None:
    layers = dict(xception().walk())
    convs = {path: layer for path, layer in layers.items() if isinstance(layer, Conv) and not path.endswith("skip")}
    depthwise = [conv for conv in convs.values() if conv.groups > 1]
    assert (len(depthwise), len(convs) - 2 * len(depthwise)) == (34, 2)
    blocks = {path: layer for path, layer in layers.items() if isinstance(layer, Residual)}
    assert list(blocks) == [f"block{i}" for i in range(1, 13)]
    strided = {path for path in blocks if f"{path}.skip" in layers}
    assert strided == {"block1", "block2", "block3", "block12"}
    for path in blocks:
        parts = [layer for p, layer in layers.items() if p.startswith(f"{path}.rep.") and p.count(".") == 2]
        assert isinstance(parts[-1], MaxPool) == (path in strided)
        assert isinstance(parts[0], Activation) == (path != "block1")
        skip, features = layers.get(f"{path}.skip"), [convs[p].features for p in convs if p.startswith(f"{path}.")]
        assert skip in (None, Conv(features[-1], 1, stride=2, bias=False))


def test_options() -> None:
    assert xception()["drop"] == Dropout(0.5)
    assert "drop" not in xception(dropout=0.0).children()
    acts = {layer for _, layer in xception(act="gelu").walk() if isinstance(layer, Activation)}
    assert acts == {Activation("gelu")}
    with pytest.raises(ValueError, match=r"width: expected a number, above 0, got -1"):
        xception(width=-1)


def test_it_is_timms(agree: Agree) -> None:
    theirs = reference("timm", "legacy_xception", num_classes=10)
    agree(xception(num_classes=10, dropout=0.0), theirs, (2, 64, 71, 3))
