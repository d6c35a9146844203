"""The unrolled generator gives JAX's own numbers, bit for bit."""

from collections.abc import Callable

import jax
import numpy as np
import pytest

from jconv.layers.initializers import BLOCK, he_normal
from jconv.layers.threefry import unrolled

DRAWS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "normal": lambda key: jax.random.normal(key, (3, 5)),
    "uniform": lambda key: jax.random.uniform(key, (7,), minval=-1.0),
    "scalar": lambda key: jax.random.normal(key, ()),
    "none": lambda key: jax.random.normal(key, (0, 3)),
    "bernoulli": lambda key: jax.random.bernoulli(key, 0.3, (4, 4)),
    "permutation": lambda key: jax.random.permutation(key, 10),
    "split": lambda key: jax.random.bits(jax.random.split(key, 3)[1], (2,)),
    "folded": lambda key: jax.random.bits(jax.random.fold_in(key, 4), (2,)),
    **{
        f"{width} bits": lambda key, width=width: jax.random.bits(key, (33,), f"uint{width}")
        for width in (8, 16, 32, 64)
    },
}


@pytest.mark.parametrize(("name", "wide"), [(n, w) for n in DRAWS for w in (False, True) if w or n != "64 bits"])
def test_the_same_numbers(name: str, wide: bool, rng: np.random.Generator) -> None:
    draw, seed = DRAWS[name], int(rng.integers(1 << 31))
    with jax.enable_x64(wide):
        for key in (jax.random.key(seed), jax.random.PRNGKey(seed)):
            right = draw(key)
            for found in (draw(unrolled(key)), jax.jit(lambda key: draw(unrolled(key)))(key)):
                assert found.dtype == right.dtype
                np.testing.assert_array_equal(found, right)


def test_a_batch_of_keys() -> None:
    def draw(key: jax.Array) -> jax.Array:
        return jax.random.normal(key, (3,))

    keys = jax.random.split(jax.random.key(1), 5)
    right = jax.vmap(draw)(keys)
    np.testing.assert_array_equal(jax.vmap(lambda key: draw(unrolled(key)))(keys), right)
    np.testing.assert_array_equal(jax.lax.map(lambda key: draw(unrolled(key)), keys), right)


def test_other_generators_are_left_alone() -> None:
    key = jax.random.key(0, impl="rbg")
    assert unrolled(key) is key
    key = jax.random.key(0)
    with jax.threefry_partitionable(False):
        assert unrolled(key) is key


def test_a_counter_of_32_bits() -> None:
    draw = jax.jit(lambda key: jax.random.bits(unrolled(key), (1 << 16, 1 << 16)))
    with pytest.raises(ValueError, match=r"shape: expected less than 2\*\*32 elements, got \(65536, 65536\)"):
        draw.lower(jax.random.key(0))


def test_a_kernel_starts_from_jaxs_numbers() -> None:
    key, shape = jax.random.key(2), (3, 3, 8, 16)
    drawn = jax.random.normal(jax.random.fold_in(key, 0), (BLOCK,))[: 3 * 3 * 8 * 16].reshape(shape)
    np.testing.assert_allclose(he_normal(key, shape), drawn * np.sqrt(2 / (9 * 16)), rtol=1e-6)
