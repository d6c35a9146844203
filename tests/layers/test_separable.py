"""Convolutions in parts: each composition is the one convolution whose kernel is the product of the parts."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv import ops
from jconv.layers import (
    Activation,
    BatchNorm,
    Conv,
    Layer,
    Sequential,
    depthwise,
    depthwise_separable,
    flattened,
    spatially_separable,
)
from tests.catalogue import fast_jit

CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-4}
WINDOW: dict[str, Any] = {"stride": (2, 1), "dilation": (1, 2), "padding": ((1, 2), (0, 3))}


@pytest.fixture
def x(rng: np.random.Generator) -> jax.Array:
    return jnp.asarray(rng.normal(size=(2, 9, 8, 4)), "float32")


def applied(layer: Layer, x: jax.Array) -> tuple[jax.Array, dict[str, np.ndarray]]:
    """The value with random parameters but no biases, and the kernels by name."""
    params, _ = layer.init(jax.random.key(3), x)
    y, _ = fast_jit(layer.apply)(params, {}, x)
    return y, {name: np.asarray(child["kernel"]) for name, child in params.items()}


def test_depthwise_convolves_each_channel_alone(x: jax.Array) -> None:
    layer = depthwise(4, (3, 2), multiplier=3, bias=False, **WINDOW)
    params, _ = layer.init(jax.random.key(0), x)
    y, _ = layer.apply(params, {}, x)
    for c in range(4):
        mine = params["kernel"][..., 3 * c : 3 * c + 3]
        np.testing.assert_allclose(y[..., 3 * c : 3 * c + 3], ops.conv(x[..., c : c + 1], mine, **WINDOW), **CLOSE)


@pytest.mark.parametrize("groups", [1, 2])
def test_depthwise_separable_is_a_convolution_of_low_rank(x: jax.Array, groups: int) -> None:
    layer = depthwise_separable(6, (3, 2), channels=4, multiplier=2, groups=groups, **WINDOW)
    y, kernels = applied(layer, x)
    whole = np.zeros((3, 2, 4, 6))
    for c in range(4):
        for m in (2 * c, 2 * c + 1):  # in between
            group, features = m * groups // 8, 6 // groups
            mine = slice(group * features, (group + 1) * features)
            mixing = kernels["conv_pw"][0, 0, m % (8 // groups), mine]
            whole[..., c, mine] += kernels["conv_dw"][..., 0, m, None] * mixing
    np.testing.assert_allclose(y, ops.conv(x, jnp.float32(whole), **WINDOW), **CLOSE)


def test_spatially_separable_is_a_composed_convolution(x: jax.Array) -> None:
    """The second convolution pads another axis than the first, so padding changes nothing."""
    y, kernels = applied(spatially_separable(5, (3, 2), hidden=7, **WINDOW), x)
    assert (kernels["conv1"].shape, kernels["conv2"].shape) == ((3, 1, 4, 7), (1, 2, 7, 5))
    whole = ops.compose_kernels(*(jnp.asarray(kernels[name]) for name in ("conv1", "conv2")))
    np.testing.assert_allclose(y, ops.conv(x, whole, **WINDOW), **CLOSE)


def test_flattened_is_a_convolution_of_rank_one(x: jax.Array) -> None:
    y, kernels = applied(flattened(5, (3, 2), **WINDOW), x)
    channel, vertical, horizontal = (kernels[f"conv{i}"] for i in (1, 2, 3))
    assert (channel.shape, vertical.shape, horizontal.shape) == ((1, 1, 4, 5), (3, 1, 1, 5), (1, 2, 1, 5))
    np.testing.assert_allclose(y, ops.conv(x, jnp.float32(channel * vertical * horizontal), **WINDOW), **CLOSE)


@pytest.mark.parametrize("make", [spatially_separable, flattened])
def test_every_padding_goes_to_its_axis(x: jax.Array, make: Any) -> None:
    paddings = {None: (1, 0), 1: 1, (1, 0): (1, 0), "SAME": "SAME", "VALID": "VALID", "CIRCULAR": "CIRCULAR"}
    layers = {padding: make(3, (3, 2), stride=2, padding=padding) for padding in paddings}
    params, _ = layers[None].init(jax.random.key(3), x)

    @fast_jit
    def run(params: Any) -> list:
        first, *others = (child["kernel"] for child in params.values())
        for kernel in others:
            first = first * kernel if make is flattened else ops.compose_kernels(first, kernel)
        return [
            (layer.apply(params, {}, x)[0], ops.conv(x, first, stride=2, padding=paddings[padding]))
            for padding, layer in layers.items()
        ]

    for padding, (got, right) in zip(paddings, run(params), strict=True):
        np.testing.assert_allclose(got, right, err_msg=str(padding), **CLOSE)


@pytest.mark.parametrize(("kernel", "shape"), [((3,), (2, 9, 4)), ((3, 2, 3), (1, 4, 5, 4, 4)), (3, (2, 7, 6, 4))])
def test_the_kernel_decides_the_rank(kernel: Any, shape: tuple[int, ...]) -> None:
    rank = len(shape) - 2
    for make, extra in ((spatially_separable, 0), (flattened, 1)):
        layer = make(5, kernel)
        assert list(layer.children()) == [f"conv{i + 1}" for i in range(rank + extra)]
        arrays = layer.init(jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))
        y, _ = jax.eval_shape(layer.apply, *arrays, jax.ShapeDtypeStruct(shape, jnp.float32))
        assert y.shape[-1] == 5


def test_weights_are_as_many_as_the_table_says() -> None:
    k, channels, features, hidden, multiplier, groups = 5, 8, 12, 6, 3, 4
    x = jax.ShapeDtypeStruct((1, 9, 9, channels), jnp.float32)

    def weights(layer: Layer) -> int:
        params, _ = jax.eval_shape(layer.init, jax.random.key(0), x)
        return sum(math.prod(a.shape) for a in jax.tree.leaves(params) if len(a.shape) > 1)

    assert weights(Conv(features, k)) == k**2 * channels * features
    assert weights(depthwise(channels, k, multiplier=multiplier)) == k**2 * channels * multiplier
    dense = depthwise_separable(features, k, channels=channels, multiplier=multiplier, groups=groups)
    assert weights(dense) == k**2 * channels * multiplier + channels * multiplier * features // groups
    assert weights(spatially_separable(features, k, hidden=hidden)) == k * channels * hidden + k * hidden * features
    assert weights(flattened(features, k)) == channels * features + 2 * k * features


@pytest.mark.parametrize(
    "make", [lambda **o: depthwise_separable(6, 3, channels=4, **o), lambda **o: spatially_separable(6, 3, **o),
             lambda **o: flattened(6, 3, **o)],
)  # fmt: skip
def test_norm_and_activation_follow_each_convolution(make: Any) -> None:
    bare, full = make(), make(norm=BatchNorm(), act=Activation("relu"))
    convs = [name for name in bare.children() if name.startswith("conv")]
    assert list(bare.children()) == convs
    assert list(full.children()) == [n for i, conv in enumerate(convs) for n in (conv, f"bn{i + 1}", f"act{i + 1}")]
    assert isinstance(full, Sequential)
    assert [layer.bias for _, layer in bare.walk() if isinstance(layer, Conv)] == [True] * len(convs)
    assert [layer.bias for _, layer in full.walk() if isinstance(layer, Conv)] == [False] * len(convs)


def test_options_that_do_not_fit_the_axes() -> None:
    with pytest.raises(ValueError, match=r"stride: expected an int or 2 ints"):
        spatially_separable(4, 3, stride=(1, 2, 1))
    with pytest.raises(ValueError, match=r"padding: expected 3 numbers or pairs, one for each axis .* got \(1, 2\)"):
        flattened(4, (3, 3, 3), padding=(1, 2))
