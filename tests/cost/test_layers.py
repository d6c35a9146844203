"""What each layer is: shapes, window, parameters, what it saves; in any framework that names its scopes."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jconv
from jconv import cost
from jconv.layers import Activation, BatchNorm, Conv, Linear, MaxPool, Sequential


def spec(*shape: int, dtype: str = "float32") -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


def shapes_of(net: Any, x: jax.ShapeDtypeStruct) -> tuple:
    return (*jax.eval_shape(net.init, jax.random.key(0), x), x)


NET = Sequential(
    conv1=Conv(8, 5, stride=2, bias=False),
    bn1=BatchNorm(),
    act1=Activation("relu"),
    pool=MaxPool(3, stride=2),
    conv2=Conv(16, (3, 2), dilation=(2, 1), groups=4, lowering="lax"),
    body=Sequential(jconv.layers.GlobalAvgPool(), Linear(10)),
)
ARGS = shapes_of(NET.update(Conv, lowering="lax"), spec(4, 28, 20, 1))
NET = NET.update(Conv, lowering="lax")


def test_layers_say_what_they_are() -> None:
    result = cost.analyze(NET.apply, *ARGS)
    conv1, bn1, pool, conv2, fc = (result.layer(p) for p in ("conv1", "bn1", "pool", "conv2", "body.1"))
    assert (conv1.scope.input, conv1.scope.output) == ("f32[4,28,20,1]", "f32[4,14,10,8]")
    assert conv1.scope.output_bytes == 4 * 14 * 10 * 8 * 4
    assert conv1.scope.window == cost.Window((5, 5), (2, 2), (1, 1), ((2, 2), (2, 2)), 1, 1, 8)
    assert (conv1.scope.fan_in, conv1.scope.fan_out) == (25, 8)
    assert (conv1.scope.params, bn1.scope.params) == (200, 16)
    assert pool.scope.window and (pool.scope.window.kernel, pool.scope.window.stride) == ((3, 3), (2, 2))
    assert conv2.scope.window and (conv2.scope.window.dilation, conv2.scope.window.groups) == ((2, 1), 4)
    assert (conv2.scope.fan_in, conv2.scope.fan_out) == (3 * 2 * 8 // 4, 4)
    assert (fc.scope.input, fc.scope.output, fc.scope.params) == ("f32[4,16]", "f32[4,10]", 170)
    assert (fc.scope.fan_in, fc.scope.fan_out) == (16, 10)
    assert fc.cost.macs == 4 * 160
    assert conv2.macs == conv2.cost.macs, "a layer has the names of its cost"
    assert conv2.fan_in == conv2.scope.fan_in, "and of its scope"
    with pytest.raises(AttributeError, match="a Layer has no 'flop'"):
        conv2.flop  # noqa: B018


@pytest.mark.parametrize(("channels", "kernel", "features"), [(1, 3, 8), (3, 3, 32), (3, 5, 32)])
def test_the_course_counts_inputs_and_outputs_of_a_position(channels: int, kernel: int, features: int) -> None:
    net = Sequential(conv=Conv(features, kernel, lowering="lax"))
    scope = cost.analyze(net.apply, *shapes_of(net, spec(1, 8, 8, channels))).layer("conv").scope
    assert (scope.fan_in, scope.fan_out) == (kernel**2 * channels, features)


def test_parameters_are_those_of_the_layer_that_uses_them() -> None:
    def f(params: dict, x: jax.Array) -> jax.Array:
        params = jax.tree.map(lambda a: a.astype("bfloat16"), params)  # a cast outside of any scope
        with jax.named_scope("one"):
            x = x @ params["a"]["w"]
        with jax.named_scope("two"):
            x = x @ params["b"]["w"] + params["b"]["bias"]
        return lax.scan(lambda x, w: (jax.named_call(jnp.dot, name="deep")(x, w), None), x, params["stack"])[0]

    params = {"a": {"w": spec(4, 5)}, "b": {"w": spec(5, 4), "bias": spec(4)}, "stack": spec(3, 4, 4)}
    params["unused"] = {"w": spec(9)}
    result = cost.analyze(f, params, spec(2, 4, dtype="bfloat16"))
    found = {layer.path: layer.params for layer in result.by_layer() if layer.params}
    assert found == {"one": 20, "two": 24, "deep": 48, "unused": 9}
    assert result.params == 101


# What the forward pass keeps


def residuals(fn: Callable, *args: Any) -> int:
    """Bytes of the residuals of fn's VJP with respect to its first argument, arguments and constants apart."""
    leaves, structure = jax.tree.flatten(args[0])

    def pull(leaves: list, *rest: Any) -> Any:
        return jax.vjp(lambda leaves: fn(structure.unflatten(leaves), *rest), leaves, has_aux=False)[1]

    jaxpr = jax.make_jaxpr(pull)(leaves, *args[1:]).jaxpr
    made = set(jaxpr.invars)  # and what depends on them: a broadcast zero is a residual that nothing keeps
    for eqn in jaxpr.eqns:
        made.update(eqn.outvars if any(not hasattr(v, "val") and v in made for v in eqn.invars) else ())
    kept = {v for v in jaxpr.outvars if not hasattr(v, "val") and v in made} - set(jaxpr.invars)
    return sum(v.aval.size * v.aval.dtype.itemsize for v in kept)


X = spec(2, 8, 8, 4)
KEEPERS: dict[str, tuple[Callable, tuple]] = {
    "network": (lambda p, s, x: NET.apply(p, s, x, train=True)[0], ARGS),
    "mlp": (lambda w, x: jnp.tanh(jax.nn.relu(x @ w) @ w), (spec(4, 4), X)),
    "softmax": (lambda w, x: jax.nn.log_softmax(x @ w), (spec(4, 4), X)),
    "scan": (lambda w, x: lax.scan(lambda x, w: (jnp.sin(x @ w), None), x, w)[0], (spec(5, 4, 4), X)),
}


@pytest.mark.parametrize("name", KEEPERS)
def test_saved_bytes_are_those_of_the_residuals(name: str) -> None:
    fn, args = KEEPERS[name]
    result = cost.analyze(fn, *args, mode="train")
    assert result.saved_bytes == residuals(fn, *args) > 0
    assert cost.analyze(fn, *args).saved_bytes == 0


@pytest.mark.parametrize("name", ["softmax", "scan"])
def test_saved_bytes_are_those_that_jax_reports(name: str) -> None:
    saved_residuals = getattr(pytest.importorskip("jax._src.ad_checkpoint"), "saved_residuals", None)
    if saved_residuals is None:
        pytest.skip("this jax has no saved_residuals")
    fn, (w, x) = KEEPERS[name]
    report = saved_residuals(lambda w: fn(w, np.zeros(x.shape, x.dtype)), w)
    kept = sum(a.size * a.dtype.itemsize for a, why in report if "argument" not in why and "constant" not in why)
    assert cost.analyze(fn, w, x, mode="train").saved_bytes == kept


def test_saved_bytes_belong_to_the_layer_that_makes_them() -> None:
    result = cost.analyze(partial(NET.apply, train=True), *ARGS, mode="train", has_aux=True)
    saved = {layer.path: layer.saved_bytes for layer in result.by_layer() if layer.saved_bytes}
    act, pool = 4 * 14 * 10 * 8, 4 * 7 * 5 * 8
    assert saved["pool"] == 4 * pool + 4 * pool, "what conv2's kernel gradient needs, and where each maximum was"
    assert saved["act1"] == act, "a mask"
    assert saved["conv1"] == 4 * act, "BatchNorm keeps its input"
    assert saved["bn1"] < act, "and no array of that size besides"


def test_bytes_moved_are_those_that_cross_a_layers_border() -> None:
    def f(x: jax.Array) -> jax.Array:
        with jax.named_scope("a"):
            x = jnp.exp(x * 2 + 1).reshape(8, 2)
        with jax.named_scope("b"):
            return x - x.mean()

    result = cost.analyze(f, spec(4, 4))
    assert {layer.path: layer.cost.bytes_moved for layer in result.by_layer()} == {"a": 2 * 64, "b": 2 * 64}
    assert result.total.bytes_read > 2 * 64
    assert result.layer("a").cost.intensity == 32 / 128
