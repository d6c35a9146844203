"""Where the taps of a window read, and the slices of an array that they read: what every manual lowering is made of.

A convolution reads x at `p * stride + t * dilation - lo`. Its input gradient is a sum over the same pairs: position
`q * stride + r` takes, for each tap t of the phase r, that is with `stride` dividing `r + lo - t * dilation`, the
output at `q + (r + lo - t * dilation) / stride`. So one gradient is `stride` small convolutions, one for each phase,
interleaved; with stride 1 it is one. (Polyphase decomposition, Vaidyanathan 1990, section III.)
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jconv.ops.window import Axis

__all__ = ["Comb", "backward", "forward", "interleave", "of_kernel", "phases", "slices", "swapped"]


class Comb(NamedTuple):
    """Along one axis, output p is the sum over i of `input[p * stride + starts[i]] * kernel[taps[i]]`."""

    stride: int
    out: int
    starts: tuple[int, ...]
    taps: tuple[int, ...]


def forward(axis: Axis, n: int) -> list[Comb]:
    """How y reads x along an axis of n elements: one phase."""
    starts = tuple(t * axis.dilation - axis.lo for t in range(axis.kernel))
    return [Comb(axis.stride, axis.output_size(n), starts, tuple(range(axis.kernel)))]


def backward(axis: Axis, n: int) -> list[Comb]:
    """How the input gradient, along an axis of n elements, reads that of y: a phase for each residue of the stride."""
    found = []
    for r in range(axis.stride):
        pairs = [(divmod(r + axis.lo - t * axis.dilation, axis.stride), t) for t in range(axis.kernel)]
        hits = [(start, t) for (start, rest), t in pairs if not rest]
        found.append(Comb(1, -(-n // axis.stride), tuple(s for s, _ in hits), tuple(t for _, t in hits)))
    return found


def phases(axes: Sequence[list[Comb]]) -> list[tuple[Comb, ...]]:
    """Every combination of the axes' phases, in row-major order."""
    return list(itertools.product(*axes))


def swapped(kernel: jax.Array, groups: int) -> jax.Array:
    """(*window, channels, groups * features) -> (*window, features, groups * channels): the kernel that reads y."""
    *window, channels, features = kernel.shape
    by_group = kernel.reshape(*window, channels, groups, features // groups)
    return by_group.swapaxes(-1, -3).reshape(*window, features // groups, groups * channels)


def of_kernel(kernel: jax.Array, combs: Sequence[Comb]) -> jax.Array:
    """The part of a kernel that a phase multiplies by; its taps are evenly spaced along each axis."""
    low, high, step = [0] * kernel.ndim, list(kernel.shape), [1] * kernel.ndim
    for i, (*_, own) in enumerate(combs):
        low[i], high[i] = (own[0], own[-1] + 1) if own else (0, 0)
        step[i] = own[1] - own[0] if len(own) > 1 else 1
    return lax.slice(kernel, low, high, step)


def slices(x: jax.Array, combs: Sequence[Comb], first: int) -> list[jax.Array]:
    """What each tap reads, in row-major order; x's spatial axes begin at `first`; zeros lie beyond its borders."""
    pads, spans = [(0, 0, 0)] * x.ndim, []
    for i, comb in enumerate(combs, start=first):
        span = (comb.out - 1) * comb.stride + 1
        lo = max(0, -min(comb.starts, default=0))
        pads[i] = (lo, max(0, max(comb.starts, default=0) + span - x.shape[i]), 0)
        spans.append((lo, span))
    x = lax.pad(x, jnp.zeros((), x.dtype), pads)
    read = []
    for starts in itertools.product(*(c.starts for c in combs)):
        low, high, step = [0] * x.ndim, list(x.shape), [1] * x.ndim
        for i, (start, comb, (lo, span)) in enumerate(zip(starts, combs, spans, strict=True), start=first):
            low[i], high[i], step[i] = start + lo, start + lo + span, comb.stride
        read.append(lax.slice(x, low, high, step))
    return read


def interleave(parts: Sequence[jax.Array], counts: Sequence[int], sizes: Sequence[int], first: int) -> jax.Array:
    """One array from its phases: counts[i] phases along spatial axis i, cut to sizes[i]."""
    if len(parts) == 1:
        whole = parts[0]
    else:
        rank, shape = len(counts), parts[0].shape
        stacked = jnp.stack(parts).reshape(*counts, *shape)  # (phases..., lead..., spatial..., channels)
        order = list(range(rank, rank + first))
        for i in range(rank):
            order += [rank + first + i, i]
        whole = stacked.transpose(*order, *range(rank + first + rank, stacked.ndim)).reshape(
            *shape[:first],
            *(s * c for s, c in zip(shape[first : first + rank], counts, strict=True)),
            *shape[first + rank :],
        )
    limits = [*whole.shape]
    limits[first : first + len(sizes)] = sizes
    return lax.slice(whole, [0] * whole.ndim, limits)
