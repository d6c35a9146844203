"""Layers of normalisation: what each computes, ghost batches step by step, batches over devices, errors."""

import dataclasses
import subprocess
import sys
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv import ops
from jconv.layers import BatchNorm, Conv, GroupNorm, Layer, LayerNorm, Sequential, StandardizedConv
from tests.catalogue import fast_jit

CLOSE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture
def x(rng: np.random.Generator) -> jax.Array:
    return jnp.asarray(rng.normal(1, 2, size=(6, 5, 4)), "float32")


def arrays(rng: np.random.Generator) -> tuple[dict, dict]:
    """Parameters and state for four channels."""
    params = {name: jnp.asarray(rng.normal(size=4), "float32") for name in ("scale", "bias")}
    return params, {
        "mean": jnp.asarray(rng.normal(size=4), "float32"),
        "var": jnp.asarray(rng.uniform(1, 2, 4), "float32"),
    }


@pytest.mark.parametrize(
    ("layer", "right"),
    [
        (LayerNorm(eps=0.1), partial(ops.layer_norm, eps=0.1)),
        (LayerNorm(spatial=True), partial(ops.layer_norm, spatial=True)),
        (GroupNorm(2, eps=0.1), partial(ops.group_norm, groups=2, eps=0.1)),
    ],
    ids=["layer", "layer spatial", "group"],
)
def test_layers_that_are_one_function(layer: Layer, right: Any, x: jax.Array, rng: np.random.Generator) -> None:
    params, _ = arrays(rng)
    for train in (False, True):
        y, state = layer.apply(params, {}, x, train=train)
        np.testing.assert_array_equal(y, right(x, **params))
        assert state == {}
    started, _ = layer.init(jax.random.key(0), x)
    np.testing.assert_array_equal(started["scale"], jnp.ones(4))
    np.testing.assert_array_equal(started["bias"], jnp.zeros(4))


def test_ghost_batches_are_batches_one_after_the_other(x: jax.Array, rng: np.random.Generator) -> None:
    whole, sizes = BatchNorm(momentum=0.3, eps=1e-3), (1, 2, 3, 6)
    params, state = arrays(rng)

    @fast_jit
    def run(params: Any, state: Any, x: jax.Array) -> list:
        found = []
        for size in sizes:
            parts, after = [], state
            for part in jnp.split(x, 6 // size):
                y, after = whole.apply(params, after, part, train=True)
                parts.append(y)
            ghosts = dataclasses.replace(whole, ghost=size).apply(params, state, x, train=True)
            found.append((ghosts, (jnp.concatenate(parts), after)))
        return found

    for got, right in run(params, state, x):
        jax.tree.map(partial(np.testing.assert_allclose, **CLOSE), got, right)
    same, kept = BatchNorm(eps=1e-3, ghost=4).apply(params, state, x)
    np.testing.assert_array_equal(same, whole.apply(params, state, x)[0])
    assert kept is state


def test_ghost_batches_on_devices_share_the_running_statistics_alone(x: jax.Array, rng: np.random.Generator) -> None:
    bn = BatchNorm(ghost=1)
    params, state = arrays(rng)
    split = dataclasses.replace(bn, axis_name="devices")

    @fast_jit
    def run(x: jax.Array) -> tuple:
        f = jax.vmap(lambda x: split.apply(params, state, x, train=True), axis_name="devices", out_axes=(0, None))
        alone = [bn.apply(params, state, part, train=True)[1] for part in (x[:3], x[3:])]
        return *f(x.reshape(2, 3, 5, 4)), bn.apply(params, state, x, train=True)[0], alone

    y, after, right, alone = run(x)
    np.testing.assert_allclose(y.reshape(x.shape), right, **CLOSE)
    mean = jax.tree.map(lambda a, b: (a + b) / 2, *alone)
    jax.tree.map(partial(np.testing.assert_allclose, **CLOSE), after, mean)


OVER_DEVICES = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import PartitionSpec as P
from jconv.layers import BatchNorm
x = jnp.asarray(np.random.default_rng(0).normal(1, 2, size=(8, 5, 3)), "float32")
bn, split = BatchNorm(), BatchNorm(axis_name="data")
params, state = bn.init(jax.random.key(0), x)
f = lambda x: split.apply(params, state, x, train=True)
mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
y, after = jax.jit(jax.shard_map(f, mesh=mesh, in_specs=P("data"), out_specs=(P("data"), P())))(x)
right, right_state = bn.apply(params, state, x, train=True)
np.testing.assert_allclose(y, right, rtol=1e-5, atol=1e-5)
jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), after, right_state)
assert len(y.sharding.device_set) == 4
"""


def test_batch_norm_over_devices_is_the_whole_batchs() -> None:
    """shard_map on four simulated devices, in an interpreter that starts with them."""
    env = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", OVER_DEVICES], env=env, check=True)


@pytest.mark.parametrize("scaled", [False, True])
def test_a_standardised_convolution(rng: np.random.Generator, key: jax.Array, scaled: bool) -> None:
    x = jnp.asarray(rng.normal(size=(2, 6, 5, 4)), "float32")
    layer = StandardizedConv(6, 3, stride=2, groups=2, scaled=scaled, eps=0.1)
    params, _ = layer.init(key, x)

    @fast_jit
    def run(params: Any) -> tuple:
        kernel = ops.standardize_kernel(params["kernel"], scaled=scaled, eps=0.1)
        right = ops.conv(x, kernel, params["bias"], stride=2, padding=1, groups=2)
        y, back = jax.vjp(lambda params: layer.apply(params, {}, x)[0], params)
        return y, right, back(y)[0]["kernel"]

    y, right, dkernel = run(params)
    np.testing.assert_allclose(y, right, **CLOSE)
    np.testing.assert_allclose(dkernel.sum((0, 1, 2)), 0, atol=1e-4)  # the mean of a kernel does not matter
    net = Sequential(layer).update(Conv, lowering="lax")
    assert net["0"] == dataclasses.replace(layer, lowering="lax")


@pytest.mark.parametrize("layer", [BatchNorm(), LayerNorm(), GroupNorm(2)], ids=str)
def test_channels_that_changed(layer: Layer, x: jax.Array, key: jax.Array) -> None:
    params, state = layer.init(key, x)
    with pytest.raises(ValueError, match=r"x: expected 4 channels in the last axis, got shape \(6, 5, 2\)"):
        layer.apply(params, state, x[..., :2])


def test_a_ghost_batch_that_does_not_divide_the_batch(x: jax.Array, key: jax.Array) -> None:
    bn = BatchNorm(ghost=4)
    with pytest.raises(ValueError, match=r"ghost: expected a positive size that divides the batch of 6, got 4; drop"):
        bn.apply(*bn.init(key, x), x, train=True)
    bn.apply(*bn.init(key, x), x)  # evaluation takes any batch


@pytest.mark.parametrize("momentum", [0, 1, 0.0, 1.0])
def test_a_momentum_of_none_and_of_all(momentum: float, key: jax.Array, rng: np.random.Generator) -> None:
    """The running statistics stay, or are the last batch's."""
    x = jnp.float32(rng.normal(3, 2, size=(50, 2)))
    layer = BatchNorm(momentum=momentum, eps=0)
    params, state = layer.init(key, x)
    y, after = layer.apply(params, state, x, train=True)
    np.testing.assert_allclose(y.std(0), 1, rtol=1e-5)
    right = {"mean": x.mean(0), "var": x.var(0, ddof=1)} if momentum else state
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), after, right)
