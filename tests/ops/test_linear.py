"""The operations that are linear: superposition, the adjoint, and constants that stay constant."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv import ops
from tests.catalogue import fast_jit

CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-4}
MEANS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "adaptive_avg_pool": partial(ops.adaptive_avg_pool, size=(4, 3)),
    "avg_pool": partial(ops.avg_pool, kernel=3, stride=2, ceil_mode=True),
    "avg_pool of real inputs": partial(ops.avg_pool, kernel=3, padding=1, count_include_pad=False),
    "blur_pool": partial(ops.blur_pool, kernel=4),
    "gaussian": partial(ops.apply_filter, name="gaussian", size=5),
    "global_avg_pool": ops.global_avg_pool,
    "resize bilinear": partial(ops.resize, size=(5, 9), method="bilinear"),
    "resize nearest": partial(ops.resize, size=(13, 4)),
}
LINEAR = MEANS | {
    "channel_shuffle": partial(ops.channel_shuffle, groups=2),
    "depth_to_space": partial(ops.depth_to_space, block=2),
    "laplacian": partial(ops.apply_filter, name="laplacian"),
    "space_to_depth": partial(ops.space_to_depth, block=(3, 1)),
}


@pytest.mark.parametrize("name", LINEAR)
def test_superposition_and_the_adjoint(name: str, rng: np.random.Generator) -> None:
    f = LINEAR[name]
    x, u = (jnp.asarray(rng.normal(size=(2, 6, 8, 4)), "float32") for _ in range(2))
    dy = jnp.asarray(rng.normal(size=jax.eval_shape(f, x).shape), "float32")

    def run(x: jax.Array, u: jax.Array, dy: jax.Array) -> tuple:
        return f(x), f(u), f(2 * x - 3 * u), jax.linear_transpose(f, x)(dy)[0], jax.vjp(f, u)[1](dy)[0]

    y, v, both, dx, du = fast_jit(run)(x, u, dy)
    np.testing.assert_allclose(both, 2 * y - 3 * v, **CLOSE)
    np.testing.assert_allclose(np.vdot(dx, x), np.vdot(dy, y), **CLOSE)
    np.testing.assert_allclose(dx, du, **CLOSE)


@pytest.mark.parametrize("name", MEANS)
def test_a_mean_keeps_a_constant_and_stays_between(name: str, rng: np.random.Generator) -> None:
    f = fast_jit(MEANS[name])
    value = jnp.asarray(rng.normal(size=4), "float32")
    y = f(jnp.broadcast_to(value, (2, 6, 8, 4)))
    np.testing.assert_allclose(y, jnp.broadcast_to(value, y.shape), **CLOSE)
    x = jnp.asarray(rng.normal(size=(2, 6, 8, 4)), "float32")
    y = f(x)
    assert float(x.min()) <= float(y.min()) <= float(y.max()) <= float(x.max())
