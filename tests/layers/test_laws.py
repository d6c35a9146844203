"""The laws that every layer and every network obeys, one test a law, over `tests.catalogue`."""

import copy
import dataclasses
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv import layers
from jconv.layers import Composite, Layer, initializers
from tests.catalogue import CATALOGUE, LEAVES, cube, fast_jit, ready

CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-4}

each = pytest.mark.parametrize("name", CATALOGUE)
each_small = pytest.mark.parametrize("name", [name for name in CATALOGUE if "resnet" not in name])
"""For laws that compile every operation, or every kernel's random numbers, on their own."""


def evaluate(name: str) -> Callable:
    """(params, state, x) -> (y, state), compiled once for all laws."""
    return jitted(name, False)


def train(name: str) -> Callable:
    """(params, state, x, key) -> (y, state), compiled once for all laws."""
    return jitted(name, True)


@cache
def jitted(name: str, train: bool) -> Callable:
    layer = CATALOGUE[name].layer
    if train:
        return fast_jit(lambda params, state, x, key: layer.apply(params, state, x, train=True, key=key))
    return fast_jit(layer.apply)


def avals(tree: Any) -> Any:
    """Structure, shapes and dtypes."""
    return jax.tree.map(lambda a: (a.shape, a.dtype), tree)


def close(got: Any, right: Any, **tolerance: float) -> None:
    """Trees of one structure and nearly one value."""
    assert avals(got) == avals(right)
    jax.tree.map(partial(np.testing.assert_allclose, **CLOSE | tolerance), got, right)


def test_every_layer_is_in_the_catalogue() -> None:
    known = {type(value) for _, entry in CATALOGUE.items() for value in (entry.layer, *below(entry.layer))}
    public = {kind for kind in vars(layers).values() if isinstance(kind, type) and issubclass(kind, Layer)}
    assert public - known == {Layer, Composite}


def below(layer: Layer) -> list[Layer]:
    return [child for _, child in layer.walk()] if isinstance(layer, Composite) else []


@pytest.mark.skipif(jax.__version_info__ < (0, 10), reason="JAX's own matmul has no gradient of a split batch there")
@each
def test_a_batch_may_be_split_along_an_explicit_axis(name: str) -> None:
    """A train step's gradients trace where the mesh's axes are part of the types."""
    layer, params, state, x, key = ready(name)
    mesh = jax.sharding.AbstractMesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Explicit,))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))  # pyright: ignore[reportArgumentType]
    batch = jax.ShapeDtypeStruct((2 * len(x), *x.shape[1:]), x.dtype, sharding=split)

    def loss(x: jax.Array, params: Any) -> jax.Array:
        y, _ = layer.apply(params, state, x, train=True, key=key)
        return (y**2).sum()

    with jax.sharding.use_abstract_mesh(mesh):
        dx, dparams = jax.eval_shape(jax.grad(loss, (0, 1)), batch, params)
    assert dx.sharding.spec[0] == "data"
    assert avals(dparams) == avals(params)


@each_small
def test_jit_is_eager(name: str) -> None:
    layer, params, state, x, key = ready(name)
    close(train(name)(params, state, x, key), layer.apply(params, state, x, train=True, key=key))


@each
def test_vmap_is_the_batch(name: str) -> None:
    layer, params, state, x, _ = ready(name)
    y, _ = evaluate(name)(params, state, x)
    alone = fast_jit(jax.vmap(lambda x: layer.apply(params, state, x[None])[0][0]))
    close(alone(x), y)


@each
def test_bfloat16_in_bfloat16_out_and_close(name: str) -> None:
    _, params, state, x, _ = ready(name)
    y, _ = evaluate(name)(params, state, x)
    half, after = evaluate(name)(params, state, x.astype(jnp.bfloat16))
    assert half.dtype == jnp.bfloat16
    assert avals(after) == avals(state)
    scale = float(jnp.abs(y).max())
    np.testing.assert_allclose(half.astype(jnp.float32), y, rtol=0.05, atol=0.03 * max(scale, 1))


@each
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_training_in_another_precision_keeps_float32_state(name: str, dtype: str) -> None:
    layer, params, state, x, key = ready(name)
    f = partial(layer.apply, train=True)
    with jax.enable_x64(dtype == "float64"):
        y, after = jax.eval_shape(lambda *a: f(*a[:3], key=a[3]), params, state, x.astype(dtype), key)
    assert y.dtype == dtype
    assert avals(after) == avals(state)


@each
def test_every_parameter_gets_a_gradient(name: str) -> None:
    layer, params, state, x, key = ready(name)

    def loss(params: Any, x: jax.Array) -> jax.Array:
        y, _ = layer.apply(params, state, x, train=True, key=key)
        return jnp.sum(y * jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))

    grads, dx = fast_jit(jax.grad(loss, (0, 1)))(params, x)
    assert avals(grads) == avals(params)
    for path, grad in jax.tree_util.tree_leaves_with_path((grads, dx)):
        assert np.isfinite(grad).all(), path
        assert np.any(np.asarray(grad)), path


@each
def test_training_and_evaluation_keep_the_states_structure(name: str) -> None:
    _, params, state, x, key = ready(name)
    assert avals(train(name)(params, state, x, key)[1]) == avals(state)
    before = jax.tree.map(np.array, state)
    after = evaluate(name)(params, state, x)[1]
    assert avals(after) == avals(state)
    jax.tree.map(np.testing.assert_array_equal, after, before)


@each
def test_apply_mutates_nothing(name: str) -> None:
    layer, params, state, x, key = ready(name)
    before = jax.tree.map(id, (params, state))
    jax.eval_shape(lambda x: layer.apply(params, state, x, train=True, key=key), x)
    assert jax.tree.map(id, (params, state)) == before


@each
def test_training_changes_every_statistic(name: str) -> None:
    _, params, state, x, key = ready(name)
    after = train(name)(params, state, x, key)[1]
    for old, new in zip(jax.tree.leaves(state), jax.tree.leaves(after), strict=True):
        assert not np.array_equal(old, new)


@each
def test_repeated_steps_compile_once(name: str) -> None:
    layer, params, state, x, key = ready(name)
    chex.clear_trace_counter()

    @fast_jit
    @chex.assert_max_traces(n=1)
    def step(params, state, x, key):
        return layer.apply(params, state, x, train=True, key=key)

    for i in range(3):
        _, state = step(params, state, x + i, jax.random.fold_in(key, i))


@each
def test_no_tracer_leaks(name: str) -> None:
    layer, params, state, x, key = ready(name)
    with jax.checking_leaks():
        jax.make_jaxpr(lambda *a: layer.apply(*a[:3], train=True, key=a[3]))(params, state, x, key)
        jax.make_jaxpr(layer.init)(key, x)


def test_a_leak_is_noticed() -> None:
    leaked = []
    with jax.checking_leaks(), pytest.raises(Exception, match="Leaked"):
        jax.make_jaxpr(lambda x: leaked.append(x * 2) or x)(1.0)


@each
def test_evaluation_is_deterministic_and_needs_no_key(name: str) -> None:
    layer, params, state, x, key = ready(name)
    y = evaluate(name)(params, state, x)[0]
    np.testing.assert_array_equal(evaluate(name)(params, state, x)[0], y)
    np.testing.assert_array_equal(fast_jit(lambda *a: layer.apply(*a, key=key)[0])(params, state, x), y)


# init


@each
def test_init_reads_only_shape_and_dtype(name: str) -> None:
    layer, shape = CATALOGUE[name]
    key, aval = jax.random.key(3), jax.ShapeDtypeStruct(shape, jnp.float32)
    arrays = layer.init(key, jnp.full(shape, jnp.nan))
    jax.tree.map(np.testing.assert_array_equal, layer.init(key, aval), arrays)
    assert avals(jax.eval_shape(layer.init, key, aval)) == avals(arrays)


@each_small
def test_init_under_jit_is_eager_init(name: str) -> None:
    layer, shape = CATALOGUE[name]
    aval = jax.ShapeDtypeStruct(shape, jnp.float32)
    close(
        fast_jit(lambda key: layer.init(key, aval))(jax.random.key(3)), layer.init(jax.random.key(3), aval), rtol=1e-6
    )


@each
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_parameters_and_state_are_float32(name: str, dtype: str) -> None:
    layer, shape = CATALOGUE[name]
    with jax.enable_x64(dtype == "float64"):
        made = jax.eval_shape(layer.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, dtype))
    assert {a.dtype for a in jax.tree.leaves(made)} <= {jnp.dtype("float32")}
    assert avals(made) == avals(jax.eval_shape(layer.init, jax.random.key(0), jnp.zeros(shape)))


# A layer is a description


@each
def test_equal_descriptions_are_equal(name: str) -> None:
    layer = CATALOGUE[name].layer
    again = copy.deepcopy(layer)
    assert again is not layer
    assert again == layer
    assert hash(again) == hash(layer)
    assert repr(again) == repr(layer) == str(layer)
    others = [entry.layer for other, entry in CATALOGUE.items() if other != name]
    assert layer not in others


@each
def test_a_description_is_frozen(name: str) -> None:
    layer = CATALOGUE[name].layer
    for field in dataclasses.fields(layer):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(layer, field.name, None)


def test_lists_are_kept_as_tuples() -> None:
    by_list = layers.Conv(4, [3, 3], stride=[2, 1], padding=[[0, 1], [1, 0]])  # pyright: ignore[reportArgumentType]
    assert by_list == layers.Conv(4, (3, 3), stride=(2, 1), padding=((0, 1), (1, 0)))
    assert len({by_list}) == 1


@pytest.mark.parametrize("name", LEAVES)
def test_the_text_of_a_leaf_makes_it(name: str) -> None:
    layer = LEAVES[name].layer
    assert eval(repr(layer), vars(layers) | vars(initializers) | {"cube": cube}) == layer


CONVOLVING = [name for name, entry in CATALOGUE.items() if any(isinstance(c, layers.Conv) for c in below(entry.layer))]


@pytest.mark.parametrize("name", CONVOLVING)
def test_networks_are_the_same_by_every_lowering(name: str) -> None:
    layer, params, state, x, _ = ready(name)
    assert isinstance(layer, Composite)
    other = layer.update(layers.Conv, lowering="im2col")
    assert other != layer
    close(fast_jit(other.apply)(params, state, x)[0], evaluate(name)(params, state, x)[0])


def test_a_wrong_tree_is_noticed() -> None:
    right = {"a": jnp.ones(2), "b": {"c": jnp.zeros(3)}}
    close(right, right)
    for wrong in (
        {"a": jnp.ones(2)}, {"a": jnp.ones(3), "b": {"c": jnp.zeros(3)}},
        {"a": jnp.ones(2), "b": {"c": jnp.zeros(3, jnp.bfloat16)}}, {"a": jnp.ones(2), "b": {"c": jnp.full(3, 1e-2)}},
    ):  # fmt: skip
        with pytest.raises(AssertionError):
            close(wrong, right)
