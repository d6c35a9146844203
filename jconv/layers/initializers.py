"""How a kernel starts: `initializer(key, shape) -> float32 array`, shape = (*window, C_in / groups, features).

Random numbers are drawn in blocks of one size, because XLA compiles a generator anew for every shape: in a ResNet-50
that would take longer than all else.
"""

import dataclasses
import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from jconv.layers.threefry import unrolled

__all__ = ["Constant", "Initializer", "Normal", "fan_in_uniform", "fans", "he_normal", "lecun_normal", "ones", "zeros"]

Initializer = Callable[[jax.Array, tuple[int, ...]], jax.Array]

BLOCK = 1 << 16
ALIGNED = 64  # bytes


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """(fan in, fan out) of a kernel: inputs that one output sums over, outputs of all groups times window."""
    window = math.prod(shape[:-2])
    return window * shape[-2], window * shape[-1]


def he_normal(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Normal with variance `2 / fan_out`, which keeps the gradient's variance through ReLUs.

    He et al. 2015, arXiv:1502.01852, equation 14.
    """
    return _draw(jax.random.normal, key, shape, math.sqrt(2 / fans(shape)[1]))


def lecun_normal(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Normal with variance `1 / fan_in`, which keeps the values' variance through layers without an activation.

    LeCun et al. 1998, "Efficient BackProp", section 4.6.
    """
    return _draw(jax.random.normal, key, shape, math.sqrt(1 / fans(shape)[0]))


def fan_in_uniform(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Uniform in `±1 / sqrt(fan_in)`: what torch's Linear starts from, after LeCun et al. 1998, section 4.6."""
    return _draw(_symmetric, key, shape, 1 / math.sqrt(fans(shape)[0]))


def zeros(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """All zeros."""
    return _constant(0.0, key, shape)


def ones(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """All ones."""
    return _constant(1.0, key, shape)


@dataclasses.dataclass(frozen=True)
class Constant:
    """All of one value."""

    value: float

    def __call__(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return _constant(self.value, key, shape)


@dataclasses.dataclass(frozen=True)
class Normal:
    """Normal with this standard deviation and mean 0.

    0.02 is what DCGAN, transformers and ConvNeXt start from; torch's `trunc_normal_(std=0.02)` cuts at 100 deviations,
    which is the same. Radford et al. 2015, arXiv:1511.06434, section 4.
    """

    deviation: float

    def __call__(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return _draw(jax.random.normal, key, shape, self.deviation)


def _symmetric(key: jax.Array, shape: tuple[int, ...], dtype: type) -> jax.Array:
    return jax.random.uniform(key, shape, dtype, -1.0, 1.0)


@partial(jax.jit, static_argnums=0)
def _block(sampler: Callable, key: jax.Array, i: int | jax.Array) -> jax.Array:
    return sampler(unrolled(jax.random.fold_in(key, i)), (BLOCK,), jnp.float32)  # with 64 bits enabled too


def _draw(sampler: Callable, key: jax.Array, shape: tuple[int, ...], scale: float) -> jax.Array:
    size = math.prod(shape)
    count = -(-size // BLOCK)
    first = key if isinstance(key, Tracer) or not count else _block(sampler, key, 0)
    if isinstance(first, Tracer):  # of a key that is not known, or of a known one within a program
        drawn = lax.map(partial(_block, sampler, key), jnp.arange(count)).reshape(-1)
        return drawn[:size].reshape(shape) * np.float32(scale)
    drawn = _empty(size)
    for i, block in enumerate([first, *(_block(sampler, key, i) for i in range(1, count))][:count]):
        part = drawn[i * BLOCK : (i + 1) * BLOCK]
        np.multiply(np.asarray(block)[: part.size], np.float32(scale), out=part)
    return jax.device_put(drawn.reshape(shape))


def _empty(size: int) -> np.ndarray:
    """Float32 numbers to be written, where XLA's CPU arrays may begin: it takes them over without a copy."""
    memory = np.empty(4 * size + ALIGNED, np.uint8)
    start = -memory.ctypes.data % ALIGNED
    return memory[start : start + 4 * size].view(np.float32)


def _constant(value: float, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    if isinstance(key, Tracer):
        return jnp.full(shape, value, jnp.float32)
    return jax.device_put(np.full(shape, value, np.float32))  # no program to compile
