"""Where float32 and float64 differ about the sign of a rectified value, and what that does to the input gradient.

python -m tests.models.signs resnet26d resnetblur50 regnety_004

Rounding decides a value of the size of its own error either way, and a ReLU then passes a gradient or does not. For
each image: how many rectified values have another sign, and the largest difference of its gradient over the largest
value.
"""

import argparse
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jconv import models, weights
from jconv.layers import Activation
from jconv.weights.names import needs
from tests.catalogue import fast_jit
from tests.models.parity import jit, noise, tensor


class Signs(NamedTuple):
    """Of each image, between float32 and float64.

    Args:
        flipped: rectified values of another sign.
        gradient: the largest difference of the input gradient, over the largest value of all.
        values: how many rectified values an image has.
    """

    flipped: np.ndarray
    gradient: np.ndarray
    values: int


def signs(net: models.Network, shape: tuple[int, ...], seed: int = 0) -> Signs:
    """Computed of the weights and images that the tests of parity have."""
    like = jax.eval_shape(net.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))
    tensors = {name: tensor(name, size, seed) for name, size in needs(*like).items()}
    x = noise("x", shape, seed).astype(np.float32)
    paths = [path for path, layer in net.walk() if isinstance(layer, Activation)]

    def squares(x: jax.Array, params: dict, state: dict) -> jax.Array:
        return (net.apply(params, state, x)[0] ** 2).sum()

    def rectified(x: jax.Array, params: dict, state: dict) -> dict[str, jax.Array]:
        return net.outputs(params, state, x, paths)[0]

    def computed(dtype: type) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        with jax.enable_x64(dtype == np.float64):
            params, state = jax.tree.map(lambda a: jnp.asarray(a, dtype), weights.from_torch(tensors, *like))
            arrays = jnp.asarray(x, dtype), params, state
            return jax.tree.map(np.asarray, (jit(jax.grad(squares))(*arrays), fast_jit(rectified)(*arrays)))

    (narrow, here), (wide, there) = computed(np.float32), computed(np.float64)
    flipped = sum(((here[path] > 0) != (there[path] > 0)).reshape(len(x), -1).sum(-1) for path in paths)
    gradient = np.abs(narrow - wide).reshape(len(x), -1).max(-1) / np.abs(wide).max()
    return Signs(np.asarray(flipped), gradient, sum(a[0].size for a in here.values()))


def main() -> None:
    """Compute, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", help="as jconv.models.list() has them")
    parser.add_argument("--shape", type=int, nargs=4, default=(4, 64, 48, 3), metavar=("N", "H", "W", "C"))
    o = parser.parse_args()
    for name in o.names:
        found = signs(models.create(name, num_classes=10), tuple(o.shape))
        print(f"{name}: {found.values:,} rectified values an image")
        for i, (flipped, error) in enumerate(zip(found.flipped, found.gradient, strict=True)):
            print(f"  image {i}: {flipped} of another sign, gradient {error:.1e}")


if __name__ == "__main__":
    main()
