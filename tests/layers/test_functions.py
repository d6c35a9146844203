"""Layers that are one function of `jconv.ops`: each passes every option on, and defaults to torch's padding."""

import dataclasses
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv import ops
from jconv.layers import (
    AdaptiveAvgPool,
    AdaptiveMaxPool,
    AvgPool,
    BlurPool,
    ChannelShuffle,
    DepthToSpace,
    FixedFilter,
    GlobalMaxPool,
    L2Pool,
    Layer,
    LocalResponseNorm,
    MaxBlurPool,
    MaxPool,
    SpaceToDepth,
    Upsample,
)
from tests.catalogue import fast_jit

WINDOW = {"kernel": (3, 2), "stride": (2, 3), "padding": ((0, 0), (1, 1))}
EVERY: list[tuple[type[Layer], dict, Callable]] = [  # every field of the layer with another value than its default
    (AdaptiveAvgPool, {"size": (4, 3)}, ops.adaptive_avg_pool),
    (AdaptiveMaxPool, {"size": (4, 3)}, ops.adaptive_max_pool),
    (AvgPool, WINDOW | {"ceil_mode": True, "count_include_pad": False}, ops.avg_pool),
    (BlurPool, {"kernel": 4, "stride": (1, 3)}, ops.blur_pool),
    (ChannelShuffle, {"groups": 2}, ops.channel_shuffle),
    (DepthToSpace, {"block": (1, 2), "order": "channel"}, ops.depth_to_space),
    (
        FixedFilter,
        {"name": "gaussian", "size": 4, "sigma": 0.9, "stride": 2, "padding": ((0, 1), (2, 0))},
        ops.apply_filter,
    ),
    (GlobalMaxPool, {}, ops.global_max_pool),
    (L2Pool, WINDOW | {"ceil_mode": True, "count_include_pad": False}, ops.l2_pool),
    (LocalResponseNorm, {"size": 3, "alpha": 0.5, "beta": 0.6, "k": 1.5}, ops.local_response_norm),
    (MaxBlurPool, WINDOW | {"blur": 2}, ops.max_blur_pool),
    (MaxPool, WINDOW | {"dilation": (1, 2), "ceil_mode": True}, ops.max_pool),
    (SpaceToDepth, {"block": (3, 2), "order": "channel"}, ops.space_to_depth),
    (Upsample, {"scale": 1.5, "method": "bilinear"}, ops.resize),
    (Upsample, {"size": (4, 9), "method": "bilinear"}, ops.resize),
]


@pytest.fixture
def x(rng: np.random.Generator) -> jax.Array:
    return jnp.asarray(rng.normal(size=(2, 6, 8, 4)), "float32")


@pytest.mark.parametrize(("kind", "options", "op"), EVERY, ids=[kind.__name__ for kind, _, _ in EVERY])
def test_layers_pass_every_option_on(kind: type[Layer], options: dict, op: Callable, x: jax.Array) -> None:
    names = {f.name for f in dataclasses.fields(kind)}
    assert options.keys() == names if kind is not Upsample else options.keys() <= names
    optional = options.keys() - {"kernel", "size", "scale", "name", "groups", "block"}
    without = {name: kind(**{k: v for k, v in options.items() if k != name}) for name in optional}

    def run(x: jax.Array) -> tuple:
        others = {name: layer.apply({}, {}, x)[0] for name, layer in without.items()}
        return kind(**options).apply({}, {}, x)[0], op(x, **options), others

    y, right, others = fast_jit(run)(x)
    np.testing.assert_array_equal(y, right)
    for name, other in others.items():
        assert other.shape != y.shape or not np.array_equal(other, y), name  # each option matters here


@pytest.mark.parametrize(
    ("layer", "op"),
    [
        (MaxPool(3, stride=2), partial(ops.max_pool, kernel=3, stride=2, padding=1)),
        (AvgPool(2), partial(ops.avg_pool, kernel=2)),
        (L2Pool(5, stride=3), partial(ops.l2_pool, kernel=5, stride=3, padding=2)),
        (MaxBlurPool(3, stride=2), partial(ops.max_blur_pool, kernel=3, stride=2, padding=1)),
        (BlurPool(), ops.blur_pool),
        (Upsample(2), partial(ops.resize, scale=2)),
        (SpaceToDepth(2), partial(ops.space_to_depth, block=2)),
        (FixedFilter("sobel_y"), partial(ops.apply_filter, name="sobel_y")),
    ],
    ids=lambda value: str(value) if isinstance(value, Layer) else "",
)
def test_defaults(layer: Layer, op: Callable, x: jax.Array) -> None:
    y, right = fast_jit(lambda x: (layer.apply({}, {}, x)[0], op(x)))(x)
    np.testing.assert_array_equal(y, right)
