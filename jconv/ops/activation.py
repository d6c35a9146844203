"""Rectifiers whose derivative reads their output: their input need not be kept, nor be written at all."""

import jax
import jax.numpy as jnp
from jax import lax

__all__ = ["relu", "relu6"]


def relu(x: jax.Array) -> jax.Array:
    """`y = max(x, 0)`, with the derivative `y > 0`: 0 at 0, as `jax.nn.relu`.

    The gradient needs y alone, which the layer that follows keeps anyway; what came before, a normalisation say, can
    be computed in the same pass over memory and forgotten.

    Args:
        x: any shape.

    Returns:
        x's shape and dtype.

    Example:
        >>> relu(jnp.array([-1.0, 2.0]))
        Array([0., 2.], dtype=float32)

    References:
        Nair & Hinton 2010, "Rectified Linear Units Improve Restricted Boltzmann Machines", section 2.
    """
    return _relu(x)


def relu6(x: jax.Array) -> jax.Array:
    """`y = min(max(x, 0), 6)`, with the derivative `0 < y < 6`: 0 at both corners, where `jax.nn.relu6` has 1/2.

    Args:
        x: any shape.

    Returns:
        x's shape and dtype.

    Example:
        >>> relu6(jnp.array([-1.0, 2.0, 7.0]))
        Array([0., 2., 6.], dtype=float32)

    References:
        Howard et al. 2017, "MobileNets", arXiv:1704.04861; Krizhevsky 2010, "Convolutional Deep Belief Networks on
        CIFAR-10", section 3.
    """
    return _relu6(x)


@jax.custom_jvp
def _relu(x: jax.Array) -> jax.Array:
    return lax.max(x, lax.full_like(x, 0))


@_relu.defjvp
def _(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    y = _relu(*primals)
    return y, _where(y > 0, *tangents)


@jax.custom_jvp
def _relu6(x: jax.Array) -> jax.Array:
    return jnp.clip(x, 0, 6)


@_relu6.defjvp
def _(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    y = _relu6(*primals)
    return y, _where((y > 0) & (y < 6), *tangents)


def _where(mask: jax.Array, tangent: jax.Array) -> jax.Array:
    """The tangent where the mask is set, else 0; of both, the mask alone is kept."""
    return lax.select(mask, tangent, lax.full_like(tangent, 0))
