"""Normalisation as functions: the moments of a batch, and the affine map that uses them."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

__all__ = ["batch_norm", "moments"]


def moments(x: jax.Array, *, axis_name: str | None = None) -> tuple[jax.Array, jax.Array, int | jax.Array]:
    """Mean and biased variance of each channel, over every other axis, in at least float32.

    Args:
        x: (..., C).
        axis_name: a mapped axis (`jax.pmap`, `jax.vmap`, `jax.shard_map`) over which the batch is split.
            Under `jax.jit` with sharded arrays none is needed: the batch is whole there.

    Returns:
        mean (C,), variance (C,), and the number of elements each was taken over.
    """
    x = x.astype(np.promote_types(x.dtype, np.float32))
    axes = tuple(range(x.ndim - 1))
    n = x.size // x.shape[-1]
    mean = x.mean(axes)
    if axis_name is not None:
        mean, n = lax.pmean(mean, axis_name), n * lax.axis_size(axis_name)
    var = jnp.square(x - mean).mean(axes)
    if axis_name is not None:
        var = lax.pmean(var, axis_name)
    return mean, var, n


def batch_norm(
    x: jax.Array, mean: jax.Array, var: jax.Array, scale: jax.Array, bias: jax.Array, *, eps: float = 1e-5
) -> jax.Array:
    """`y = (x - mean) / sqrt(var + eps) * scale + bias`, computed in at least float32.

    Args:
        x: (..., C).
        mean, var, scale, bias: (C,).

    Returns:
        (..., C) in x's dtype.

    Example:
        >>> batch_norm(jnp.array([[1.0, 3.0]]), jnp.ones(2), jnp.ones(2), jnp.ones(2), jnp.zeros(2), eps=0.0)
        Array([[0., 2.]], dtype=float32)

    References:
        Ioffe & Szegedy 2015, arXiv:1502.03167, algorithm 1.
    """
    wide = x.astype(np.promote_types(x.dtype, np.float32))
    return ((wide - mean) * (scale * lax.rsqrt(var + eps)) + bias).astype(x.dtype)
