"""Single layers against what they are defined to be: BatchNorm, Dropout, DropPath, Linear, the pools, PadChannels."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv import ops
from jconv.layers import (
    Activation,
    AvgPool,
    BatchNorm,
    BlurPool,
    Conv,
    ConvTranspose,
    Dropout,
    DropPath,
    Flatten,
    GlobalAvgPool,
    Layer,
    Linear,
    MaxPool,
    PadChannels,
    Sequential,
)
from jconv.layers.initializers import Constant, Normal, fan_in_uniform, fans, he_normal, lecun_normal, ones, zeros
from jconv.layers.simple import ACTIVATIONS
from tests import oracles

CLOSE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture
def x(rng: np.random.Generator) -> jax.Array:
    return jnp.asarray(rng.normal(1, 2, size=(4, 6, 5, 3)), "float32")


# BatchNorm


@pytest.mark.parametrize("momentum", [0.1, 0.4])
def test_batch_norm_in_training_and_evaluation(x: jax.Array, rng: np.random.Generator, momentum: float) -> None:
    params = {name: jnp.asarray(rng.normal(size=3), "float32") for name in ("scale", "bias")}
    state = {"mean": jnp.asarray(rng.normal(size=3), "float32"), "var": jnp.asarray(rng.uniform(1, 2, 3), "float32")}
    bn = BatchNorm(momentum=momentum, eps=1e-3)
    y, after = bn.apply(params, state, x, train=True)
    right, mean, unbiased = oracles.batch_norm(np.asarray(x), params["scale"], params["bias"], 1e-3)
    np.testing.assert_allclose(y, right, **CLOSE)
    np.testing.assert_allclose(after["mean"], (1 - momentum) * state["mean"] + momentum * mean, **CLOSE)
    np.testing.assert_allclose(after["var"], (1 - momentum) * state["var"] + momentum * unbiased, **CLOSE)
    y, same = bn.apply(params, state, x)
    assert same is state
    right = (np.asarray(x, np.float64) - state["mean"]) / np.sqrt(state["var"] + 1e-3) * params["scale"] + params[
        "bias"
    ]
    np.testing.assert_allclose(y, right, **CLOSE)


def test_running_statistics_reach_the_datas(rng: np.random.Generator, key: jax.Array) -> None:
    bn = BatchNorm(momentum=0.5)
    x = jnp.asarray(rng.normal(3, 2, size=(256, 2)), "float32")
    params, state = bn.init(key, x)
    for _ in range(30):
        _, state = bn.apply(params, state, x, train=True)
    np.testing.assert_allclose(state["mean"], np.asarray(x).mean(0), **CLOSE)
    np.testing.assert_allclose(state["var"], np.asarray(x).var(0, ddof=1), **CLOSE)


def test_batch_norm_of_a_split_batch_is_the_whole_batchs(x: jax.Array, key: jax.Array) -> None:
    whole = BatchNorm()
    params, state = whole.init(key, x)
    right, right_state = whole.apply(params, state, x, train=True)
    split = dataclasses.replace(whole, axis_name="devices")
    f = jax.vmap(lambda x: split.apply(params, state, x, train=True), axis_name="devices", out_axes=(0, None))
    y, after = f(x.reshape(2, 2, 6, 5, 3))
    np.testing.assert_allclose(y.reshape(x.shape), right, **CLOSE)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **CLOSE), after, right_state)


def test_batch_norm_of_one_example_is_finite(key: jax.Array) -> None:
    bn, x = BatchNorm(), jnp.ones((1, 3))
    y, after = bn.apply(*bn.init(key, x), x, train=True)
    for a in jax.tree.leaves((y, after)):
        assert np.isfinite(a).all()


# Dropout


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_mean(rate: float, key: jax.Array) -> None:
    x = jnp.full((100, 100), 3.0)
    y, _ = Dropout(rate).apply({}, {}, x, train=True, key=key)
    kept = np.asarray(y) != 0
    np.testing.assert_allclose(np.asarray(y)[kept], 3 / (1 - rate), rtol=1e-6)
    assert abs(kept.mean() - (1 - rate)) < 5 * np.sqrt(rate * (1 - rate) / x.size)


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_drop_path_drops_whole_examples(rate: float, key: jax.Array) -> None:
    y, _ = DropPath(rate).apply({}, {}, jnp.ones((5000, 2, 3)), train=True, key=key)
    each = np.asarray(y).reshape(5000, -1)
    assert (each == each[:, :1]).all()
    kept = each[:, 0] != 0
    assert abs(kept.mean() - (1 - rate)) < 5 * np.sqrt(rate * (1 - rate) / 5000)
    np.testing.assert_allclose(each[kept], 1 / (1 - rate), rtol=1e-6)


@pytest.mark.parametrize("kind", [Dropout, DropPath])
def test_dropout_needs_a_key_in_training_alone(kind: type[Dropout], x: jax.Array, key: jax.Array) -> None:
    np.testing.assert_array_equal(kind(0.5).apply({}, {}, x)[0], x)
    np.testing.assert_array_equal(kind(0.0).apply({}, {}, x, train=True)[0], x)
    with pytest.raises(ValueError, match=rf"key: {kind.__name__}\(0.5\) draws .*; pass apply\(..., key=jax.random.key"):
        kind(0.5).apply({}, {}, x, train=True)
    net = Sequential(stage=Sequential(kind(0.5)))
    with pytest.raises(ValueError, match=r"key: ") as error:
        net.apply({}, {}, x, train=True)
    assert error.value.__notes__ == [f"in layer 'stage.0': {kind(0.5)}"]


def test_two_dropouts_of_a_network_draw_their_own_numbers(key: jax.Array) -> None:
    x = jnp.ones((64, 64))
    net = Sequential(Dropout(0.5), Dropout(0.5))
    y = net.apply({}, {}, x, train=True, key=key)[0]
    assert abs(float((y != 0).mean()) - 0.25) < 0.05
    np.testing.assert_array_equal(net.apply({}, {}, x, train=True, key=key)[0], y)
    assert not np.array_equal(net.apply({}, {}, x, train=True, key=jax.random.fold_in(key, 1))[0], y)


# Layers that are one function


def test_linear_is_a_matmul(x: jax.Array, key: jax.Array, rng: np.random.Generator) -> None:
    params, _ = Linear(5).init(key, x)
    params["bias"] = jnp.asarray(rng.normal(size=5), "float32")
    right = np.asarray(x, np.float64) @ np.asarray(params["kernel"], np.float64) + np.asarray(params["bias"])
    np.testing.assert_allclose(Linear(5).apply(params, {}, x)[0], right, **CLOSE)
    assert set(Linear(5, bias=False).init(key, x)[0]) == {"kernel"}


def test_conv_passes_every_option_on(x: jax.Array, key: jax.Array, rng: np.random.Generator) -> None:
    options = {"stride": (2, 1), "padding": ((0, 1), (2, 0)), "dilation": (1, 2), "groups": 3}
    layer = Conv(6, (3, 2), **options)
    params, _ = layer.init(key, x)
    assert params["kernel"].shape == (3, 2, 1, 6)
    params["bias"] = jnp.asarray(rng.normal(size=6), "float32")
    right = ops.conv(x, params["kernel"], params["bias"], **options)
    np.testing.assert_array_equal(layer.apply(params, {}, x)[0], right)


@pytest.mark.parametrize(
    ("layer", "right"),
    [
        (MaxPool(3, stride=2), lambda x: ops.max_pool(x, 3, stride=2, padding=1)),
        (MaxPool(2), lambda x: ops.max_pool(x, 2)),
        (MaxPool(3, stride=1, dilation=2), lambda x: ops.max_pool(x, 3, stride=1, padding=2, dilation=2)),
        (AvgPool(3, stride=2), lambda x: ops.avg_pool(x, 3, stride=2, padding=1)),
        (
            AvgPool(3, padding="SAME", count_include_pad=False),
            lambda x: ops.avg_pool(x, 3, padding="SAME", count_include_pad=False),
        ),
        (BlurPool(4, stride=3), lambda x: ops.blur_pool(x, 4, stride=3)),
        (GlobalAvgPool(), lambda x: x.mean((1, 2))),
        (Flatten(), lambda x: x.reshape(4, 90)),
        (Flatten(channels_first=True), lambda x: jnp.transpose(x, (0, 3, 1, 2)).reshape(4, 90)),
        (PadChannels(5, stride=2), lambda x: jnp.pad(x[:, ::2, ::2], [(0, 0)] * 3 + [(0, 2)])),
    ],
    ids=lambda value: str(value) if isinstance(value, Layer) else "",
)
def test_layers_that_are_one_function(layer, right, x: jax.Array) -> None:
    np.testing.assert_allclose(layer.apply({}, {}, x)[0], right(x), **CLOSE)


@pytest.mark.parametrize("layer", [Conv(5, 3), ConvTranspose(5, 3), Linear(5)], ids=str)
def test_a_bias_starts_where_it_is_told(layer: Any, x: jax.Array, key: jax.Array) -> None:
    np.testing.assert_array_equal(layer.init(key, x)[0]["bias"], np.zeros(5))
    start = dataclasses.replace(layer, bias_init=Constant(-2.0))
    np.testing.assert_array_equal(start.init(key, x)[0]["bias"], np.full(5, -2.0))
    one, other = (dataclasses.replace(layer, bias_init=f, kernel_init=f).init(key, x)[0] for f in (drawn, zeros))
    assert not np.isin(one["bias"], one["kernel"]).any()  # other random numbers than the kernel's
    assert not np.any(other["bias"])


def drawn(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """A standard normal."""
    return jax.random.normal(key, shape)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_by_name_are_jaxs(name: str, x: jax.Array) -> None:
    right = jax.nn.gelu(x, approximate=False) if name == "gelu_exact" else getattr(jax.nn, name)(x)
    np.testing.assert_array_equal(Activation(name).apply({}, {}, x)[0], right)


# Initialisers


@pytest.mark.parametrize("shape", [(3, 3, 16, 64), (5, 8, 512), (700, 300)])
def test_initialisers_have_the_variance_they_say(shape: tuple[int, ...], key: jax.Array) -> None:
    fan_in, fan_out = np.prod(shape[:-1]), np.prod(shape[:-2]) * shape[-1]
    assert fans(shape) == (fan_in, fan_out)
    normal, uniform = np.asarray(he_normal(key, shape)), np.asarray(fan_in_uniform(key, shape))
    np.testing.assert_allclose(normal.var(), 2 / fan_out, rtol=0.05)
    np.testing.assert_allclose(np.var(lecun_normal(key, shape)), 1 / fan_in, rtol=0.05)
    np.testing.assert_allclose(np.std(Normal(0.02)(key, shape)), 0.02, rtol=0.03)
    np.testing.assert_allclose(uniform.var(), 1 / fan_in / 3, rtol=0.05)
    assert np.abs(uniform).max() <= 1 / np.sqrt(fan_in)
    assert np.unique(normal).size > 0.95 * normal.size  # no block of random numbers is used twice
    np.testing.assert_array_equal(zeros(key, shape), np.zeros(shape))
    np.testing.assert_array_equal(ones(key, shape), np.ones(shape))
