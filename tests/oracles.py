"""Oracles: what the operations mean, in naive float64 numpy, with window arithmetic of their own; `test_*` compare.

A window here is explicit: pairs (lo, hi) of padding, and one number for each spatial axis of everything else.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

Array = np.ndarray


class Window(NamedTuple):
    """A sliding window over `len(kernel)` spatial axes."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    mode: str = "constant"
    """What the border is filled with, as numpy names it."""

    def starts(self, axis: int, n: int) -> range:
        """Where on an axis of n, padded, each window starts: wherever its last tap is still inside."""
        last_tap = (self.kernel[axis] - 1) * self.dilation[axis]
        return range(0, sum(self.pads[axis]) + n - last_tap, self.stride[axis])

    def out(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """How many windows there are along each axis."""
        return tuple(len(self.starts(i, n)) for i, n in enumerate(sizes))

    def taps(self, sizes: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], tuple]]:
        """Each tap, and the index into the padded input (N, *spatial, C) of the elements that it meets."""
        for tap in np.ndindex(*self.kernel):
            offsets = [t * d for t, d in zip(tap, self.dilation, strict=True)]
            where = [[s + offset for s in self.starts(i, sizes[i])] for i, offset in enumerate(offsets)]
            yield tap, (slice(None), *np.ix_(*where))


def pad(x: Array, pads: tuple[tuple[int, int], ...], mode: str = "constant", fill: float = 0.0) -> Array:
    """(N, *spatial, C) in float64 with (lo, hi) elements more along each spatial axis."""
    options = {"constant_values": fill} if mode == "constant" else {}
    return np.pad(np.asarray(x, np.float64), [(0, 0), *pads, (0, 0)], mode, **options)  # pyright: ignore[reportCallIssue, reportArgumentType]


def unpad(padded: Array, sizes: tuple[int, ...], w: Window) -> Array:
    """The adjoint of `pad`: what lies on the border is added where it was taken from."""
    for axis, (n, (lo, hi)) in enumerate(zip(sizes, w.pads, strict=True), start=1):
        inside = np.zeros((*padded.shape[:axis], n, *padded.shape[axis + 1 :]))
        where = np.arange(-lo, n + hi) if w.mode == "constant" else np.pad(np.arange(n), (lo, hi), w.mode)  # pyright: ignore[reportCallIssue, reportArgumentType]
        taken = (where >= 0) & (where < n)
        np.add.at(inside, (*[slice(None)] * axis, where[taken]), np.compress(taken, padded, axis))  # pyright: ignore[reportArgumentType]
        padded = inside
    return padded


def conv(x: Array, kernel: Array, w: Window, groups: int = 1) -> Array:
    """The convolution, tap by tap and group by group."""
    sizes = x.shape[1:-1]
    padded, kernel = pad(x, w.pads, w.mode), np.asarray(kernel, np.float64)
    y = np.zeros((x.shape[0], *w.out(sizes), kernel.shape[-1]))
    for tap, where in w.taps(sizes):
        for c, f in blocks(x.shape[-1], kernel.shape[-1], groups):
            y[..., f] += padded[where][..., c] @ kernel[tap][:, f]
    return y


def conv_gradients(x: Array, kernel: Array, dy: Array, w: Window, groups: int = 1) -> tuple[Array, Array]:
    """d sum(y * dy) / dx and / dkernel: what each product in `conv` hands back."""
    sizes = x.shape[1:-1]
    padded, kernel, dy = pad(x, w.pads, w.mode), np.asarray(kernel, np.float64), np.asarray(dy, np.float64)
    dpadded, dkernel = np.zeros_like(padded), np.zeros_like(kernel)
    for tap, where in w.taps(sizes):
        for c, f in blocks(x.shape[-1], kernel.shape[-1], groups):
            back = np.zeros_like(padded[where])
            back[..., c] = dy[..., f] @ kernel[tap][:, f].T
            dpadded[where] += back  # a tap meets no element twice
            meets = padded[where][..., c].reshape(-1, kernel.shape[-2])
            dkernel[tap][:, f] = meets.T @ dy[..., f].reshape(len(meets), -1)
    return unpad(dpadded, sizes, w), dkernel


def blocks(channels: int, features: int, groups: int) -> Iterator[tuple[slice, slice]]:
    """The channels and the features of each group."""
    for g in range(groups):
        yield (
            slice(g * channels // groups, (g + 1) * channels // groups),
            slice(g * features // groups, (g + 1) * features // groups),
        )


def max_pool(x: Array, w: Window) -> Array:
    """The largest of each window's taps, where padding is minus infinity."""
    padded = pad(x, w.pads, fill=-np.inf)
    return np.max([padded[where] for _, where in w.taps(x.shape[1:-1])], axis=0)


def avg_pool(x: Array, w: Window, count_include_pad: bool = True) -> Array:
    """The sum of each window's taps over their number, or over the number of those inside x."""
    counted = pad(np.ones_like(x, np.float64), w.pads, fill=float(count_include_pad))
    padded, taps = pad(x, w.pads), [where for _, where in w.taps(x.shape[1:-1])]
    return np.sum([padded[t] for t in taps], axis=0) / np.sum([counted[t] for t in taps], axis=0)


def batch_norm(x: Array, scale: ArrayLike, bias: ArrayLike, eps: float) -> tuple[Array, Array, Array]:
    """The batch normalised by its own moments; its mean; its unbiased variance."""
    rows = np.asarray(x, np.float64).reshape(-1, x.shape[-1])
    y = (rows - rows.mean(0)) / np.sqrt(rows.var(0) + eps) * np.asarray(scale) + np.asarray(bias)
    return y.reshape(x.shape), rows.mean(0), rows.var(0, ddof=1)


def same_pads(n: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """The least padding for which ceil(n / stride) windows fit, found by trying; the odd element at the end."""
    total = next(
        t
        for t in range(n * stride + kernel * dilation + 1)
        if _windows(n + t, kernel, stride, dilation) >= -(-n // stride)
    )
    return total // 2, total - total // 2


def _windows(n: int, kernel: int, stride: int, dilation: int) -> int:
    return len(range(0, n - (kernel - 1) * dilation, stride))


NAMED = {"CIRCULAR": "wrap", "REFLECT": "reflect"}
PADDINGS = ("SAME", "SAME_LOWER", "VALID", "CAUSAL", *NAMED, None, 2)


def named_pads(padding: str | int | None, n: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """(lo, hi) of a padding that is no pairs, along an axis of n."""
    reach, same = (kernel - 1) * dilation, same_pads(n, kernel, stride, dilation)
    pads = {"SAME": same, "SAME_LOWER": same[::-1], "VALID": (0, 0), "CAUSAL": (reach, 0), "CIRCULAR": same}
    return {**pads, "REFLECT": same, None: (reach // 2, reach // 2), 2: (2, 2)}[padding]


class Case(NamedTuple):
    """One configuration of a convolution: shapes, window, groups; how the padding is spelled, if not as pairs."""

    x: tuple[int, ...]
    kernel: tuple[int, ...]
    window: Window
    groups: int
    padding: Any = "pairs"
    flip: bool = False
    transposed: bool = False
    """Reach the three arrays by way of the transposed convolution."""


ROUNDING = {"winograd4": 16}
"""Lowerings that state a bound of their own, in times the error of `lax`."""


def random_case(rng: np.random.Generator) -> Case:
    """A small convolution of any kind: 1 to 3 axes, asymmetric padding, even kernels, holes, groups, any batch."""
    rank = int(rng.integers(1, 4))

    def draw(low: int, high: int) -> tuple[int, ...]:
        return tuple(int(v) for v in rng.integers(low, high + 1, rank))

    groups = int(rng.choice([1, 1, 2, 3]))
    channels = groups * int(rng.integers(1, 4 if groups == 1 else 3))  # one channel a group is depthwise
    features = groups * int(rng.integers(1, 4 if groups == 1 else 3))
    kernel, stride, dilation = draw(1, {1: 5, 2: 3, 3: 2}[rank]), draw(1, 3), draw(1, 3)
    if groups == 1 and rng.random() < 0.2:  # the commonest of all
        kernel, stride, dilation = (3,) * rank, (1,) * rank, (1,) * rank
    if groups == 1 and rng.random() < 0.1:  # windows that do not overlap
        stride, dilation = kernel, (1,) * rank
    pads = tuple(zip(draw(0, 3), draw(0, 3), strict=True))
    least = [(k - 1) * d + 1 - sum(p) for k, d, p in zip(kernel, dilation, pads, strict=True)]
    sizes = tuple(max(1, n) + extra for n, extra in zip(least, draw(0, {1: 9, 2: 5, 3: 2}[rank]), strict=True))
    batch = int(rng.integers(1, 4))
    return Case(
        (batch, *sizes, channels),
        (*kernel, channels // groups, features),
        Window(kernel, stride, pads, dilation),
        groups,
    )


def varied(rng: np.random.Generator, case: Case) -> Case:
    """The case as it is, or with its padding by name, its kernel turned round, or as a transposed convolution."""
    w, kind = case.window, rng.choice(["plain", "plain", "named", "transposed"])
    if kind == "transposed":
        return case._replace(transposed=True)
    case = case._replace(flip=bool(rng.random() < 0.2))
    if kind == "plain":
        return case
    padding = PADDINGS[rng.integers(len(PADDINGS))]
    settings = list(zip(case.x[1:-1], w.kernel, w.stride, w.dilation, strict=True))
    sizes = [max(n, (k - 1) * d + 1) for n, k, _, d in settings]
    pads = tuple(named_pads(padding, n, *rest) for n, (_, *rest) in zip(sizes, settings, strict=True))
    window = w._replace(pads=pads, mode=NAMED.get(str(padding), "constant"))
    return case._replace(x=(case.x[0], *sizes, case.x[-1]), window=window, padding=padding)
