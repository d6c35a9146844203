"""The course's networks: sizes and counts of the lesson, and what 5×5 first, BatchNorm and the last layer change."""

from collections.abc import Callable

import jax
import pytest

from jconv import models
from jconv.layers import BatchNorm
from jconv.models import Network, lesson_cnn, simple_cnn
from tests.models.shapes import abstract, count, maps

DIGIT = (1, 28, 28, 1)
FEATURES = {lesson_cnn: (8, 16, 32, 32), simple_cnn: (8, 16, 32, 64)}


def test_the_lessons_table() -> None:
    params, _, _ = abstract(lesson_cnn(), *DIGIT)
    weights = {name: layer["kernel"].size for name, layer in params.items()}
    assert weights == {"conv1": 200, "conv2": 1152, "conv3": 4608, "conv4": 9216, "fc": 320}
    assert sum(weights.values()) == 15_496
    assert count(lesson_cnn(), *DIGIT) == 15_594
    assert maps(lesson_cnn(), *DIGIT) == {
        "conv1": (14, 14, 8), "conv2": (7, 7, 16), "conv3": (4, 4, 32), "conv4": (2, 2, 32), "value": (10,),
    }  # fmt: skip


@pytest.mark.parametrize("make", FEATURES)
@pytest.mark.parametrize("first", [5, 3])
def test_parameters(make: Callable[..., Network], first: int) -> None:
    """By hand: of each convolution, and of a linear layer or a last convolution."""
    features = FEATURES[make]
    pairs = list(zip((1, *features), features, strict=False))
    kernels = sum((first if c == 1 else 3) ** 2 * c * f for c, f in pairs)
    last = features[-1] * 10 if make is lesson_cnn else 9 * features[-1] * 10
    assert count(make(first=first), *DIGIT) == kernels + last + sum(features) + 10
    norms = 2 * sum(features) + (10 if make is lesson_cnn else 20)
    assert count(make(first=first, bn=True), *DIGIT) == kernels + last + norms


@pytest.mark.parametrize("make", FEATURES)
def test_norms_follow_activations(make: Callable[..., Network]) -> None:
    names = list(make(bn=True).children())
    assert names[:6] == ["conv1", "act1", "bn1", "conv2", "act2", "bn2"]
    assert sum(isinstance(layer, BatchNorm) for layer in make(bn=True).children().values()) == 4 + (make is simple_cnn)
    assert not any(isinstance(layer, BatchNorm) for layer in make().children().values())


@pytest.mark.parametrize("make", FEATURES)
def test_no_classes_any_size_any_rank(make: Callable[..., Network]) -> None:
    assert maps(make(num_classes=0, features=(4, 6)), *DIGIT) == {
        "conv1": (14, 14, 4),
        "conv2": (7, 7, 6),
        "value": (6,),
    }
    assert maps(make(), 1, 33, 47, 3)["value"] == (10,)
    assert maps(make(), 1, 64, 2)["value"] == (10,)


def test_variants_are_the_options() -> None:
    assert models.list("lesson_cnn*") == ["lesson_cnn", "lesson_cnn_bn", "lesson_cnn_3x3", "lesson_cnn_3x3_bn"]
    assert models.create("lesson_cnn_3x3_bn") == lesson_cnn(first=3, bn=True)
    assert models.create("simple_cnn_bn", num_classes=3) == simple_cnn(bn=True, num_classes=3)


@pytest.mark.parametrize("make", FEATURES)
def test_another_first_window(make: Callable[..., Network]) -> None:
    with pytest.raises(ValueError, match=r"first: unknown 7; there are 5, 3"):
        make(first=7)


def test_act_reaches_every_layer() -> None:
    for make in FEATURES:
        text = str(make(act=jax.nn.selu))
        assert text.count("selu") == 4 and "relu" not in text.replace("selu", "")
