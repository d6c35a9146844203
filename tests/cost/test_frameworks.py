"""The same small network in every framework: the same multiply-adds and parameters, under the names of its layers."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from jconv import cost
from jconv.layers import Conv, GlobalAvgPool, Linear, Sequential

X = jax.ShapeDtypeStruct((2, 12, 12, 3), "float32")
MACS = {"conv": 2 * 6 * 6 * 9 * 3 * 8, "fc": 2 * 8 * 5}
PARAMS = 9 * 3 * 8 + 8 + 8 * 5 + 5

Program = tuple[Callable, tuple]


def in_jconv() -> Program:
    net = Sequential(conv=Conv(8, 3, stride=2), pool=GlobalAvgPool(), fc=Linear(5))
    return net.apply, (*jax.eval_shape(net.init, jax.random.key(0), X), X)


def in_lax() -> Program:
    def f(params: Any, x: jax.Array) -> jax.Array:
        with jax.named_scope("conv"):
            pads = [(1, 1), (1, 1)]
            x = lax.conv_general_dilated(
                x, params["conv"]["w"], (2, 2), pads, dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            x = (x + params["conv"]["b"]).mean((1, 2))
        with jax.named_scope("fc"):
            return x @ params["fc"]["w"] + params["fc"]["b"]

    spec = partial(jax.ShapeDtypeStruct, dtype="float32")
    return f, ({"conv": {"w": spec((3, 3, 3, 8)), "b": spec((8,))}, "fc": {"w": spec((8, 5)), "b": spec((5,))}}, X)


def in_linen() -> Program:
    nn = pytest.importorskip("flax.linen")

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            x = nn.Conv(8, (3, 3), strides=2, padding=1, name="conv")(x)
            return nn.Dense(5, name="fc")(x.mean((1, 2)))

    net = Net()
    return net.apply, (jax.eval_shape(net.init, jax.random.key(0), X), X)


def in_nnx() -> Program:
    nnx = pytest.importorskip("flax.nnx")

    class Net(nnx.Module):
        def __init__(self, rngs: Any):
            self.conv = nnx.Conv(3, 8, (3, 3), strides=2, padding=1, rngs=rngs)
            self.fc = nnx.Linear(8, 5, rngs=rngs)

        def __call__(self, x: jax.Array) -> jax.Array:
            return self.fc(self.conv(x).mean((1, 2)))

    graph, params = nnx.split(cost.scopes(Net(nnx.Rngs(0))))
    return lambda params, x: nnx.merge(graph, params)(x), (params, X)


def in_equinox() -> Program:
    eqx = pytest.importorskip("equinox")

    class Net(eqx.Module):
        conv: Any
        fc: Any

        def __call__(self, x: jax.Array) -> jax.Array:
            return self.fc(self.conv(x.transpose(2, 0, 1)).mean((1, 2)))

    keys = jax.random.split(jax.random.key(0))
    net = Net(eqx.nn.Conv2d(3, 8, 3, 2, 1, key=keys[0]), eqx.nn.Linear(8, 5, key=keys[1]))
    params, static = eqx.partition(cost.scopes(net), eqx.is_array)
    return lambda params, x: jax.vmap(eqx.combine(params, static))(x), (params, X)


def in_haiku() -> Program:
    hk = pytest.importorskip("haiku")

    def f(x: jax.Array) -> jax.Array:
        x = hk.Conv2D(8, 3, stride=2, padding=[(1, 1), (1, 1)], name="conv")(x)
        return hk.Linear(5, name="fc")(x.mean((1, 2)))

    net = hk.without_apply_rng(hk.transform(f))
    return net.apply, (jax.eval_shape(net.init, jax.random.key(0), X), X)


@pytest.mark.parametrize("make", [in_jconv, in_lax, in_linen, in_nnx, in_equinox, in_haiku])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_one_network_costs_the_same_in_every_framework(make: Callable[[], Program]) -> None:
    with jax.numpy_dtype_promotion("standard"):
        fn, args = make()
        result = cost.analyze(fn, *args)
        train = cost.analyze(lambda *a: jnp.sum(jax.tree.leaves(fn(*a))[0]), *args, mode="train")
    macs = {
        next(name for name in MACS if name in layer.path.split(".")): layer.cost.macs
        for layer in result.by_layer()
        if layer.cost.macs
    }
    assert macs == MACS
    assert result.params == PARAMS
    assert result.coverage.complete and train.coverage.complete
    assert train.by_phase()["backward kernel"].macs == sum(MACS.values())
