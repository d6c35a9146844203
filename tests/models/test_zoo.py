"""What every network of the zoo obeys: the laws of a layer, published numbers, and that it learns."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jconv import cost, models
from jconv.layers import Activation, Identity
from tests.catalogue import fast_jit
from tests.models.zoo import NUMBERS, TINY

KEY = jax.random.key(0)


@pytest.mark.parametrize("name", NUMBERS)
def test_parameters_and_macs_are_the_published_ones(name: str) -> None:
    numbers, net = NUMBERS[name], models.create(name)
    shape = (numbers.size, numbers.size, 3) if isinstance(numbers.size, int) else numbers.size
    x = jax.ShapeDtypeStruct((1, *shape), "float32")
    params, state = jax.eval_shape(net.init, KEY, x)
    assert sum(p.size for p in jax.tree.leaves(params)) == numbers.parameters
    if numbers.gmacs is not None:
        macs = cost.analyze(net.apply, params, state, x, has_aux=True).total.macs / 1e9
        assert macs == pytest.approx(numbers.gmacs, abs=0.51 * 10.0 ** -len(str(numbers.gmacs).partition(".")[2]))


def test_every_family_is_short() -> None:
    for path in Path(models.__file__).parent.glob("*.py"):
        assert len(path.read_text().splitlines()) <= 200, path.name


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_it_learns_eight_examples_by_heart(name: str) -> None:
    net, rng = TINY[name].make(), np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(8, *TINY[name].shape)), jnp.float32)
    params, state = net.init(KEY, x)
    optimiser = optax.adam(3e-3)

    def loss(params: Any, state: Any, key: jax.Array) -> Any:
        y, after = net.apply(params, state, x, train=True, key=key)
        return TINY[name].loss(y), after

    @fast_jit
    def step(params: Any, state: Any, slots: Any, key: jax.Array) -> Any:
        (value, after), grads = jax.value_and_grad(loss, has_aux=True)(params, state, key)
        with jax.numpy_dtype_promotion("standard"):  # optax raises a float to the count
            updates, slots = optimiser.update(grads, slots)
        return optax.apply_updates(params, updates), after, slots, value, grads

    slots, values = optimiser.init(params), []
    for i in range(300):
        params, state, slots, value, grads = step(params, state, slots, jax.random.fold_in(KEY, i))
        values.append(float(value))
        if i == 0:
            for path, g in jax.tree.leaves_with_path(grads):
                assert np.isfinite(g).all() and np.any(g != 0), jax.tree_util.keystr(path)
        if i > 10 and max(values[-3:]) < 0.05:
            break
    assert max(values[-3:]) < 0.05, values[-3:]


@pytest.mark.parametrize("name", TINY)
def test_evaluation_is_deterministic_and_leaves_state_alone(name: str) -> None:
    net = TINY[name].make()
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, *TINY[name].shape)), jnp.float32)
    params, state = net.init(KEY, x)
    state = jax.tree.map(lambda a: jnp.asarray(rng.uniform(0.5, 1.5, a.shape), a.dtype), state)
    assert "random_bits" not in str(jax.make_jaxpr(net.apply)(params, state, x))
    run = fast_jit(net.apply)
    (y, after), (again, _) = run(params, state, x), run(params, state, x)
    assert y.shape == (2, *TINY[name].out)
    assert np.isfinite(y).all()
    np.testing.assert_array_equal(y, again)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, after, state)


def test_features_are_in_the_order_of_the_stages_until_jax_sorts_them() -> None:
    layers = {"f": Identity(), "g": Activation("relu"), "h": Identity()}
    net = models.Network(layers, stages={"stem": "f", "act": "g", "last": "h"})
    names, x = [name for name, _ in net.stages], jnp.ones((1, 2))
    assert list(net.features({}, {}, x)[0]) == names == ["stem", "act", "last"]
    assert list(net.features({}, {}, x, at=["last", "stem"])[0]) == ["stem", "last"]
    assert list(fast_jit(net.features)({}, {}, x)[0]) == sorted(names)


def test_a_random_layer_would_be_noticed() -> None:
    net, x = models.create("vgg11", width=2, num_classes=8), jax.ShapeDtypeStruct((2, 32, 32, 3), "float32")
    params, state = jax.eval_shape(net.init, KEY, x)
    train = jax.make_jaxpr(lambda *arrays: net.apply(*arrays, train=True, key=KEY))(params, state, x)
    assert "random_bits" in str(train)
