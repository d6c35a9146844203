"""The rectifiers are jax.nn's but for what they keep: values, derivatives of both modes, the corners."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv import ops

PAIRS = {"relu": (ops.relu, jax.nn.relu), "relu6": (ops.relu6, jax.nn.relu6)}
CORNERS = jnp.array([0.0, -0.0, 6.0, jnp.nan, jnp.inf, -jnp.inf])


@pytest.mark.parametrize("name", PAIRS)
def test_values_and_derivatives(name: str, rng: np.random.Generator) -> None:
    ours, theirs = PAIRS[name]
    x, t = jnp.asarray(rng.normal(0, 6, size=(2, 50)))
    np.testing.assert_array_equal(ours(x), theirs(x))
    np.testing.assert_array_equal(ours(CORNERS), theirs(CORNERS))
    for mine, right in zip(jax.jvp(ours, (x,), (t,)), jax.jvp(theirs, (x,), (t,)), strict=True):
        np.testing.assert_array_equal(mine, right)
    np.testing.assert_array_equal(jax.vjp(ours, x)[1](t)[0], jax.vjp(theirs, x)[1](t)[0])
    assert not jax.grad(lambda x: jax.grad(lambda x: jnp.sum(ours(x) ** 3))(x).sum())(-abs(x)).any()


@pytest.mark.parametrize("f", [ops.relu, ops.relu6])
def test_the_derivative_is_zero_at_the_corners(f: Callable[[jax.Array], jax.Array]) -> None:
    grads = jax.vmap(jax.grad(f))(jnp.array([0.0, jnp.nan, 6.0]))
    np.testing.assert_array_equal(grads, [0.0, 0.0, float(f is ops.relu)])


@pytest.mark.parametrize("f", [ops.relu, ops.relu6])
def test_only_the_output_is_kept(f: Callable[[jax.Array], jax.Array]) -> None:
    x = jnp.linspace(-1.0, 7.0, 9)
    y, back = jax.vjp(f, x)
    masks = [a for a in jax.tree.leaves(back) if a.any()]
    assert masks
    assert all((a == (y > 0)).all() or (a == ((y > 0) & (y < 6))).all() for a in masks)
