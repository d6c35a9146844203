"""Adaptive pooling: numpy over the bins, and torch, in value and gradient; even bins are plain pools."""

import itertools
from fractions import Fraction
from math import ceil, floor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv.ops import adaptive_avg_pool, adaptive_max_pool, avg_pool, global_avg_pool, global_max_pool, max_pool
from jconv.ops.window import bins
from tests.by_torch import by_torch
from tests.catalogue import fast_jit

CLOSE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5}
CASES = [  # (spatial sizes, size): fewer, as many and more outputs than inputs, even and uneven
    *(((n,), (m,)) for n, m in ((5, 3), (7, 5), (8, 4), (3, 3), (2, 5), (11, 4), (1, 3))),
    *((s, m) for s, m in (((7, 6), (3, 3)), ((5, 9), (2, 4)), ((3, 8), (6, 8)))),
    ((4, 5, 3), (3, 2, 2)),
]


def pooled(x: np.ndarray, size: tuple[int, ...], reduce) -> np.ndarray:
    """Every bin by itself, with ends in exact arithmetic."""
    y = np.zeros((x.shape[0], *size, x.shape[-1]))
    for index in np.ndindex(*size):
        where = [
            slice(floor(Fraction(i * n, m)), ceil(Fraction((i + 1) * n, m)))
            for i, n, m in zip(index, x.shape[1:-1], size, strict=True)
        ]
        y[:, *index] = reduce(x[:, *where], axis=tuple(range(1, x.ndim - 1)))
    return y


def test_values_and_gradients(rng: np.random.Generator) -> None:
    xs = [rng.permutation(4 * np.prod(n)).reshape(2, *n, 2) / 10 - 1 for n, _ in CASES]
    dys = [rng.normal(size=(2, *m, 2)) for _, m in CASES]

    def all_cases(xs: list, dys: list) -> list:
        found = []
        for (_, size), x, dy in zip(CASES, xs, dys, strict=True):
            for f in (adaptive_avg_pool, adaptive_max_pool):
                y, back = jax.vjp(lambda x, f=f, size=size: f(x, size=size), x)
                found.append((y, back(dy)[0]))
        return found

    f32 = [[jnp.asarray(a, "float32") for a in arrays] for arrays in (xs, dys)]
    found = iter(fast_jit(all_cases)(*f32))
    for (sizes, size), x, dy in zip(CASES, xs, dys, strict=True):
        for kind, reduce in (("avg", np.mean), ("max", np.max)):
            y, dx = next(found)
            note = f"{kind} of {sizes} to {size}"
            np.testing.assert_allclose(y, pooled(x, size, reduce), err_msg=note, **CLOSE)
            name = f"adaptive_{kind}_pool{len(size)}d"
            right = by_torch(lambda torch, x: getattr(torch.nn.functional, name)(x, size), x, dy)  # noqa: B023
            np.testing.assert_allclose(y, right[0], err_msg=note, **CLOSE)
            np.testing.assert_allclose(dx, right[1], err_msg=note, **CLOSE)


def test_a_wrong_answer_is_noticed(rng: np.random.Generator) -> None:
    x = rng.normal(size=(1, 5, 2))
    right = pooled(x, (3,), np.mean)
    disjoint = np.stack([x[:, a:b].mean(1) for a, b in ((0, 2), (2, 4), (4, 5))], axis=1)
    reversed_bins = pooled(x[:, ::-1], (3,), np.mean)
    for wrong in (disjoint, reversed_bins, pooled(x, (3,), np.max)):
        assert wrong.shape == right.shape
        assert not np.allclose(wrong, right, **CLOSE)


def test_bins_cover_the_axis_evenly() -> None:
    for n, m in itertools.product(range(1, 12), range(1, 12)):
        windows = bins(n, m)
        assert {i for start, stop in windows for i in range(start, stop)} == set(range(n))
        lengths = {stop - start for start, stop in windows}
        assert max(lengths) - min(lengths) <= (n % m > 0)
        assert [(n - stop, n - start) for start, stop in reversed(windows)] == windows  # symmetric


def test_even_bins_are_a_plain_pool_and_one_bin_is_global(rng: np.random.Generator) -> None:
    x = jnp.asarray(rng.normal(size=(2, 6, 8, 3)), "float32")
    np.testing.assert_array_equal(adaptive_avg_pool(x, size=(3, 2)), avg_pool(x, (2, 4)))
    np.testing.assert_array_equal(adaptive_max_pool(x, size=(3, 2)), max_pool(x, (2, 4)))
    np.testing.assert_allclose(adaptive_avg_pool(x, size=1)[:, 0, 0], global_avg_pool(x), **CLOSE)
    np.testing.assert_array_equal(adaptive_max_pool(x, size=1)[:, 0, 0], global_max_pool(x))
    np.testing.assert_allclose(adaptive_avg_pool(x, size=(6, 8)), x, **CLOSE)


@pytest.mark.parametrize("f", [adaptive_avg_pool, adaptive_max_pool])
def test_dtypes_and_errors(f, rng: np.random.Generator) -> None:
    x = jnp.asarray(rng.normal(size=(2, 5, 7, 3)), "bfloat16")

    def run(x: jax.Array) -> tuple:
        return f(x, size=3), f(x.astype("float32"), size=3), jax.vmap(lambda x: f(x[None], size=3)[0])(x)

    y, wide, alone = fast_jit(run)(x)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(y, wide.astype("bfloat16"))  # one rounding, at the end
    np.testing.assert_array_equal(alone, y)
    for size, message in (
        (0, r"size: expected positive sizes, got 0"),
        ((2, 2, 2), r"size: expected an int or 2 ints, one for each of the 2 spatial axes, got \(2, 2, 2\)"),
        (2.5, r"size: expected an int or 2 ints, got 2.5"),
    ):
        with pytest.raises(ValueError, match=message):
            f(x, size=size)
    with pytest.raises(ValueError, match=r"x: expected \(N, W, C\), .* got shape \(7, 3\)"):
        f(x[0, 0], size=1)
    with pytest.raises(ValueError, match=r"x: expected a floating-point array, got int32"):
        f(jnp.zeros((1, 5, 3), "int32"), size=1)
