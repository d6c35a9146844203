"""Kernels that compose, factor and separate: which small convolutions are a large one."""

import math
import operator
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jconv.ops.conv import conv
from jconv.ops.lowerings.im2col import im2col
from jconv.ops.matrix import col2im
from jconv.ops.padding import LAYOUTS
from jconv.ops.window import per_axis

__all__ = ["compose_kernels", "factor_kernel", "separate"]

Pair = tuple[jax.Array, jax.Array]
LENGTHS = (0.0, 0.5, *(2.0**i for i in range(7)))  # how far a round may go on along its change, in changes


def compose_kernels(
    first: jax.Array,
    second: jax.Array,
    *,
    stride: int | Sequence[int] = 1,
    dilation: int | Sequence[int] = 1,
    second_dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> jax.Array:
    """The one kernel that does what two convolutions do, one after the other, with nothing between them.

        conv(conv(x, first, stride=s1, dilation=d1), second, stride=s2, dilation=d2) = conv(x, composed, stride=s1 * s2)

        composed[p, c, f] = sum_{t d1 + u d2 s1 = p, m} first[t, c, m] * second[u, m, f]

    The first may pad with zeros and the composed then pads as it does; the second may not, because where it pads the
    first has no output. Two 3×3 with nothing between them are one 5×5, which has 25 weights where they have 18: not
    every 5×5 is two 3×3 (`factor_kernel`).

    Args:
        first: (*window, C / groups, hidden).
        second: (*window, hidden / groups, features).
        stride: of the first convolution; the second's does not change the kernel.
        dilation: of the first convolution.
        second_dilation: of the second.
        groups: of both; channels and features are split as in `jconv.conv`.

    Returns:
        (*extent, C / groups, features), `extent = e1 + s1 (e2 - 1)` with `e = d (k - 1) + 1`, in first's dtype.

    Raises:
        ValueError: kernels that do not follow one another.

    Example:
        >>> compose_kernels(jnp.ones((3, 3, 4, 8)), jnp.ones((3, 3, 8, 2)), stride=2).shape
        (7, 7, 4, 2)

    References:
        Simonyan & Zisserman 2014, arXiv:1409.1556, section 2.3; Szegedy et al. 2015, arXiv:1512.00567, section 3.1.
    """
    first, second = jnp.asarray(first), jnp.asarray(second)
    rank = first.ndim - 2
    if rank not in LAYOUTS or second.ndim != first.ndim:
        raise ValueError(
            f"kernels: expected two of one rank, (*window, C, features) with 1 to 3 window axes, "
            f"got shapes {first.shape} and {second.shape}"
        )
    hidden = first.shape[-1]
    if groups < 1 or hidden % groups or second.shape[-1] % groups or second.shape[-2] * groups != hidden:
        raise ValueError(
            f"second: a kernel of {hidden} features in {groups} group(s) is followed by one of shape "
            f"(*window, {hidden} / {groups}, a multiple of {groups}), got {second.shape}"
        )
    s, d, d2 = (
        per_axis(name, value, rank, least=1)
        for name, value in (("stride", stride), ("dilation", dilation), ("second_dilation", second_dilation))
    )
    holes = lax.pad(first, jnp.zeros((), first.dtype), [*((0, 0, n - 1) for n in d), (0, 0, 0), (0, 0, 0)])
    step = tuple(map(operator.mul, s, d2))
    padding = [(n * (k - 1), n * (k - 1)) for n, k in zip(step, second.shape, strict=False)]
    with jax.default_matmul_precision("highest"):
        y = conv(jnp.moveaxis(holes, -2, 0), second, padding=padding, dilation=step, groups=groups, flip=True)
    return jnp.moveaxis(y, 0, -2)


def factor_kernel(
    kernel: jax.Array,
    *,
    window: int | Sequence[int],
    hidden: int,
    key: jax.Array,
    steps: int = 100,
    starts: int = 8,
) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
    """The two kernels, one after the other, that come nearest to one: the converse of `compose_kernels`.

        minimise || compose_kernels(first, second) - kernel ||

    For a fixed first kernel the best second is a least-squares problem, and the other way round; the two are solved in
    turn, and after each round both kernels go on along the line of their last change for as far as it helps. So the
    error never grows. The problem is not convex: rounds begin from several starts, and the best end is returned.

    A start is a matrix from (channel, tap of the first) to (tap of the second, feature), the one of least norm, and
    then ones that are random, among all whose sums along equal `t + u` are the kernel. Were its rank `hidden` it would
    be the solution; its singular vectors are the start.

    Args:
        kernel: (*extent, C, features).
        window: of the first kernel, an int for all axes or one for each; the second's is `extent - window + 1`.
        hidden: features of the first kernel and channels of the second. From `min(prod(window) C, prod(window of the
            second) features)` on, every kernel can be factored exactly.
        key: for the random starts; the result is a function of it.
        steps: rounds of least squares from each start.
        starts: how many.

    Returns:
        (first (*window, C, hidden), second (*, hidden, features)) in the kernel's dtype, float32 for whole numbers; and
        the relative error `|| composed - kernel || / || kernel ||`, a number.

    Raises:
        ValueError: a kernel without window, a window that is larger than the kernel.

    Example:
        >>> pair = jax.random.normal(jax.random.key(1), (2, 3, 3, 2, 2))
        >>> (first, second), error = factor_kernel(compose_kernels(*pair), window=3, hidden=2, key=jax.random.key(0))
        >>> first.shape, second.shape, bool(error < 1e-4)
        ((3, 3, 2, 2), (3, 3, 2, 2), True)

    References:
        Rajih, Comon & Harshman 2008, "Enhanced line search: a novel method to accelerate PARAFAC", SIAM J. Matrix Anal.
        Appl. 30(3), for the search along the line. Szegedy et al. 2015, arXiv:1512.00567, section 3.1.
    """
    kernel = jnp.asarray(kernel)
    rank, extent = kernel.ndim - 2, kernel.shape[:-2]
    if rank not in LAYOUTS:
        raise ValueError(f"kernel: expected (*window, C, features) with 1 to 3 window axes, got shape {kernel.shape}")
    w1 = per_axis("window", window, rank, least=1)
    w2 = tuple(e - w + 1 for e, w in zip(extent, w1, strict=True))
    if min(w2) < 1:
        raise ValueError(f"window: expected at most the kernel's {extent}, got {window!r}")
    if hidden < 1 or steps < 1 or starts < 1:
        raise ValueError(
            f"hidden, steps, starts: expected positive numbers, got hidden={hidden}, steps={steps}, starts={starts}"
        )
    target, dtype = _wide(kernel)
    (first, second), error = _factor(target, w1, w2, hidden, key, jnp.int32(steps), starts)
    return (first.astype(dtype), second.astype(dtype)), error


def separate(kernel: jax.Array) -> tuple[tuple[jax.Array, ...], jax.Array]:
    """The best split of a kernel into one vector for each axis: a column times a row.

        kernel ~ column * row,   || kernel - column * row || = sqrt(sigma_2^2 + sigma_3^2 + ...)

    with the singular values sigma of each spatial window. Sobel's and Gauss's windows separate exactly. With three axes
    one is split off after the other; the error is then at most sqrt(2) times the least.

    Args:
        kernel: (height, width), or (*window, C, features) with 2 or 3 window axes: then each window on its own.

    Returns:
        The factors, of shapes (height, 1, ...) and (1, width, ...), whose product has the kernel's shape and dtype,
        float32 for whole numbers; and the relative error of each window, a number or (C, features).

    Raises:
        ValueError: a kernel without two axes to separate.

    Example:
        >>> sobel = jnp.array([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]])
        >>> (column, row), error = separate(sobel)
        >>> column.shape, row.shape, bool(error < 1e-6), bool(jnp.allclose(column * row, sobel, atol=1e-6))
        ((3, 1), (1, 3), True, True)

    References:
        Eckart & Young 1936, "The approximation of one matrix by another of lower rank", Psychometrika 1. For three axes
        Vannieuwenhoven, Vandebril & Meerbergen 2012, "A new truncation strategy for the higher-order singular value
        decomposition", SIAM J. Sci. Comput. 34(2). Rigamonti et al. 2013, "Learning separable filters", CVPR.
    """
    kernel = jnp.asarray(kernel)
    rank = 2 if kernel.ndim == 2 else kernel.ndim - 2
    if rank not in (2, 3):
        raise ValueError(
            f"kernel: expected (height, width) or (*window, C, features) with 2 or 3 window axes, got {kernel.shape}; "
            f"a single window of 3 axes is kernel[..., None, None]"
        )
    window, pairs = kernel.shape[:rank], kernel.shape[rank:]
    target, dtype = _wide(kernel)
    target = target.reshape(*window, -1)
    rest, vectors = jnp.moveaxis(target, -1, 0), []
    for k in window[:-1]:
        u, s, v = jnp.linalg.svd(rest.reshape(len(rest), k, -1), full_matrices=False)
        root = jnp.sqrt(s[:, :1])
        vectors.append(u[:, :, 0] * root)
        rest = v[:, 0] * root
    shapes = [[k if i == j else 1 for j in range(rank)] for i, k in enumerate(window)]
    factors = [v.T.reshape(*shape, -1) for v, shape in zip([*vectors, rest], shapes, strict=True)]
    error = _relative(target - math.prod(factors), target, tuple(range(rank))).reshape(pairs)
    return tuple(f.reshape(*f.shape[:rank], *pairs).astype(dtype) for f in factors), error


@partial(jax.jit, static_argnames=("w1", "w2", "hidden", "starts"))
def _factor(
    target: jax.Array,
    w1: tuple[int, ...],
    w2: tuple[int, ...],
    hidden: int,
    key: jax.Array,
    steps: jax.Array,
    starts: int,
) -> tuple[Pair, jax.Array]:
    """Rounds from every start at once, and the pair with the least error."""
    with jax.default_matmul_precision("highest"):
        noise = jnp.minimum(jnp.arange(starts, dtype=target.dtype), 1)  # the first start has none
        pairs = jax.vmap(partial(_start, target, w1, w2, hidden))(jax.random.split(key, starts), noise)
        step = jax.vmap(partial(_round, target, w1, w2))
        pairs = lax.fori_loop(0, steps, lambda _, pairs: step(pairs), pairs)
        errors = jax.vmap(lambda first, second: _relative(target - compose_kernels(first, second), target))(*pairs)
        best = jnp.argmin(errors)
        return jax.tree.map(lambda a: a[best], (pairs, errors))


def _start(
    target: jax.Array, w1: tuple[int, ...], w2: tuple[int, ...], hidden: int, key: jax.Array, noise: jax.Array
) -> Pair:
    """Two kernels from the singular vectors of a matrix (C, *w1) × (*w2, features) that sums to the target."""
    lift, fold = partial(im2col, kernel=w2), partial(col2im, sizes=target.shape[:-2], kernel=w2)
    image = jnp.moveaxis(target, -2, 0)
    count = fold(lift(jnp.ones_like(image)))  # in how many ways a tap is one of each kernel's
    least = lift(image / count)
    random = noise * jnp.sqrt(jnp.mean(least**2)) * jax.random.normal(key, least.shape, least.dtype)
    matrix = least + random - lift(fold(random) / count)
    u, s, v = jnp.linalg.svd(matrix.reshape(len(image) * math.prod(w1), -1), full_matrices=False)
    missing = max(0, hidden - s.size)
    first = jnp.pad(u * jnp.sqrt(s), ((0, 0), (0, missing)))[:, :hidden]
    second = jnp.pad(v * jnp.sqrt(s)[:, None], ((0, missing), (0, 0)))[:hidden]
    first, second = first.reshape(len(image), *w1, hidden), second.reshape(hidden, *w2, target.shape[-1])
    return jnp.moveaxis(first, 0, -2), jnp.moveaxis(second, 0, -2)


def _round(target: jax.Array, w1: tuple[int, ...], w2: tuple[int, ...], pair: Pair) -> Pair:
    """The best second kernel, then the best first, then both along the line of their change."""
    second = _follower(target, pair[0], w2)
    first = _follower(target.mT, second.mT, w1).mT  # composed.mT is composed of second.mT and first.mT
    da, db = first - pair[0], second - pair[1]
    left = target - compose_kernels(first, second)
    slope = compose_kernels(da, second) + compose_kernels(first, db)
    curve = compose_kernels(da, db)
    lengths = jnp.array(LENGTHS, target.dtype)
    t = lengths[jnp.argmin(jax.vmap(lambda t: jnp.linalg.norm(left - t * slope - t**2 * curve))(lengths))]
    return first + t * da, second + t * db


def _follower(target: jax.Array, first: jax.Array, window: tuple[int, ...]) -> jax.Array:
    """The kernel that best completes the first one to the target: linear least squares."""
    hidden, features = first.shape[-1], target.shape[-1]
    unknowns = math.prod(window) * hidden
    columns = compose_kernels(first, jnp.eye(unknowns, dtype=first.dtype).reshape(*window, hidden, unknowns))
    solution, *_ = jnp.linalg.lstsq(columns.reshape(-1, unknowns), target.reshape(-1, features))
    return solution.reshape(*window, hidden, features)


def _wide(kernel: jax.Array) -> tuple[jax.Array, np.dtype]:
    """The kernel in at least float32, and the dtype of what is made of it."""
    dtype = kernel.dtype if jnp.issubdtype(kernel.dtype, jnp.floating) else np.dtype(np.float32)
    return kernel.astype(np.promote_types(dtype, np.float32)), dtype


def _relative(residual: jax.Array, target: jax.Array, axis: tuple[int, ...] | None = None) -> jax.Array:
    """|| residual || / || target ||, and 0 for a target of zeros."""
    size = jnp.sum(target**2, axis)
    return jnp.sqrt(jnp.sum(residual**2, axis) / jnp.where(size > 0, size, 1))
