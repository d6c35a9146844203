"""JAX's random numbers, the same ones, by a program that CPUs compile and run fast.

Threefry-2x32 is twenty rounds of add, rotate and xor (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2,
3", section 4.2). For a CPU `jax.random` makes a loop of them, with the rotations as variables, and XLA does not
vectorise it: 65,536 normal numbers take 12 to 17 ns each, and half a second to compile. In a straight line they take 6
to 10 ns and 0.2 s (`python -m benchmarks.startup`). Where few numbers are drawn the loop compiles faster, so dropout
keeps it.
"""

import math
from collections.abc import Hashable
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

__all__ = ["unrolled"]

NAME = "threefry2x32"
ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = np.uint32(0x1BD11BDA)


def unrolled(key: jax.Array) -> jax.Array:
    """The key that gives the same numbers faster; itself where it is of another generator than JAX's default.

    Example:
        >>> key = jax.random.key(0)
        >>> bool((jax.random.normal(unrolled(key), (3,)) == jax.random.normal(key, (3,))).all())
        True
    """
    if str(jax.random.key_impl(key)) != NAME or not jax.config.jax_threefry_partitionable:  # pyright: ignore[reportAttributeAccessIssue]
        return key
    return jax.random.wrap_key_data(jax.random.key_data(key), impl=_implementation())


@cache
def _implementation() -> Hashable:
    from jax.extend.random import define_prng_impl

    def theirs(key: jax.Array) -> jax.Array:
        return jax.random.wrap_key_data(key, impl=NAME)

    return define_prng_impl(
        key_shape=(2,),
        seed=lambda seed: jax.random.key_data(jax.random.key(seed, impl=NAME)),
        split=lambda key, shape: jax.random.key_data(jax.random.split(theirs(key), shape)),
        fold_in=lambda key, data: jax.random.key_data(jax.random.fold_in(theirs(key), data)),
        random_bits=_bits,
        name=f"{NAME}_unrolled",
        tag="fryu",
    )


def _bits(key: jax.Array, width: int, shape: tuple[int, ...]) -> jax.Array:
    """Random integers of 8, 16, 32 or 64 bits: `jax.random.bits`, whose counter is an element's place in the array."""
    if math.prod(shape) >= 1 << 32:
        raise ValueError(f"shape: expected less than 2**32 elements, got {shape}; draw them in parts")
    place = lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)
    high, low = _threefry(key[0], key[1], jnp.zeros_like(place), place)
    if width == 64:
        return high.astype(jnp.uint64) << 32 | low.astype(jnp.uint64)
    return (high ^ low).astype(f"uint{width}")


def _threefry(k0: jax.Array, k1: jax.Array, x0: jax.Array, x1: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The block (x0, x1) under the key (k0, k1), all uint32."""
    keys = k0, k1, k0 ^ k1 ^ PARITY  # what follows is traced a hundred operations at a time: lax is quicker at it
    x0, x1 = lax.add(x0, k0), lax.add(x1, k1)
    for i in range(5):
        for r in ROTATIONS[i % 2]:
            x0 = lax.add(x0, x1)
            x1 = lax.bitwise_or(lax.shift_left(x1, np.uint32(r)), lax.shift_right_logical(x1, np.uint32(32 - r)))
            x1 = lax.bitwise_xor(x0, x1)
        x0, x1 = lax.add(x0, keys[(i + 1) % 3]), lax.add(x1, keys[(i + 2) % 3] + np.uint32(i + 1))
    return x0, x1
