"""AlexNet: the paper's sizes and counts, one tower as torchvision's, two as a sequence of torch's layers."""

from typing import Any

import jax
import numpy as np
import pytest

from jconv.layers import Conv, Linear
from jconv.models import alexnet
from tests.models.parity import Agree, reference
from tests.models.shapes import abstract, maps


def test_sizes_are_the_papers() -> None:
    expected = {"conv1": (55, 55, 96), "conv2": (27, 27, 256), "conv5": (13, 13, 256), "pool5": (6, 6, 256)}
    assert maps(alexnet(towers=2), 1, 224, 224, 3) == expected | {"value": (1000,)}
    one = {"conv1": (55, 55, 64), "conv2": (27, 27, 192), "conv5": (13, 13, 256), "pool5": (6, 6, 256)}
    assert maps(alexnet(num_classes=0), 1, 224, 224, 3) == one | {"value": (4096,)}
    assert maps(alexnet(width=1 / 16), 1, 300, 63, 3)["value"] == (1000,)


def test_parameters_of_each_layer_are_the_papers() -> None:
    """Section 3.5: 11×11×3, 5×5×48, 3×3×256, 3×3×192 and 3×3×192 kernels."""
    params, _, _ = abstract(alexnet(towers=2), 1, 224, 224, 3)
    kernels = [leaf.shape for path, leaf in jax.tree.leaves_with_path(params["features"]) if "kernel" in str(path)]
    assert sorted(kernels, key=lambda s: (-s[0], -s[2], s[3])) == [
        (11, 11, 3, 96), (5, 5, 48, 256), (3, 3, 256, 384), (3, 3, 192, 256), (3, 3, 192, 384),
    ]  # fmt: skip


def test_biases_of_2012_start_at_one_where_the_paper_says(key: jax.Array) -> None:
    net = alexnet(towers=2, width=1 / 16)
    params, _ = net.init(key, jax.ShapeDtypeStruct((1, 64, 64, 3), "float32"))
    layers = [(path, layer) for path, layer in net.walk() if isinstance(layer, Conv | Linear)]
    starts = []
    for path, _ in layers:
        room, i = path.split(".")
        starts.append(float(np.unique(params[room][i]["bias"]).item()))
    assert starts == [0, 1, 0, 1, 1, 1, 1, 0]
    one = [layer for _, layer in alexnet().walk() if isinstance(layer, Conv | Linear)]
    assert not any(np.any(layer.bias_init(key, (2,))) for layer in one)


def test_another_number_of_towers() -> None:
    with pytest.raises(ValueError, match=r"towers: unknown 3; there are 1, 2"):
        alexnet(towers=3)


# Parity


def test_one_tower_is_torchvisions(agree: Agree) -> None:
    theirs = reference("torchvision", "alexnet", num_classes=10, dropout=0.0)
    agree(alexnet(num_classes=10, dropout=0.0), theirs, (2, 95, 64, 3))


def towers() -> Any:
    """torch divides the sum of the normalisation by its size."""
    nn = pytest.importorskip("torch").nn

    def norm() -> Any:
        return nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)

    theirs = nn.Sequential()
    theirs.features = nn.Sequential(
        nn.Conv2d(3, 12, 11, stride=4, padding=2), nn.ReLU(), norm(), nn.MaxPool2d(3, 2),
        nn.Conv2d(12, 32, 5, padding=2, groups=2), nn.ReLU(), norm(), nn.MaxPool2d(3, 2),
        nn.Conv2d(32, 48, 3, padding=1), nn.ReLU(),
        nn.Conv2d(48, 48, 3, padding=1, groups=2), nn.ReLU(),
        nn.Conv2d(48, 32, 3, padding=1, groups=2), nn.ReLU(), nn.MaxPool2d(3, 2),
    )  # fmt: skip
    theirs.pool = nn.Sequential(nn.AdaptiveAvgPool2d(6), nn.Flatten())
    theirs.classifier = nn.Sequential(
        nn.Identity(), nn.Linear(1152, 512), nn.ReLU(), nn.Identity(), nn.Linear(512, 512), nn.ReLU(),
        nn.Linear(512, 10),
    )  # fmt: skip
    return theirs


def test_two_towers_are_a_sequence_of_torchs_layers(agree: Agree) -> None:
    net = alexnet(towers=2, width=1 / 8, num_classes=10, dropout=0.0)
    agree(net, towers, (2, 95, 64, 3))
