"""Keys: another for each time that a layer draws, and known ones within a program."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jconv.layers import BatchNorm, Composite, Conv, Dropout, Layer, Linear, Sequential


def test_a_layer_that_runs_twice_draws_twice(key: jax.Array) -> None:
    """And so do two layers at one path; the first numbers are those of a layer that runs once."""

    @dataclasses.dataclass(frozen=True, repr=False)
    class Twice(Composite):
        layer: Layer

        def wire(self, run, x):
            return jnp.stack([run("layer", x), run("layer", x)])

    x = jnp.ones((100, 100))
    once, again = Twice(Dropout(0.5)).apply({}, {}, x, train=True, key=key)[0]
    np.testing.assert_array_equal(once, Sequential(layer=Dropout(0.5)).apply({}, {}, x, train=True, key=key)[0])
    y, _ = Sequential(_a=Dropout(0.5), _b=Dropout(0.5)).apply({}, {}, x, train=True, key=key)
    for masked in (once * again, y):
        assert set(np.unique(masked)) == {0, 4}
        assert abs(float((masked > 0).mean()) - 1 / 4) < 0.02


def test_a_known_key_within_a_program(key: jax.Array) -> None:
    """Shapes, or the same numbers, as of a key that the program is given."""
    for layer in (Linear(8), Conv(8, 3), Sequential(Conv(8, 3), BatchNorm())):
        x = jax.ShapeDtypeStruct((1, 8, 8, 4), jnp.float32)
        params, _ = layer.init(key, x)
        within, _ = jax.jit(lambda layer=layer, x=x: layer.init(key, x))()
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), within, params)
        shapes, _ = jax.eval_shape(lambda layer=layer, x=x: layer.init(key, x))
        assert jax.tree.map(jnp.shape, shapes) == jax.tree.map(jnp.shape, params)
