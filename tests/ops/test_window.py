"""The window arithmetic: sizes, taps and receptive fields are what counting finds; XLA counts the same FLOPs."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv.ops.window import Axis, axes
from tests.catalogue import lax_conv
from tests.oracles import Case, random_case, same_pads


def random_axes(count: int) -> list[tuple[Axis, int]]:
    """Windows of one axis with an input size each; they need not fit."""
    rng = np.random.default_rng(0)
    sizes = rng.integers((1, 1, 1, 0, 0, 1), (7, 5, 4, 5, 5, 20), (count, 6)).tolist()
    return [(Axis(*window), n) for *window, n in sizes]


def meetings(axis: Axis, n: int) -> list[list[int]]:
    """The input indices of each window's taps, window by window, for as long as one fits into the padded input."""
    windows, start = [], -axis.lo
    while start + (axis.kernel - 1) * axis.dilation <= n - 1 + axis.hi:
        windows.append([start + tap * axis.dilation for tap in range(axis.kernel)])
        start += axis.stride
    return windows


@pytest.mark.parametrize(("axis", "n"), [pytest.param(a, n, id=f"{a}, {n}") for a, n in random_axes(20)])
def test_one_axis_by_counting(axis: Axis, n: int) -> None:
    _check(axis, n)


def test_two_thousand_axes_by_counting() -> None:
    for axis, n in random_axes(2000):
        _check(axis, n)


def _check(axis: Axis, n: int) -> None:
    windows = meetings(axis, n)
    assert axis.output_size(n) == len(windows)
    assert axis.taps(n) == [sum(0 <= i < n for i in taps) for taps in windows]
    assert axis.valid_taps(n) == sum(axis.taps(n))
    for taps in windows:
        assert axis.extent == taps[-1] - taps[0] + 1


def test_ceil_adds_the_window_that_is_due() -> None:
    added = 0
    for axis, n in random_axes(2000):
        windows = len(meetings(axis, n))
        start = windows * axis.stride - axis.lo
        beyond = start + axis.extent - (n + axis.hi)
        due = beyond < axis.stride and start < n  # elements are left for it, and it begins before x ends
        ceiled = axis.ceil(n)
        assert ceiled == (axis._replace(over=beyond) if due else axis)
        assert ceiled.output_size(n) == windows + due
        assert ceiled.valid_taps(n) == sum(ceiled.taps(n))
        if windows + due:
            k, s, d, lo, hi, _ = axis
            assert axes((n,), k, stride=s, padding=[(lo, hi)], dilation=d, ceil_mode=True) == (ceiled,)
        added += due
    assert 100 < added < 1900


def test_a_wrong_count_is_noticed() -> None:
    class Dense(Axis):
        def valid_taps(self, n: int) -> int:
            return self.output_size(n) * self.kernel

    def check_all() -> None:
        for axis, n in random_axes(2000):
            _check(Dense(*axis), n)

    with pytest.raises(AssertionError):
        check_all()


def test_named_paddings_by_trying() -> None:
    for axis, n in random_axes(500):
        k, s, d = axis[:3]
        reach, same = (k - 1) * d, same_pads(n, k, s, d)
        for padding, pads in (
            ("SAME", same), ("same", same), ("SAME_LOWER", same[::-1]), ("CIRCULAR", same), ("REFLECT", same),
            ("CAUSAL", (reach, 0)), ([reach], (reach, reach)), ([(reach, 1)], (reach, 1)),
        ):  # fmt: skip
            assert axes((n,), k, stride=s, padding=padding, dilation=d) == (Axis(k, s, d, *pads),)
        if k % 2:
            assert axes((n,), k, dilation=d)[0].output_size(n) == n  # None keeps the size, as torch's padding does


def test_each_axis_has_its_own_window() -> None:
    window = axes((8, 9), (1, 3), stride=(2, 1), padding=((0, 1), (2, 3)), dilation=(1, 2))
    assert window == (Axis(1, 2, 1, 0, 1), Axis(3, 1, 2, 2, 3))
    assert axes((8, 9), 3, stride=2, padding=[1, 0]) == (Axis(3, 2, 1, 1, 1), Axis(3, 2, 1, 0, 0))


def flops(f, *args: jax.ShapeDtypeStruct) -> float:
    """What XLA counts before it optimises."""
    cost = jax.jit(f).lower(*args).cost_analysis()
    return dict(cost).get("flops", 0.0)  # pyright: ignore[reportCallIssue, reportArgumentType]


def multiply_adds(case: Case) -> int:
    """The products of a case that touch no padding."""
    w = case.window
    sizes = case.x[1:-1]
    window = axes(sizes, w.kernel, stride=w.stride, padding=w.pads, dilation=w.dilation)
    taps = math.prod(axis.valid_taps(n) for axis, n in zip(window, sizes, strict=True))
    return case.x[0] * taps * case.kernel[-2] * case.kernel[-1]


@pytest.mark.parametrize("seed", range(60))
def test_xla_counts_the_valid_taps(seed: int) -> None:
    case = random_case(np.random.default_rng(seed))
    w = case.window
    f = partial(lax_conv, stride=w.stride, padding=w.pads, dilation=w.dilation, groups=case.groups)
    x, kernel = (jax.ShapeDtypeStruct(s, jnp.float32) for s in (case.x, case.kernel))
    right = 2 * multiply_adds(case)
    assert flops(f, x, kernel) == pytest.approx(right, rel=1e-6)
    y = jax.eval_shape(f, x, kernel)
    dx = lambda y, k: jax.linear_transpose(lambda x: f(x, k), x)(y)[0]  # noqa: E731
    dkernel = lambda x, y: jax.linear_transpose(lambda k: f(x, k), kernel)(y)[0]  # noqa: E731
    assert flops(dx, y, kernel) == pytest.approx(right, rel=1e-6)
    assert flops(dkernel, x, y) == pytest.approx(right, rel=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_a_fitted_axis_has_the_same_windows_and_leaves_nothing(seed: int) -> None:
    case = random_case(np.random.default_rng(seed))
    w = case.window
    for n, k, s, d, (lo, hi) in zip(case.x[1:-1], w.kernel, w.stride, w.dilation, w.pads, strict=True):
        axis = Axis(k, s, d, lo, hi)
        fitted = axis.fitted(n)
        assert fitted.taps(n) == axis.taps(n)
        assert fitted.hi <= hi and (n + lo + fitted.hi - axis.extent) % s == 0


def test_the_forums_example() -> None:
    """3 -> 6 channels, 3×3, stride 2, padding 1 on 4×4: 648 multiplications if padding is multiplied too."""
    axis = Axis(3, 2, 1, 1, 1)
    assert axis.output_size(4) == 2
    assert (axis.output_size(4) * axis.kernel) ** 2 * 3 * 6 == 648
    assert axis.valid_taps(4) ** 2 * 3 * 6 == 450  # 5 of 6 taps on each axis
    sizes = [28]
    for kernel in (5, 3, 3, 3):
        sizes.append(axes((sizes[-1],), kernel, stride=2)[0].output_size(sizes[-1]))
    assert sizes[1:] == [14, 7, 4, 2]


ERRORS = [
    ({"kernel": 0}, r"kernel: expected positive sizes, got 0"),
    ({"kernel": "3"}, r"kernel: expected an int or 2 ints, got '3'"),
    ({"kernel": (3, 3, 3)}, r"kernel: expected an int or 2 ints, one for each of the 2 spatial axes, got \(3, 3, 3\)"),
    ({"kernel": 3, "stride": -1}, r"stride: expected positive sizes, got -1"),
    ({"kernel": 3, "dilation": (2,)}, r"dilation: .* got \(2,\); write one number to mean all axes"),
    ({"kernel": 3, "padding": "SAME "}, r"padding: expected an int, pairs or one of SAME, .*, got 'SAME '"),
    ({"kernel": 3, "padding": [1, 2, 3]}, r"padding: expected an int or 2 ints"),
    ({"kernel": 3, "padding": [(1, 2)]}, r"padding: expected 2 pairs \(lo, hi\), one for each spatial axis"),
    ({"kernel": 3, "padding": [(1, 2), (1,)]}, r"padding: expected an int or 2 ints, .* got \(1,\)"),
    ({"kernel": 9, "padding": 1}, r"spatial axis 1: a window of 9 .* an input of 6 with padding \(1, 1\): .* least 7"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "message"), ERRORS)
def test_errors_say_what_was_expected(options: dict, message: str) -> None:
    settings: dict[str, Any] = {"padding": 0} | options
    with pytest.raises(ValueError, match=message):
        axes((8, 6), **settings)
