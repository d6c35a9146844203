"""Kernels that compose, factor and separate: naive oracles, what a convolution makes of them, known best errors."""

import itertools
import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv import conv
from jconv.ops import compose_kernels, factor_kernel, separate
from tests import oracles
from tests.catalogue import fast_jit
from tests.oracles import Window

CLOSE: dict[str, Any] = {"rtol": 1e-5, "atol": 5e-5}


def composed(a: np.ndarray, b: np.ndarray, s: tuple, d: tuple, d2: tuple, groups: int = 1) -> np.ndarray:
    """Every pair of taps, where it lands."""
    rank = a.ndim - 2
    extent = [d[i] * (a.shape[i] - 1) + s[i] * d2[i] * (b.shape[i] - 1) + 1 for i in range(rank)]
    out = np.zeros((*extent, a.shape[-2], b.shape[-1]))
    for t in np.ndindex(*a.shape[:rank]):
        for u in np.ndindex(*b.shape[:rank]):
            at = tuple(t[i] * d[i] + u[i] * d2[i] * s[i] for i in range(rank))
            for m, f in oracles.blocks(a.shape[-1], b.shape[-1], groups):
                out[at][:, f] += a[t][:, m] @ b[u][:, f]
    return out


def random_pair(rng: np.random.Generator) -> tuple[list[np.ndarray], dict[str, Any]]:
    rank = int(rng.integers(1, 4))

    def draw(low: int, high: int) -> tuple[int, ...]:
        return tuple(int(v) for v in rng.integers(low, high + 1, rank))

    groups = int(rng.choice([1, 1, 2]))
    c, m, f = (int(v) for v in rng.integers(1, 4, 3))
    kernels = [rng.normal(size=(*draw(1, 4 - rank), *ends)) for ends in ((c, m * groups), (m, f * groups))]
    return kernels, {"stride": draw(1, 3), "dilation": draw(1, 2), "second_dilation": draw(1, 2), "groups": groups}


@pytest.mark.parametrize("seed", range(2))
def test_composing_is_the_oracle(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pairs = [random_pair(rng) for _ in range(10)]

    @fast_jit
    def run(kernels: list) -> list[jax.Array]:
        return [compose_kernels(a, b, **options) for (a, b), (_, options) in zip(kernels, pairs, strict=True)]

    for (kernels, o), got in zip(pairs, run(jax.tree.map(jnp.float32, [ks for ks, _ in pairs])), strict=True):
        right = composed(kernels[0], kernels[1], o["stride"], o["dilation"], o["second_dilation"], o["groups"])
        np.testing.assert_allclose(got, right, err_msg=str(o), **CLOSE)


@pytest.mark.parametrize("seed", range(8))
def test_the_composed_kernel_does_what_the_two_do(seed: int) -> None:
    """In float64 numpy, with padding before the first, and any stride of the second."""
    rng = np.random.default_rng(seed)
    (a, b), o = random_pair(rng)
    rank, groups = a.ndim - 2, o["groups"]
    s2 = tuple(int(v) for v in rng.integers(1, 3, rank))
    pads = tuple((int(lo), int(hi)) for lo, hi in rng.integers(0, 3, (rank, 2)))
    none = ((0, 0),) * rank
    whole = np.asarray(compose_kernels(jnp.float32(a), jnp.float32(b), **o))
    x = rng.normal(size=(2, *(e + int(rng.integers(0, 6)) for e in whole.shape[:rank]), a.shape[-2] * groups))
    between = oracles.conv(x, a, Window(a.shape[:rank], o["stride"], pads, o["dilation"]), groups)
    right = oracles.conv(between, b, Window(b.shape[:rank], s2, none, o["second_dilation"]), groups)
    stride = tuple(i * j for i, j in zip(o["stride"], s2, strict=True))
    got = oracles.conv(x, whole, Window(whole.shape[:rank], stride, pads, (1,) * rank), groups)
    np.testing.assert_allclose(got, right, rtol=1e-4, atol=1e-4)


def test_a_wrong_composition_is_noticed(rng: np.random.Generator) -> None:
    a, b = rng.normal(size=(2, 3, 2, 4)), rng.normal(size=(3, 2, 4, 2))
    right = compose_kernels(jnp.float32(a), jnp.float32(b), stride=2)
    ones, twos = (1, 1), (2, 2)
    np.testing.assert_allclose(right, composed(a, b, twos, ones, ones), **CLOSE)
    assert not np.allclose(right, composed(a, b[::-1], twos, ones, ones), **CLOSE)
    assert not np.allclose(right, composed(a[..., ::-1], b, twos, ones, ones), **CLOSE)


def test_composing_is_associative_differentiable_and_keeps_dtypes(rng: np.random.Generator) -> None:
    kernels = [jnp.float32(rng.normal(size=(3, 2, 2))) for _ in range(3)]
    dk = jnp.float32(rng.normal(size=(5, 2, 2)))

    @fast_jit
    def run(a: jax.Array, b: jax.Array, c: jax.Array) -> tuple:
        ab, back = jax.vjp(compose_kernels, a, b)
        half = compose_kernels(a.astype(jnp.bfloat16), b)
        return compose_kernels(ab, c), compose_kernels(a, compose_kernels(b, c)), ab, back(dk), half

    left, right, ab, grads, half = run(*kernels)
    assert left.shape == (7, 2, 2)
    np.testing.assert_allclose(left, right, **CLOSE)
    for grad, kernel in zip(grads, kernels, strict=False):  # bilinear: each slope along itself is the value
        np.testing.assert_allclose(np.vdot(grad, kernel), np.vdot(dk, ab), rtol=1e-4)
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), ab, rtol=0.05, atol=0.1)


# Factors


def test_what_was_composed_is_factored_and_the_error_never_grows(rng: np.random.Generator) -> None:
    a, b = jnp.float32(rng.normal(size=(3, 2, 3, 2))), jnp.float32(rng.normal(size=(2, 3, 2, 2)))
    kernel = compose_kernels(a, b)
    factor = partial(factor_kernel, kernel, window=(3, 2), hidden=2, starts=4)
    errors = []
    for steps in (1, 2, 3, 5, 8, 12, 20, 40, 80, 160):
        (first, second), error = factor(key=jax.random.key(0), steps=steps)
        assert (first.shape, second.shape) == (a.shape, b.shape)
        again = np.linalg.norm(composed(np.asarray(first), np.asarray(second), (1, 1), (1, 1), (1, 1)) - kernel)
        np.testing.assert_allclose(error, again / np.linalg.norm(kernel), rtol=1e-3, atol=1e-6)
        errors.append(float(error))
    assert all(later <= earlier + 1e-6 for earlier, later in itertools.pairwise(errors))
    assert errors[0] > 1e-3
    assert errors[-1] < 1e-5
    same, other = (factor(key=jax.random.key(k), steps=2)[0][0] for k in (0, 1))
    np.testing.assert_array_equal(factor(key=jax.random.key(0), steps=2)[0][0], same)
    assert other.shape == same.shape


def test_the_best_factors_of_a_window_that_is_no_product() -> None:
    """1 + 0 z + z² has no real root: among products of two real lines none is nearer than 1 or z², at a distance of 1.

    With roots, 2 - 3 z + z² = (1 - z) (2 - z), it is a product.
    """
    factor = partial(factor_kernel, window=2, hidden=1, key=jax.random.key(0))
    _, error = factor(jnp.array([1.0, 0.0, 1.0]).reshape(3, 1, 1))
    np.testing.assert_allclose(error, 1 / math.sqrt(2), rtol=1e-3)
    (first, second), error = factor(jnp.array([2.0, -3.0, 1.0]).reshape(3, 1, 1))
    assert error < 1e-4
    roots = sorted(float(-k[0, 0, 0] / k[1, 0, 0]) for k in (first, second))
    np.testing.assert_allclose(roots, [1, 2], rtol=1e-3)


def test_enough_hidden_features_factor_anything(rng: np.random.Generator) -> None:
    """From min(prod(window) C, prod(second window) features) on, the start is the solution."""
    kernel = jnp.float32(rng.normal(size=(2, 3, 2, 1, 3)))
    f = fast_jit(partial(factor_kernel, window=(2, 2, 1), hidden=5, key=jax.random.key(0), steps=1, starts=1))
    (first, second), error = f(kernel)
    assert (first.shape, second.shape) == ((2, 2, 1, 1, 5), (1, 2, 2, 5, 3))
    assert error < 1e-5
    np.testing.assert_allclose(compose_kernels(first, second), kernel, rtol=1e-4, atol=1e-4)
    zeros, error = f(0 * kernel)
    assert error == 0
    assert np.isfinite(zeros[0]).all()


def test_factors_have_the_kernels_dtype() -> None:
    f = partial(factor_kernel, window=2, hidden=1, key=jax.random.key(0))
    (first, second), error = jax.eval_shape(f, jax.ShapeDtypeStruct((3, 3, 2, 2), jnp.bfloat16))
    assert (first.dtype, second.dtype, error.dtype) == (jnp.bfloat16, jnp.bfloat16, jnp.float32)


# Separation


def test_the_best_column_and_row_are_the_singular_vectors(rng: np.random.Generator) -> None:
    kernel = rng.normal(size=(5, 4, 3, 2))
    (column, row), error = fast_jit(separate)(jnp.float32(kernel))
    assert (column.shape, row.shape, error.shape) == ((5, 1, 3, 2), (1, 4, 3, 2), (3, 2))
    product = np.asarray(column * row)
    for pair in np.ndindex(3, 2):
        u, s, v = np.linalg.svd(kernel[(..., *pair)])
        np.testing.assert_allclose(product[(..., *pair)], s[0] * np.outer(u[:, 0], v[0]), **CLOSE)
        np.testing.assert_allclose(error[pair], np.sqrt(np.sum(s[1:] ** 2) / np.sum(s**2)), rtol=1e-4)
    one, of_one = separate(jnp.float32(kernel[..., 1, 1]))
    np.testing.assert_allclose(one[0] * one[1], product[..., 1, 1], **CLOSE)
    np.testing.assert_allclose(of_one, error[1, 1], rtol=1e-4)
    assert of_one > 0.1


WINDOWS = {
    "sobel": np.outer([1, 2, 1], [1, 0, -1]),
    "gaussian": np.exp(-0.3 * (np.arange(-3, 4)[:, None] ** 2 + np.arange(-2, 3) ** 2)),
    "box": np.ones((3, 5)),
    "zeros": np.zeros((3, 3)),
}
WINDOWS = {name: window.astype(np.float32) for name, window in WINDOWS.items()}


def test_windows_that_separate() -> None:
    for name, ((column, row), error) in fast_jit(partial(jax.tree.map, separate))(WINDOWS).items():
        assert error < 1e-6, name
        np.testing.assert_allclose(column * row, WINDOWS[name], atol=1e-6, err_msg=name)


def test_a_window_of_laplace_does_not_separate() -> None:
    laplace = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0.0]])
    s = np.linalg.svd(laplace, compute_uv=False)
    np.testing.assert_allclose(separate(jnp.float32(laplace))[1], np.linalg.norm(s[1:]) / np.linalg.norm(s), rtol=1e-5)


def test_a_column_and_then_a_row_convolve_as_their_product(rng: np.random.Generator) -> None:
    x, kernel = jnp.float32(rng.normal(size=(2, 8, 9, 3))), jnp.float32(rng.normal(size=(3, 5, 1, 3)))

    @fast_jit
    def run(x: jax.Array, kernel: jax.Array) -> tuple:
        (column, row), _ = separate(kernel)
        in_two = conv(conv(x, column, groups=3), row, groups=3)
        return in_two, conv(x, column * row, groups=3), compose_kernels(column, row, groups=3), column * row

    in_two, right, whole, product = run(x, kernel)
    np.testing.assert_allclose(in_two, right, **CLOSE)
    np.testing.assert_allclose(whole, product, **CLOSE)


def best_rank_one(t: np.ndarray, rng: np.random.Generator) -> float:
    """The least relative error of a product of three vectors, by the power method from many starts."""
    best = np.inf
    for _ in range(30):
        a, b, c = (rng.normal(size=n) for n in t.shape)
        for _ in range(100):
            a = np.einsum("ijk,j,k->i", t, b, c) / (b @ b * (c @ c))
            b = np.einsum("ijk,i,k->j", t, a, c) / (a @ a * (c @ c))
            c = np.einsum("ijk,i,j->k", t, a, b) / (a @ a * (b @ b))
        best = min(best, float(np.linalg.norm(t - np.einsum("i,j,k->ijk", a, b, c)) / np.linalg.norm(t)))
    return best


def test_three_axes_separate_exactly_or_nearly(rng: np.random.Generator) -> None:
    a, b, c = (rng.normal(size=n) for n in (3, 4, 2))
    kernel = np.stack([np.einsum("i,j,k->ijk", a, b, c), rng.normal(size=(3, 4, 2))], axis=-1)[..., None, :]
    factors, error = fast_jit(separate)(jnp.float32(kernel))
    assert [f.shape for f in factors] == [(3, 1, 1, 1, 2), (1, 4, 1, 1, 2), (1, 1, 2, 1, 2)]
    assert error.shape == (1, 2)
    assert error[0, 0] < 1e-6
    best = best_rank_one(kernel[..., 0, 1], rng)
    assert best - 1e-4 <= error[0, 1] <= math.sqrt(2) * best
    left = np.linalg.norm(np.asarray(kernel - math.prod(factors))[..., 0, 1])
    np.testing.assert_allclose(error[0, 1], left / np.linalg.norm(kernel[..., 0, 1]), rtol=1e-4)


def test_kernels_of_whole_numbers_have_factors_that_are_not() -> None:
    sobel = jnp.array([[1, 0, -1], [2, 0, -2], [1, 0, -1]])
    (column, row), _ = separate(sobel)
    np.testing.assert_allclose(column * row, sobel, atol=1e-6)
    (first, second), error = factor_kernel(sobel[..., None, None], window=2, hidden=4, key=jax.random.key(0))
    np.testing.assert_allclose(compose_kernels(first, second)[..., 0, 0], sobel, atol=1e-4)
    assert (column.dtype, first.dtype, error < 1e-4) == (jnp.float32, jnp.float32, True)


def test_separating_in_half_precision(rng: np.random.Generator) -> None:
    kernel = jnp.float32(rng.normal(size=(3, 3)))
    (column, row), error = separate(kernel.astype(jnp.bfloat16))
    assert (column.dtype, row.dtype, error.dtype) == (jnp.bfloat16, jnp.bfloat16, jnp.float32)
    (right_column, right_row), right = separate(kernel)
    np.testing.assert_allclose((column * row).astype(jnp.float32), right_column * right_row, rtol=0.05, atol=0.03)
    np.testing.assert_allclose(error, right, atol=0.01)


# Errors

KEY: dict[str, Any] = {"key": jax.random.key(0)}
ERRORS: dict[str, tuple[Any, tuple, dict, str]] = {
    "ranks": (compose_kernels, ((3, 2, 2), (3, 3, 2, 2)), {}, r"kernels: expected two of one rank.*\(3, 2, 2\) and"),
    "no window": (compose_kernels, ((2, 2), (2, 2)), {}, r"with 1 to 3 window axes, got shapes \(2, 2\)"),
    "channels": (compose_kernels, ((3, 2, 4), (3, 5, 2)), {}, r"second: a kernel of 4 features in 1 group\(s\) .*5, 2"),
    "groups": (compose_kernels, ((3, 2, 4), (3, 4, 2)), {"groups": 2}, r"second: .* in 2 group\(s\).*4 / 2"),
    "stride": (compose_kernels, ((3, 2, 4), (3, 4, 2)), {"stride": 0}, r"stride: expected positive sizes"),
    "bare": (factor_kernel, ((5, 5),), {"window": 3, "hidden": 1} | KEY, r"kernel: expected \(\*window, C, features\)"),
    "window": (factor_kernel, ((5, 3, 1, 1),), {"window": 4, "hidden": 1} | KEY, r"window: expected .* \(5, 3\)"),
    "hidden": (factor_kernel, ((5, 1, 1),), {"window": 3, "hidden": 0} | KEY, r"hidden, steps, starts: .*hidden=0"),
    "one axis": (separate, ((5, 1, 1),), {}, r"kernel: expected \(height, width\).*got \(5, 1, 1\); a single window"),
    "four axes": (separate, ((2,) * 6,), {}, r"2 or 3 window axes, got \(2, 2, 2, 2, 2, 2\)"),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_errors_say_what_was_expected(name: str) -> None:
    f, shapes, options, message = ERRORS[name]
    with pytest.raises(ValueError, match=message):
        f(*map(jnp.zeros, shapes), **options)
