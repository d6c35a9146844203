"""Flattened CNN: a window in parts is one window of rank 1, and starts with values of the size of its input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv.layers import Conv, Dropout, Sequential
from jconv.models import flattened_cnn
from jconv.models.flattened import FEATURES, RATES
from tests.catalogue import fast_jit
from tests.models.shapes import abstract, maps


def test_sizes() -> None:
    sizes = {"act1": (32, 32, 96), "act2": (16, 16, 128), "act3": (8, 8, 256), "pool3": (4, 4, 256)}
    for sets in (0, 1, 2):
        assert maps(flattened_cnn(sets=sets), 1, 32, 32, 3) == sizes | {"value": (10,)}
    assert maps(flattened_cnn(width=1 / 8, num_classes=0), 1, 16, 24, 1)["value"] == (256,)


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("sets", [1, 2, 3])
def test_a_window_costs_its_edges(sets: int, kernel: int) -> None:
    params, _, _ = abstract(flattened_cnn(sets=sets, kernel=kernel), 1, 32, 32, 3)
    channels = 3
    for i, features in enumerate(FEATURES, 1):
        size = sum(p.size for p in jax.tree.leaves(params[f"conv{i}"]))
        parts = [(c + 2 * kernel) * features + 3 * features for c in [channels] + [features] * (sets - 1)]  # and biases
        assert size == sum(parts)
        channels = features


def test_a_part_is_a_window_of_rank_one(rng: np.random.Generator, key: jax.Array) -> None:
    """The impulse response of one set: for each feature a product of vectors, so every unfolding has rank 1."""
    net = flattened_cnn(sets=1, width=1 / 16)
    window = net["conv1"]
    impulses = jnp.zeros((3, 9, 9, 3)).at[jnp.arange(3), 4, 4, jnp.arange(3)].set(1.0)
    params, _ = window.init(key, impulses)
    y = np.asarray(fast_jit(lambda x: window.apply(params, {}, x)[0])(impulses))  # (channel, rows, columns, feature)
    for feature in range(y.shape[-1]):
        cube = y[:, 2:7, 2:7, feature]
        assert np.abs(cube).min() > 0
        for axis in range(3):
            values = np.linalg.svd(np.moveaxis(cube, axis, 0).reshape(cube.shape[axis], -1), compute_uv=False)
            assert values[1] < 1e-5 * values[0]
    outside = y.copy()
    outside[:, 2:7, 2:7] = 0
    assert not outside.any()


def test_parts_start_with_values_of_the_size_of_their_input(rng: np.random.Generator, key: jax.Array) -> None:
    x = jnp.asarray(rng.normal(size=(2, 32, 32, 96)), "float32")
    window = flattened_cnn()["conv2"]
    y = fast_jit(lambda key, x: window.apply(*window.init(key, x), x)[0])(key, x)
    assert 0.2 < np.std(y) < 2
    again = Sequential(window=window).update(Conv, kernel_init=Conv(1, 1).kernel_init)  # as a Conv starts
    y = fast_jit(lambda key, x: again.apply(*again.init(key, x), x)[0])(key, x)
    assert np.std(y) < 0.01


def test_dropout_is_where_the_rates_say() -> None:
    drops = {path: layer.rate for path, layer in flattened_cnn().walk() if isinstance(layer, Dropout)}
    names = ("image", "pool1", "pool2", "pool3", "fc1", "fc2")
    assert drops == {f"drop_{name}": rate for name, rate in zip(names, RATES, strict=True)}
    assert not any(isinstance(layer, Dropout) for _, layer in flattened_cnn(dropout=False).walk())


def test_fewer_sets_than_none() -> None:
    with pytest.raises(ValueError, match=r"sets: expected a whole number, 0 or more, got -1"):
        flattened_cnn(sets=-1)
