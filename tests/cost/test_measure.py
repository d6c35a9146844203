"""Timings: layers cut out of a program compute what they do inside it, and their rates are of their own cost."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest

from jconv import cost
from jconv.cost.measure import _cut
from jconv.cost.rules import RULES
from jconv.cost.trace import trace
from jconv.layers import Activation, BatchNorm, Conv, Linear, Sequential
from jconv.layers.pool import GlobalAvgPool

NET = Sequential(conv=Conv(4, 3), bn=BatchNorm(), act=Activation("relu"), body=Sequential(GlobalAvgPool(), Linear(3)))
X = jax.ShapeDtypeStruct((2, 6, 6, 3), "float32")
DEVICE = cost.Device("toy", 1e9, {"f32": 1e9}, "a test")


def test_layers_of_a_train_step_are_timed() -> None:
    args = (*jax.eval_shape(NET.init, jax.random.key(0), X), X)
    options = {"mode": "train", "has_aux": True}
    found = cost.measure(partial(NET.apply, train=True), *args, **options, device=DEVICE, repeats=1)
    assert {t.path for t in found.layers} == {"conv", "bn", "act", "body"}
    assert found.whole.cost == cost.analyze(partial(NET.apply, train=True), *args, **options).total
    for t in (*found.layers, found.whole):
        assert t.seconds > 0
        assert t.flops_per_second == pytest.approx(t.cost.flops / t.seconds)
        assert t.bytes_per_second == pytest.approx(t.cost.bytes_moved / t.seconds)
        assert t.mfu == pytest.approx(t.flops_per_second / 1e9)
    assert found.to_markdown().count("\n") == 6


def test_what_is_cut_out_computes_what_it_did(key: jax.Array) -> None:
    def f(w: jax.Array, x: jax.Array) -> jax.Array:
        with jax.named_scope("a"):
            x = jnp.tanh(x @ w)
        return jax.lax.scan(lambda x, _: (jnp.sin(x) * 2, None), x, None, length=3)[0]

    w, x = jax.random.normal(key, (4, 4)), jax.random.normal(key, (2, 4))
    block, _, _ = trace(f, w, x, opaque=RULES)
    run, values = _cut(block, block.ops)
    assert [v.shape for v in values] == [(2, 4), (4, 4)]
    assert jnp.allclose(run([x, w])[-1], f(w, x))


def test_the_peaks_of_this_machine_are_measured_and_mistakes_said() -> None:
    device = cost.this_device(64, repeats=1)
    assert device.flops("f32") > 1e6 and device.bandwidth > 1e6
    with pytest.raises(ValueError, match="device: unknown 'h1000'; there are h100-sxm"):
        cost.measure(lambda x: x * x, X, device="h1000")
