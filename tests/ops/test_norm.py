"""Normalisation: the moments and the affine map against float64 numpy, over a split batch, in half precision."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv.ops import batch_norm
from jconv.ops.norm import moments
from tests import oracles

CLOSE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5}


@pytest.mark.parametrize("shape", [(6, 3), (4, 5, 3), (2, 5, 4, 3), (2, 3, 2, 4, 3)])
def test_moments_and_map_are_numpys(rng: np.random.Generator, shape: tuple[int, ...]) -> None:
    x, scale, bias = rng.normal(3, 2, size=shape), rng.normal(size=3), rng.normal(size=3)
    right, right_mean, right_var = oracles.batch_norm(x, scale, bias, 1e-3)
    mean, var, n = moments(jnp.asarray(x, "float32"))
    assert n == x.size // 3
    np.testing.assert_allclose(mean, right_mean, **CLOSE)
    np.testing.assert_allclose(var * (n / (n - 1)), right_var, **CLOSE)
    y = batch_norm(*(jnp.asarray(a, "float32") for a in (x, mean, var, scale, bias)), eps=1e-3)
    np.testing.assert_allclose(y, right, **CLOSE)


def test_a_wrong_answer_is_noticed(rng: np.random.Generator) -> None:
    x = rng.normal(3, 2, size=(4, 3, 2))
    y, _, var = oracles.batch_norm(x, np.ones(2), np.zeros(2), 1e-3)
    for wrong in (
        oracles.batch_norm(x, np.ones(2), np.zeros(2), 0.1)[0],
        (x - x.mean((0, 1))) / np.sqrt(var + 1e-3),  # unbiased
        (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-3),  # of each position
    ):
        assert not np.allclose(wrong, y, **CLOSE)


def test_moments_of_large_numbers_do_not_cancel(rng: np.random.Generator) -> None:
    x = np.float32(1000 + rng.normal(size=(64, 4)))
    mean, var, _ = moments(jnp.asarray(x))
    np.testing.assert_allclose(mean, x.astype(np.float64).mean(0), rtol=1e-6)
    np.testing.assert_allclose(var, x.astype(np.float64).var(0), rtol=1e-3)


def test_moments_of_a_split_batch_are_the_batchs(rng: np.random.Generator) -> None:
    x = jnp.asarray(rng.normal(1, 3, size=(8, 5, 3)), "float32")
    split = jax.vmap(lambda x: moments(x, axis_name="devices")[:2], axis_name="devices")(x.reshape(4, 2, 5, 3))
    for part, whole in zip(split, moments(x)[:2], strict=True):
        np.testing.assert_allclose(part, jnp.broadcast_to(whole, (4, 3)), **CLOSE)
    alone = jax.vmap(lambda x: moments(x)[0])(x.reshape(4, 2, 5, 3))
    assert not np.allclose(alone, jnp.broadcast_to(moments(x)[0], (4, 3)), **CLOSE)


def test_the_gradient_sees_the_moments(rng: np.random.Generator) -> None:
    """A shift or a scale of the batch changes nothing, so the gradient has no part along either."""
    x, dy = (jnp.asarray(rng.normal(size=(16, 3)), "float32") for _ in range(2))
    norm = partial(batch_norm, scale=jnp.ones(3), bias=jnp.zeros(3), eps=0.0)
    dx = jax.grad(lambda x: jnp.vdot(dy, norm(x, *moments(x)[:2])))(x)
    np.testing.assert_allclose(dx.sum(0), 0, atol=1e-5)
    np.testing.assert_allclose((dx * x).sum(0), 0, atol=1e-4)


def test_half_precision_in_and_out_is_computed_in_float32(rng: np.random.Generator) -> None:
    x = jnp.asarray(rng.normal(300, 1, size=(512, 2)), "bfloat16")
    mean, var, _ = moments(x)
    assert (mean.dtype, var.dtype) == (jnp.float32, jnp.float32)
    y = batch_norm(x, mean, var, jnp.ones(2), jnp.zeros(2))
    assert y.dtype == jnp.bfloat16
    right, _, _ = oracles.batch_norm(np.asarray(x, np.float64), np.ones(2), np.zeros(2), 1e-5)
    np.testing.assert_allclose(y.astype(jnp.float32), right, rtol=0.01, atol=0.01)
