"""Normalisation as layers: of a batch, an example, groups, neighbouring channels, and of a convolution's kernel."""

import dataclasses
import math
from dataclasses import KW_ONLY

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jconv import ops
from jconv.layers.base import Layer, Params, State
from jconv.layers.initializers import Initializer, ones, zeros
from jconv.layers.parametric import Conv
from jconv.layers.simple import Function
from jconv.ops.norm import ghosts, moments
from jconv.ops.padding import check_floating

__all__ = ["BatchNorm", "GroupNorm", "LayerNorm", "LocalResponseNorm", "StandardizedConv"]


@dataclasses.dataclass(frozen=True)
class BatchNorm(Layer):
    """`y = (x - mean) / sqrt(var + eps) * scale + bias` for each channel.

    In training, mean and (biased) variance are the batch's, over all axes but the last, and the running ones in the
    state move towards them: `running = (1 - momentum) * running + momentum * batch`, with the unbiased variance, as
    torch does. In evaluation they are the running ones. Everything is computed in float32 or better.

    Args:
        momentum: how far the running statistics move in a step.
        eps: added to the variance.
        scale_init: `ones`, or `zeros` for the last BatchNorm of a residual branch.
        axis_name: the mapped axis (`jax.pmap`, `jax.shard_map`) that splits the batch, if one does. Under `jax.jit`
            with sharded arrays the batch is whole, and none is needed.
        ghost: examples in a ghost batch. In training each is normalised by its own moments, and the running statistics
            move once for each, in order; None is the whole batch. Devices then share the running statistics alone.
        frozen: in training too the running statistics normalise, and they stay: for layers that are not to learn.

    Parameters: scale, bias (C,). State: mean, var (C,). All float32.

    References:
        Ioffe & Szegedy 2015, arXiv:1502.03167, algorithms 1 and 2. Ghost batches: Hoffer, Hubara & Soudry 2017,
        arXiv:1705.08741, algorithm 1.
    """

    _: KW_ONLY
    momentum: float = 0.1
    eps: float = 1e-5
    scale_init: Initializer = ones
    axis_name: str | None = None
    ghost: int | None = None
    frozen: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.momentum <= 1:
            raise ValueError(f"momentum: expected a part of the way, 0 to 1, got {self.momentum}")
        if not self.eps >= 0:
            raise ValueError(f"eps: expected 0 or more, got {self.eps}")

    def init(self, key: jax.Array, x: jax.Array | jax.ShapeDtypeStruct) -> tuple[Params, State]:
        """Scale and bias, and the running statistics of a standard normal."""
        shape = (x.shape[-1],)
        check_floating(x)
        return _affine(self.scale_init, key, x), {"mean": zeros(key, shape), "var": ones(key, shape)}

    def apply(
        self, params: Params, state: State, x: jax.Array, *, train: bool = False, key: jax.Array | None = None
    ) -> tuple[jax.Array, State]:
        """(..., C) -> (..., C)."""
        _check_channels(params, x)
        if self.frozen or not train:
            return ops.batch_norm(x, state["mean"], state["var"], **_own(params), eps=self.eps), state
        if self.ghost is not None:
            return self._by_ghosts(params, state, ghosts(x, size=self.ghost))
        mean, var, n = moments(x, axis_name=self.axis_name)
        y = ops.batch_norm(x, mean, var, **_own(params), eps=self.eps)
        batch = {"mean": mean, "var": lax.mul(var, _unbiased(n))}
        return y, {name: self._moved(state[name], new) for name, new in batch.items()}

    def _moved(self, old: jax.Array, new: jax.Array) -> jax.Array:
        """A running statistic after a step towards a batch's."""
        wide = lax.convert_element_type(old, new.dtype)
        moved = lax.add(wide, lax.mul(float(self.momentum), lax.sub(new, wide)))
        return lax.convert_element_type(moved, old.dtype)

    def _by_ghosts(self, params: Params, state: State, x: jax.Array) -> tuple[jax.Array, State]:
        """(ghosts, examples, ..., C) -> (N, ..., C), and the running statistics after a step for each ghost."""
        mean, var = jax.vmap(lambda x: moments(x)[:2])(x)
        y = jax.vmap(lambda *ghost: ops.batch_norm(*ghost, **_own(params), eps=self.eps))(x, mean, var)
        batch = {"mean": mean, "var": var * _unbiased(math.prod(x.shape[1:-1]))}
        if self.axis_name is not None:
            batch = lax.pmean(batch, self.axis_name)
        ages = np.arange(len(x), -1, -1)[:, None]  # steps after the state, and after each ghost
        kept = np.float32(1 - self.momentum) ** ages

        def moved(old: jax.Array, new: jax.Array) -> jax.Array:
            return (kept[0] * old + jnp.sum(self.momentum * kept[1:] * new, axis=0)).astype(old.dtype)

        return y.reshape(-1, *x.shape[2:]), {name: moved(state[name], new) for name, new in batch.items()}


@dataclasses.dataclass(frozen=True)
class LayerNorm(Layer):
    """`y = (x - mean) / sqrt(var + eps) * scale + bias` over the channels of each position: `jconv.ops.layer_norm`.

    Args:
        spatial: take the moments over the spatial axes too, so over each example.
        eps: added to the variance.
        scale_init: as in `BatchNorm`.

    Parameters: scale, bias (C,), float32.

    References:
        Ba, Kiros & Hinton 2016, arXiv:1607.06450. Liu et al. 2022, "A ConvNet for the 2020s", arXiv:2201.03545.
    """

    _: KW_ONLY
    spatial: bool = False
    eps: float = 1e-5
    scale_init: Initializer = ones

    def init(self, key: jax.Array, x: jax.Array | jax.ShapeDtypeStruct) -> tuple[Params, State]:
        """Scale and bias for x's channels."""
        return _affine(self.scale_init, key, x), {}

    def apply(
        self, params: Params, state: State, x: jax.Array, *, train: bool = False, key: jax.Array | None = None
    ) -> tuple[jax.Array, State]:
        """(N, ..., C) -> (N, ..., C)."""
        _check_channels(params, x)
        return ops.layer_norm(x, **_own(params), spatial=self.spatial, eps=self.eps), state


@dataclasses.dataclass(frozen=True)
class GroupNorm(Layer):
    """`y = (x - mean) / sqrt(var + eps) * scale + bias` over groups of channels: `jconv.ops.group_norm`.

    Args:
        groups: groups of channels, 1 to C.
        eps: added to the variance.
        scale_init: as in `BatchNorm`.

    Parameters: scale, bias (C,), float32.

    References:
        Wu & He 2018, arXiv:1803.08494.
    """

    groups: int
    _: KW_ONLY
    eps: float = 1e-5
    scale_init: Initializer = ones

    def init(self, key: jax.Array, x: jax.Array | jax.ShapeDtypeStruct) -> tuple[Params, State]:
        """Scale and bias for x's channels."""
        return _affine(self.scale_init, key, x), {}

    def apply(
        self, params: Params, state: State, x: jax.Array, *, train: bool = False, key: jax.Array | None = None
    ) -> tuple[jax.Array, State]:
        """(N, ..., C) -> (N, ..., C)."""
        _check_channels(params, x)
        return ops.group_norm(x, **_own(params), groups=self.groups, eps=self.eps), state


@dataclasses.dataclass(frozen=True)
class LocalResponseNorm(Function):
    """Each channel damped by its neighbours' activity: `jconv.ops.local_response_norm`."""

    _: KW_ONLY
    size: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 2.0

    def __call__(self, x: jax.Array) -> jax.Array:
        return ops.local_response_norm(x, **vars(self))


@dataclasses.dataclass(frozen=True)
class StandardizedConv(Conv):
    """A `Conv` whose kernel is standardised before it meets x: `jconv.ops.standardize_kernel`.

    Args:
        scaled: divide the kernel by the root of its fan-in too, so that the variance of x is kept.
        eps: added to the kernel's variance.

    References:
        Qiao et al. 2019, arXiv:1903.10520. Scaled: Brock, De & Smith 2021, arXiv:2101.08692.
    """

    _: KW_ONLY
    scaled: bool = False
    eps: float = 1e-6

    def effective_kernel(self, params: Params) -> jax.Array:
        """The standardised kernel."""
        return ops.standardize_kernel(params["kernel"], scaled=self.scaled, eps=self.eps)


def _own(params: Params) -> Params:
    """What is this layer's, where it stands at its parent's path and other layers' are beside it."""
    return {name: params[name] for name in ("scale", "bias")}


def _unbiased(n: int | jax.Array) -> float | jax.Array:
    """`n / (n - 1)`: a biased variance of n numbers times this is the unbiased one."""
    if isinstance(n, int):
        return n / max(n - 1, 1)
    wide = jnp.asarray(n).astype(jnp.float32)
    return wide / jnp.maximum(wide - 1, 1)


def _affine(scale_init: Initializer, key: jax.Array, x: jax.Array | jax.ShapeDtypeStruct) -> Params:
    return {"scale": scale_init(key, (x.shape[-1],)), "bias": zeros(key, (x.shape[-1],))}


def _check_channels(params: Params, x: jax.Array) -> None:
    if x.shape[-1:] != params["scale"].shape:
        raise ValueError(f"x: expected {params['scale'].shape[0]} channels in the last axis, got shape {x.shape}")
