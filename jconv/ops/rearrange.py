"""Rearrangements: space into channels and back, and channels among groups. Nothing is computed."""

import math
from collections.abc import Sequence

import jax

from jconv.ops.padding import check_input
from jconv.ops.sharding import automatic, split
from jconv.ops.window import per_axis, whole

__all__ = ["channel_shuffle", "depth_to_space", "space_to_depth"]

ORDERS = ("block", "channel")


def space_to_depth(x: jax.Array, *, block: int | Sequence[int], order: str = "block") -> jax.Array:
    """Every block of positions as the channels of one position.

        y[n, i, j, (u b + v) C + c] = x[n, i b + u, j b + v, c]   for a block of b×b

    Args:
        x: (N, *spatial, C).
        block: positions along each axis, an int for all axes or one for each; it divides x's sizes.
        order: what is outermost in the new channels: "block", (row, column, channel), as in TensorFlow; or "channel",
            (channel, row, column), as in torch's `pixel_unshuffle`.

    Returns:
        (N, *(spatial / block), prod(block) * C).

    Raises:
        ValueError: a block that is not positive or does not divide x's sizes, an unknown order.

    Example:
        >>> x = jax.numpy.arange(8.0).reshape(1, 2, 2, 2)
        >>> space_to_depth(x, block=2).ravel()
        Array([0., 1., 2., 3., 4., 5., 6., 7.], dtype=float32)
        >>> space_to_depth(x, block=2, order="channel").ravel()
        Array([0., 2., 4., 6., 1., 3., 5., 7.], dtype=float32)

    References:
        Shi et al. 2016, arXiv:1609.05158, section 2.2, of which this is the inverse.
    """
    b = _block(x, block, order)
    n, *sizes, channels = x.shape
    if any(size % step for size, step in zip(sizes, b, strict=True)):
        raise ValueError(f"block: expected sizes that divide x's {tuple(sizes)}, got {block}; pad or crop x first")
    out = [size // step for size, step in zip(sizes, b, strict=True)]
    pairs = [number for pair in zip(out, b, strict=True) for number in pair]
    outer, inner = (list(range(first, 2 * len(b) + 1, 2)) for first in (1, 2))
    last = 2 * len(b) + 1
    depth = [*inner, last] if order == "block" else [last, *inner]
    return _moved(x, (n, *pairs, channels), (0, *outer, *depth), (n, *out, math.prod(b) * channels))


def depth_to_space(x: jax.Array, *, block: int | Sequence[int], order: str = "block") -> jax.Array:
    """The channels of every position as a block of positions: the inverse of `space_to_depth`.

        y[n, i b + u, j b + v, c] = x[n, i, j, (u b + v) C + c]   for a block of b×b and C channels in y

    With order "channel" this is torch's `pixel_shuffle`, the sub-pixel convolution's rearrangement.

    Args:
        x: (N, *spatial, prod(block) * C).
        block, order: as in `space_to_depth`.

    Returns:
        (N, *(spatial * block), C).

    Raises:
        ValueError: a block that is not positive or whose product does not divide x's channels, an unknown order.

    Example:
        >>> depth_to_space(jax.numpy.arange(4.0).reshape(1, 1, 1, 4), block=2)[0, ..., 0]
        Array([[0., 1.],
               [2., 3.]], dtype=float32)

    References:
        Shi et al. 2016, arXiv:1609.05158, section 2.2, equation 4.
    """
    b = _block(x, block, order)
    n, *sizes, channels = x.shape
    if channels % math.prod(b):
        raise ValueError(
            f"block: expected {math.prod(b)} positions, the product of {b}, to divide x's {channels} channels"
        )
    features, rank = channels // math.prod(b), len(b)
    depth = (*b, features) if order == "block" else (features, *b)
    first, last = (rank + 1, 2 * rank + 1) if order == "block" else (rank + 2, rank + 1)
    pairs = [axis for i in range(rank) for axis in (1 + i, first + i)]
    out = [size * step for size, step in zip(sizes, b, strict=True)]
    return _moved(x, (n, *sizes, *depth), (0, *pairs, last), (n, *out, features))


def channel_shuffle(x: jax.Array, *, groups: int) -> jax.Array:
    """The channels dealt out anew, so that each group of the next convolution sees every group of the last.

        y[..., i g + j] = x[..., j (C / g) + i]   for g groups

    Args:
        x: (N, *spatial, C).
        groups: how many groups the channels are in; it divides C.

    Returns:
        (N, *spatial, C). `channel_shuffle(y, groups=C // groups)` is x again.

    Raises:
        ValueError: groups that are not positive or do not divide x's channels.

    Example:
        >>> channel_shuffle(jax.numpy.arange(6.0).reshape(1, 1, 6), groups=2).ravel()
        Array([0., 3., 1., 4., 2., 5.], dtype=float32)

    References:
        Zhang et al. 2017, "ShuffleNet", arXiv:1707.01083, section 3.1 and figure 1.
    """
    check_input(x)
    channels = x.shape[-1]
    meaning = f"a positive number that divides x's {channels} channels"
    if channels % (groups := whole("groups", groups, meaning)):
        raise ValueError(f"groups: expected {meaning}, got {groups}")
    order = (*range(x.ndim - 1), x.ndim, x.ndim - 1)
    return _moved(x, (*x.shape[:-1], groups, channels // groups), order, x.shape)


def _moved(x: jax.Array, parts: Sequence[int], order: Sequence[int], shape: Sequence[int]) -> jax.Array:
    """x taken apart, its parts in another order, and put together again."""
    return automatic(lambda x: x.reshape(parts).transpose(order).reshape(shape), x, out=lambda: split(x))


def _block(x: jax.Array, block: int | Sequence[int], order: str) -> tuple[int, ...]:
    check_input(x)
    if order not in ORDERS:
        raise ValueError(f"order: expected one of {', '.join(map(repr, ORDERS))}, got {order!r}")
    return per_axis("block", block, x.ndim - 2, least=1)
