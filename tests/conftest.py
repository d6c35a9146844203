"""What every test has: strict dtype promotion, a random generator and a PRNG key."""

from collections.abc import Iterator

import jax
import numpy as np
import pytest


@pytest.fixture(autouse=True)
def _strict() -> Iterator[None]:
    """Mixed dtypes are an error: the library says every cast itself."""
    with jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers, the same in every run."""
    return np.random.default_rng(0)


@pytest.fixture
def key() -> jax.Array:
    """A PRNG key, the same in every run."""
    return jax.random.key(0)
