"""Pooling: one number for each window and channel."""

import itertools
import math
from collections.abc import Iterator, Sequence
from functools import partial, reduce

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jconv.ops.padding import check_input, place
from jconv.ops.sharding import automatic, split
from jconv.ops.window import Axis, Padding

__all__ = ["avg_pool", "global_avg_pool", "global_max_pool", "l2_pool", "max_pool"]


def max_pool(
    x: jax.Array,
    kernel: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    padding: Padding = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
) -> jax.Array:
    """The largest value in each window; padding never wins.

    Args:
        x: (N, *spatial, C).
        kernel, stride, padding, dilation: as in `jconv.conv`; stride None is the kernel.
        ceil_mode: round the output's sizes up instead of down: the elements that are left at the end of x get a window
            of their own, cut off where the padding ends, unless it would begin in the padding. As in torch.

    Returns:
        (N, *out, C).

    Raises:
        ValueError: a window that does not fit x, or that would lie in padding alone; an unknown padding.

    Example:
        >>> max_pool(jnp.arange(16.0).reshape(1, 4, 4, 1), 2).ravel()
        Array([ 5.,  7., 13., 15.], dtype=float32)
        >>> max_pool(jnp.arange(5.0).reshape(1, 5, 1), 2, ceil_mode=True).ravel()
        Array([1., 3., 4.], dtype=float32)
    """
    x, window = _place(x, kernel, stride, padding, dilation, ceil_mode)
    _check_taps(x.shape[1:-1], window)
    if math.prod(a.kernel for a in window) > FEW and all(a.dilation == 1 for a in window):
        return _reduce(x, window, _lowest(x), lax.max)
    return automatic(lambda x: _largest(x, window), x, out=lambda: split(x))


def avg_pool(
    x: jax.Array,
    kernel: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> jax.Array:
    """The mean of each window, summed in at least float32.

    Args:
        x: (N, *spatial, C).
        kernel, stride, padding: as in `jconv.conv`; stride None is the kernel.
        ceil_mode: as in `max_pool`.
        count_include_pad: divide by the window's size (torch's default), or else by the number of real inputs in it.
            What a window of `ceil_mode` has beyond the padding is not counted in either.

    Returns:
        (N, *out, C) in x's dtype.

    Raises:
        ValueError: as `max_pool`; a window in padding alone has a mean, 0, if padding is counted.

    Example:
        >>> avg_pool(jnp.arange(16.0).reshape(1, 4, 4, 1), 2).ravel()
        Array([ 2.5,  4.5, 10.5, 12.5], dtype=float32)
    """
    check_input(x)
    wide, window = _place(_widen(x), kernel, stride, padding, 1, ceil_mode)
    sizes = wide.shape[1:-1]
    if not count_include_pad:
        _check_taps(sizes, window)
    total = _reduce(wide, window, 0.0, lax.add)
    return (total / _counts(sizes, window, count_include_pad).astype(total.dtype)).astype(x.dtype)


def l2_pool(
    x: jax.Array,
    kernel: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> jax.Array:
    """The root mean square of each window: `y = sqrt(mean(x²))`.

    torch's `lp_pool` with norm 2 has the sum in place of the mean: it is `sqrt(prod(kernel))` times this.
    A window of zeros, where the root has no derivative, hands back a gradient of 0, which is a subgradient, and not
    the chain rule's `inf * 0`.

    Args:
        x: (N, *spatial, C).
        kernel, stride, padding, ceil_mode, count_include_pad: as in `avg_pool`.

    Returns:
        (N, *out, C) in x's dtype.

    Raises:
        ValueError: as `avg_pool`.

    Example:
        >>> l2_pool(jnp.array([3.0, 4.0, 0.0, 0.0]).reshape(1, 4, 1), 2).ravel()
        Array([3.535534, 0.      ], dtype=float32)

    References:
        Sermanet, Chintala & LeCun 2012, "Convolutional Neural Networks Applied to House Numbers Digit Classification",
        arXiv:1204.3968, on Lp pooling.
    """
    check_input(x)
    mean = avg_pool(
        jnp.square(_widen(x)),
        kernel,
        stride=stride,
        padding=padding,
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
    )
    positive = mean > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, mean, 1)), 0).astype(x.dtype)


def global_avg_pool(x: jax.Array) -> jax.Array:
    """The mean over all spatial axes: (N, *spatial, C) -> (N, C). Lin et al. 2013, arXiv:1312.4400, section 3.2."""
    check_input(x)
    return jnp.mean(x, tuple(range(1, x.ndim - 1)))


def global_max_pool(x: jax.Array) -> jax.Array:
    """The largest value over all spatial axes: (N, *spatial, C) -> (N, C). Oquab et al. 2015, CVPR, section 3."""
    check_input(x)
    return jnp.max(x, tuple(range(1, x.ndim - 1)))


def _place(
    x: jax.Array,
    kernel: int | Sequence[int],
    stride: int | Sequence[int] | None,
    padding: Padding,
    dilation: int | Sequence[int],
    ceil_mode: bool,
) -> tuple[jax.Array, tuple[Axis, ...]]:
    check_input(x)
    stride = kernel if stride is None else stride
    return place(x, kernel, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode)


FEW = 64  # taps of a window, for each of which `_largest`'s gradient has operations of its own


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _largest(x: jax.Array, window: tuple[Axis, ...]) -> jax.Array:
    """The largest value in each window; its gradient goes to the first tap that has it.

    XLA's gradient on a CPU is a scatter with an index array for each axis of x: here it takes 2.5 times as long and 7
    times the memory of this one, which keeps a number for each output.
    """
    return _reduce(x, window, _lowest(x), lax.max)


@_largest.defjvp
def _(window: tuple[Axis, ...], primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    y = _largest(*primals, window)
    which = jnp.zeros(y.shape, np.int32)
    for i, read in reversed([*enumerate(_reads(*primals, window, _lowest(*primals)))]):
        which = jnp.where(read == y, i, which)
    return y, lax.select_n(which, *_reads(*tangents, window, 0))


def _reads(x: jax.Array, window: tuple[Axis, ...], fill: float) -> Iterator[jax.Array]:
    """What each tap reads, in row-major order: slices of x's phases of the stride, so that none of them strides."""
    out = [a.output_size(n) for n, a in zip(x.shape[1:-1], window, strict=True)]
    pads, shape = [(0, 0, 0)], [x.shape[0]]
    for n, m, a in zip(x.shape[1:-1], out, window, strict=True):
        blocks = -(-max(a.lo + n, (m - 1) * a.stride + a.extent) // a.stride)
        pads.append((a.lo, blocks * a.stride - a.lo - n, 0))
        shape += [blocks, a.stride]
    phases = {(): lax.pad(x, np.array(fill, x.dtype), [*pads, (0, 0, 0)]).reshape(*shape, x.shape[-1])}
    for dim, a in zip(itertools.count(2, 2), window):
        split = {at: lax.split(phase, [1] * a.stride, dim) for at, phase in phases.items()}
        phases = {(*at, r): part for at, parts in split.items() for r, part in enumerate(parts)}
    for tap in itertools.product(*(range(a.kernel) for a in window)):
        starts, at = zip(*(divmod(t * a.dilation, a.stride) for t, a in zip(tap, window, strict=True)), strict=True)
        index = itertools.chain(*((slice(start, start + m), 0) for start, m in zip(starts, out, strict=True)))
        yield phases[at][(slice(None), *index)]


def _lowest(x: jax.Array) -> float:
    """What is never larger than a number of x: minus infinity, where its dtype has one."""
    return -np.inf if np.isinf(np.array(np.inf, x.dtype)) else float(jnp.finfo(x.dtype).min)


def _widen(x: jax.Array) -> jax.Array:
    return x.astype(np.promote_types(x.dtype, np.float32))


def _reduce(x: jax.Array, window: tuple[Axis, ...], initial: float, combine) -> jax.Array:
    """XLA's reduction over windows, of which JAX has no gradient where there is a dilation."""

    def all_axes(of_axis) -> list:
        return [of_axis(a) for a in (Axis(1), *window, Axis(1))]

    return lax.reduce_window(
        x,
        np.array(initial, x.dtype),
        combine,
        window_dimensions=all_axes(lambda a: a.kernel),
        window_strides=all_axes(lambda a: a.stride),
        padding=all_axes(lambda a: (a.lo, a.hi + a.over)),
        window_dilation=all_axes(lambda a: a.dilation),
    )


def _counts(sizes: Sequence[int], window: tuple[Axis, ...], include_pad: bool) -> np.ndarray:
    """What each window's sum is divided by; it broadcasts against (N, *out, C)."""
    if include_pad:
        if not any(a.over for a in window):
            return np.array(math.prod(a.kernel for a in window))
        sizes = [n + a.lo + a.hi for n, a in zip(sizes, window, strict=True)]  # the padding is input like any other
        window = tuple(a._replace(lo=0, hi=0) for a in window)
    taps = [np.array(a.taps(n)) for n, a in zip(sizes, window, strict=True)]
    return reduce(np.multiply.outer, taps)[..., None]


def _check_taps(sizes: Sequence[int], window: tuple[Axis, ...]) -> None:
    for i, (n, a) in enumerate(zip(sizes, window, strict=True)):
        padded = isinstance(n, int) and max(a.lo, a.hi, a.over) > 0  # of a size without a number it cannot be told
        if padded and 0 in (taps := a.taps(n)):
            raise ValueError(
                f"padding: window {taps.index(0)} of spatial axis {i} (kernel {a.kernel}, stride {a.stride}, dilation "
                f"{a.dilation}, input {n}) lies in the padding ({a.lo}, {a.hi}) alone; pad by less than the kernel"
            )
