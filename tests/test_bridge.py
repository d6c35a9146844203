"""A network inside Flax: the same numbers, statistics and weights, in a training step of Linen and of NNX."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

from jconv import bridge, models
from jconv.layers import BatchNorm, Conv, Dropout, Sequential

KEY = jax.random.key(0)
NET = models.resnet(18, width=4, stem="cifar", num_classes=0)
SMALL = Sequential(conv=Conv(4, 3), bn=BatchNorm(), drop=Dropout(0.5))
X = jnp.asarray(np.random.default_rng(0).normal(size=(4, 8, 8, 3)), jnp.float32)


def same(a: Any, b: Any, **close: Any) -> None:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for p, q in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(p, q, **close)


class Linear(linen.Module):
    """A Linen model with a network of ours in it."""

    @linen.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        return linen.Dense(5)(bridge.to_linen(NET, name="net")(x, train=train))


def test_linen_has_our_trees_and_computes_our_numbers() -> None:
    module = bridge.to_linen(SMALL)
    variables: Any = module.init(KEY, X)
    params, state = variables["params"], variables["batch_stats"]
    assert jax.tree.structure((params, state)) == jax.tree.structure(SMALL.init(KEY, X))
    same(module.apply(variables, X), SMALL.apply(params, state, X)[0])
    key = jax.random.key(3)
    rest: Any = {"train": True, "mutable": ["batch_stats"], "rngs": {"dropout": key}}
    applied: Any = module.apply(variables, X, **rest)
    y, new = applied
    assert not np.allclose(new["batch_stats"]["bn"]["mean"], state["bn"]["mean"])
    same(new["batch_stats"], SMALL.apply(params, state, X, train=True, key=key)[1])
    assert (np.asarray(y) == 0).mean() == pytest.approx(0.5, abs=0.1)


def test_linen_does_not_lose_statistics_without_a_word() -> None:
    module = bridge.to_linen(SMALL)
    variables: Any = module.init(KEY, X)
    with pytest.raises(Exception, match="batch_stats"):
        module.apply(variables, X, train=True, rngs={"dropout": KEY})


def test_a_step_of_linen_is_a_step_of_ours() -> None:
    model = Linear()
    variables: Any = model.init(KEY, X)
    params, stats = variables["params"], variables["batch_stats"]

    def of_flax(params: Any) -> Any:
        y, new = model.apply({"params": params, "batch_stats": stats}, X, train=True, mutable=["batch_stats"])
        return (y**2).mean(), new["batch_stats"]["net"]

    def ours(params: Any) -> Any:
        y, new = NET.apply(params["net"], stats["net"], X, train=True)
        return ((y @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"]) ** 2).mean(), new

    for a, b in zip(*(jax.jit(jax.value_and_grad(f, has_aux=True))(params) for f in (of_flax, ours)), strict=True):
        same(a, b, rtol=1e-4, atol=1e-5)


class Both(nnx.Module):
    """An NNX model with a network of ours in it."""

    def __init__(self, rngs: nnx.Rngs):
        self.net = bridge.to_nnx(NET, X, rngs=rngs)
        self.fc = nnx.Linear(32, 5, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.fc(self.net(x))


def test_a_step_of_nnx_is_a_step_of_ours() -> None:
    model = Both(nnx.Rngs(0))
    params, state = model.net.trees()
    fc = {"kernel": jnp.array(model.fc.kernel[...]), "bias": jnp.zeros(5)}
    optimiser = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)

    @nnx.jit
    def step(model: Both, optimiser: nnx.Optimizer) -> jax.Array:
        value, grads = nnx.value_and_grad(lambda model: (model(X) ** 2).mean())(model)
        optimiser.update(model, grads)
        return value

    def ours(params: Any, fc: Any) -> Any:
        y, new = NET.apply(params, state, X, train=True)
        return ((y @ fc["kernel"] + fc["bias"]) ** 2).mean(), new

    (value, after), (grads, _) = jax.jit(jax.value_and_grad(ours, argnums=(0, 1), has_aux=True))(params, fc)
    assert float(step(model, optimiser)) == pytest.approx(float(value), rel=1e-5)
    new, stats = model.net.trees()
    same(stats, after, rtol=1e-4, atol=1e-5)
    same(new, jax.tree.map(lambda p, g: p - 0.1 * g, params, grads), rtol=1e-3, atol=1e-5)
    model.eval()
    before = model.net.trees()
    y = nnx.jit(lambda model: model(X))(model)
    same(model.net.trees(), before)
    same(y, model.fc(NET.apply(*before, X)[0]), rtol=1e-4, atol=1e-5)


def test_weights_go_both_ways() -> None:
    variables: Any = bridge.to_linen(SMALL).init(KEY, X)
    module = bridge.to_nnx(SMALL, X, rngs=nnx.Rngs(7))
    module.take(variables["params"], variables["batch_stats"])
    same(module.trees(), (variables["params"], variables["batch_stats"]))
    module.eval()
    same(module(X), SMALL.apply(*module.trees(), X)[0])


class Dropped(linen.Module):
    """A Linen model with a network of ours in it that draws random numbers; or, in its place, the key that it takes."""

    tell: bool = False

    @linen.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        if self.tell:
            return Told(name="net")()
        return bridge.to_linen(SMALL, name="net")(x, train=train)


class Told(linen.Module):
    """The key that a module of this name draws."""

    @linen.compact
    def __call__(self) -> jax.Array:
        return self.make_rng("dropout")


def after(params: Any, state: Any, key: jax.Array) -> Any:
    """Value, state and gradients of a training step of ours with dropout."""

    def loss(params: Any) -> Any:
        y, new = SMALL.apply(params, state, X, train=True, key=key)
        return (y**2).mean(), new

    return jax.jit(jax.value_and_grad(loss, has_aux=True))(params)


def test_a_step_of_linen_with_dropout_is_a_step_of_ours() -> None:
    model = Dropped()
    variables: Any = model.init({"params": KEY}, X, train=True)
    params, stats = variables["params"], variables["batch_stats"]

    @jax.jit
    def step(params: Any, stats: Any, key: jax.Array) -> Any:
        def loss(params: Any) -> Any:
            rest: Any = {"train": True, "mutable": ["batch_stats"], "rngs": {"dropout": key}}
            y, new = model.apply({"params": params, "batch_stats": stats}, X, **rest)
            return (y**2).mean(), new["batch_stats"]

        return jax.value_and_grad(loss, has_aux=True)(params)

    values = []
    for seed in (1, 2):
        drawn: Any = Dropped(tell=True).apply({}, X, rngs={"dropout": jax.random.key(seed)})
        (value, new), grads = step(params, stats, jax.random.key(seed))
        same(((value, new["net"]), grads["net"]), after(params["net"], stats["net"], drawn), rtol=1e-4, atol=1e-6)
        values.append(float(value))
        stats = new
    assert values[0] != values[1]


def test_a_step_of_nnx_with_dropout_is_a_step_of_ours() -> None:
    model, keys = bridge.to_nnx(SMALL, X, rngs=nnx.Rngs(0, dropout=1)), nnx.Rngs(dropout=1)

    @nnx.jit
    def step(model: bridge.NNX) -> Any:
        return nnx.value_and_grad(lambda model: (model(X) ** 2).mean())(model)

    values = []
    for _ in range(2):  # the stream goes on from step to step
        before = model.trees()
        value, grads = step(model)
        (wanted, new), ours = after(*before, keys.dropout())
        same((value, model.trees()[1]), (wanted, new), rtol=1e-4, atol=1e-6)
        same(nnx.to_pure_dict(grads)["params"], ours, rtol=1e-4, atol=1e-6)
        values.append(float(value))
    assert values[0] != values[1]


def test_a_stream_that_is_not_there() -> None:
    variables: Any = bridge.to_linen(SMALL).init(KEY, X)
    drawing = (
        r'Dropout\(0.5\) of this Sequential draws random numbers in training, expected a stream "dropout", got none'
    )
    with pytest.raises(ValueError, match=drawing + r'; use apply\(..., rngs={"dropout": key}\)'):
        bridge.to_linen(SMALL).apply(variables, X, train=True, mutable=["batch_stats"])
    module = bridge.to_nnx(SMALL, X, rngs=nnx.Rngs(params=0))
    with pytest.raises(ValueError, match=drawing + r"; use to_nnx\(..., rngs=nnx.Rngs\(0, dropout=1\)\)"):
        module(X)
    module.eval()
    same(module(X), SMALL.apply(*module.trees(), X)[0])
    with pytest.raises(
        ValueError, match=r"""rngs: expected a stream "params", got \['dropout'\]; pass rngs=nnx.Rngs"""
    ):
        bridge.to_nnx(SMALL, X, rngs=nnx.Rngs(dropout=0))
    still = Sequential(Conv(4, 3), Dropout(0.0))
    bridge.to_nnx(still, X, rngs=nnx.Rngs(params=0))(X)
    bridge.to_linen(still).apply(bridge.to_linen(still).init(KEY, X), X, train=True)


def test_trees_that_do_not_fit_are_told_and_not_taken() -> None:
    module = bridge.to_nnx(SMALL, X, rngs=nnx.Rngs(0))
    params, state = before = module.trees()
    wrong = {"conv": {"kernel": jnp.ones((3, 3, 3, 5)), "scale": jnp.ones(4)}, "bn": params["bn"]}
    told = r"params: expected .*; got no conv.bias; conv.scale of shape \(4,\), which is not here; "
    with pytest.raises(ValueError, match=told + r"conv.kernel of shape \(3, 3, 3, 5\) for \(3, 3, 3, 4\)"):
        module.take(wrong, state)
    with pytest.raises(ValueError, match=r"bn.mean of shape \(\) for \(4,\)"):  # which would broadcast
        module.take(jax.tree.map(jnp.ones_like, params), {"bn": {"mean": jnp.ones(()), "var": jnp.ones(4)}})
    same(module.trees(), before)


def test_nnx_draws_from_its_stream() -> None:
    make = partial(bridge.to_nnx, SMALL, X)
    a, b, c = make(rngs=nnx.Rngs(0, dropout=1)), make(rngs=nnx.Rngs(0, dropout=1)), make(rngs=nnx.Rngs(0, dropout=2))
    first = a(X)
    same(first, b(X))
    assert not np.allclose(first, c(X)) and not np.allclose(first, a(X))
