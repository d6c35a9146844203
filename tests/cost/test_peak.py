"""The predicted peak: exact where it can be told by hand, and near XLA's own."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import jconv
from jconv import cost

N = 8 * 8 * 4
"""Bytes of X."""
X = jax.ShapeDtypeStruct((8, 8), "float32")


def outer(x: jax.Array, w: jax.Array) -> jax.Array:
    """8 times the size of x, of a product."""
    return x[:, :, None] * (x @ w)[:, None]


def branches(x: jax.Array, w: jax.Array) -> jax.Array:
    return lax.cond(x[0, 0] > 0, lambda: x @ w, lambda: x @ w @ w @ w)


EXACT: dict[str, tuple[Callable, int]] = {  # of two arguments, and the bytes of its temporaries
    "elementwise": (lambda x, w: jnp.tanh(jnp.sin(x) + w), 0),
    "two products": (lambda x, w: x @ w @ w, N),
    "three products": (lambda x, w: x @ w @ w @ w, 2 * N),
    "in place": (lambda x, w: jnp.tanh(x @ w) @ w, N),
    "not in place": (lambda x, w: (jnp.tanh(y := x @ w) @ w) @ y, 3 * N),
    "computed again": (lambda x, w: (jnp.sin(y := outer(x, w)), y * 2), N),
    "inside a reduction": (lambda x, w: jnp.sin(outer(x, w)).sum(0), N),
    "a reduction and another": (lambda x, w: ((y := outer(x, w)).sum(0), y * 2), 9 * N),
    "stored for a product": (lambda x, w: jnp.sin(x) @ w, N),
    "an argument as it is": (lambda x, w: x.reshape(4, 16) @ w.reshape(16, 4), 0),
    "transposed for a product": (lambda x, w: jnp.sin(x).T @ w, N),
    "loop": (lambda x, w: lax.scan(lambda x, _: (jnp.sin(x @ w) @ w, None), x, length=3)[0], 2 * N),
    "branches": (branches, 2 * N + 4),  # and the number of the branch
    "nothing": (lambda x, w: w, 0),
}


@pytest.mark.parametrize("name", EXACT)
def test_temporaries_are_those_that_can_be_told_by_hand(name: str) -> None:
    fn, temporary = EXACT[name]
    found = cost.peak(fn, X, X)
    assert found.temporary == temporary
    assert found.output == sum(4 * y.size for y in jax.tree.leaves(jax.eval_shape(fn, X, X)))
    assert found.bytes == found.argument + found.output + found.temporary


def test_only_arguments_that_are_used_are_held() -> None:
    assert cost.peak(lambda x, w: w * 2, X, X).argument == N
    assert cost.peak(lambda x, w: w * x, X, X).argument == 2 * N


def test_what_is_held_is_told_by_layer() -> None:
    def f(x: jax.Array, w: jax.Array) -> jax.Array:
        with jax.named_scope("a"):
            y = x @ w
        with jax.named_scope("b"):
            z = y @ w @ w
        with jax.named_scope("c"):
            return (z @ y) @ w

    found = cost.peak(f, X, X)
    assert (found.path, dict(found.held)) == ("b", {"a": N, "b": 2 * N})


def test_convolutions_in_another_order_are_copied() -> None:
    x, k = jax.ShapeDtypeStruct((2, 3, 6, 6), "float32"), jax.ShapeDtypeStruct((5, 3, 3, 3), "float32")
    images = 4 * (2 * 3 * 6 * 6 + 2 * 5 * 6 * 6)
    conv = partial(lax.conv_general_dilated, window_strides=(1, 1), padding="SAME")
    assert cost.peak(conv, x, k).temporary == images + 4 * 5 * 3 * 3 * 3
    x, k = jax.ShapeDtypeStruct((2, 6, 6, 3), "float32"), jax.ShapeDtypeStruct((3, 3, 3, 5), "float32")
    assert cost.peak(lambda x, k: jconv.conv(x, k, padding=1, lowering="lax"), x, k).temporary == 0


TRAIN: dict[str, Any] = {"mode": "train", "has_aux": True}


def network(size: int, batch: int, **options: Any) -> tuple[Callable, Any]:
    """A ResNet-18 in training, and shapes for it."""
    net = jconv.models.resnet(18, lowering="lax", **options)
    x = jax.ShapeDtypeStruct((batch, size, size, 3), "float32")
    return partial(net.apply, train=True), (*jax.eval_shape(net.init, jax.random.key(0), x), x)


def test_training_holds_more_than_evaluation() -> None:
    fn, args = network(32, 8, width=16)
    found = cost.peak(fn, *args, **TRAIN)
    assert sum(found.held.values()) == found.temporary > cost.peak(fn, *args).temporary


@pytest.mark.slow
@pytest.mark.parametrize(("size", "batch"), [(64, 32), (128, 16)])
def test_a_training_pass_needs_what_xla_allots(size: int, batch: int) -> None:
    fn, args = network(size, batch)
    found, memory = cost.peak(fn, *args, **TRAIN), cost.xla(fn, *args, **TRAIN).memory
    if memory is None:
        pytest.skip("this backend does not say")
    assert found.argument == pytest.approx(memory.argument, rel=1e-3)
    assert found.bytes == pytest.approx(memory.peak, rel=0.1)


def test_bad_input_is_said() -> None:
    with pytest.raises(ValueError, match="mode: expected 'forward' or 'train', got 'backward'"):
        cost.peak(jnp.sin, X, mode="backward")
    with pytest.raises(ValueError, match="expected a function that JAX can trace"):
        cost.peak(lambda x: x + "a", X)
