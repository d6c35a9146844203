"""Anti-aliased sub-sampling: blur_pool is a convolution with the binomial filter, on axes of any length."""

import itertools
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv.ops import blur_pool, max_blur_pool, max_pool
from tests import oracles
from tests.by_torch import by_torch
from tests.catalogue import fast_jit
from tests.oracles import Window

CLOSE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5}
BINOMIAL = {1: [1], 2: [1, 1], 3: [1, 2, 1], 4: [1, 3, 3, 1], 5: [1, 4, 6, 4, 1], 7: [1, 6, 15, 20, 15, 6, 1]}


def blurred(x: np.ndarray, kernel: int, stride: int) -> np.ndarray:
    """Every axis reflected as numpy does it, filtered and sub-sampled."""
    row = np.array(BINOMIAL[kernel]) / sum(BINOMIAL[kernel])
    for dim in range(1, x.ndim - 1):
        pads = [(0, 0)] * x.ndim
        pads[dim] = ((kernel - 1) // 2, kernel // 2)
        padded = np.pad(x, pads, "reflect")
        filtered = np.apply_along_axis(lambda line, row=row: np.convolve(line, row, "valid"), dim, padded)
        x = filtered.take(range(0, filtered.shape[dim], stride), dim)
    return x


def test_blur_pool_is_the_oracle_on_axes_of_any_length(rng: np.random.Generator) -> None:
    cases = list(itertools.product([(1,), (2,), (3, 1), (9,), (2, 5), (1, 4, 2)], BINOMIAL, [1, 2, 3]))
    xs = [rng.normal(size=(2, *sizes, 2)) for sizes, _, _ in cases]

    def all_blurs(xs: list[jax.Array]) -> list[jax.Array]:
        return [blur_pool(x, kernel, stride=stride) for x, (_, kernel, stride) in zip(xs, cases, strict=True)]

    found = fast_jit(all_blurs)([jnp.asarray(x, "float32") for x in xs])
    for x, y, (sizes, kernel, stride) in zip(xs, found, cases, strict=True):
        assert y.shape[1:-1] == tuple(-(-n // stride) for n in sizes)
        np.testing.assert_allclose(y, blurred(x, kernel, stride), err_msg=f"{sizes}, {kernel}, {stride}", **CLOSE)


def test_a_wrong_blur_is_noticed(rng: np.random.Generator) -> None:
    x = rng.normal(size=(1, 8, 1))
    right = blurred(x, 3, 2)
    for wrong in (blurred(x[:, ::-1], 3, 2)[:, ::-1], blurred(x, 5, 2), x[:, ::2]):
        assert wrong.shape == right.shape
        assert not np.allclose(wrong, right, **CLOSE)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [2, 3, 4, 5])
def test_blur_pool_is_the_papers(rng: np.random.Generator, kernel: int, stride: int) -> None:
    """A reflection pad, then a depthwise convolution with the outer product."""
    x, dy = rng.normal(size=(2, 7, 8, 3)), rng.normal(size=(2, *(-(-n // stride) for n in (7, 8)), 3))
    row = np.array(BINOMIAL[kernel]) / sum(BINOMIAL[kernel])

    def f(torch, x):
        pads = ((kernel - 1) // 2, kernel // 2) * 2
        weights = torch.tensor(np.broadcast_to(np.outer(row, row), (3, 1, kernel, kernel)).copy())
        F = torch.nn.functional
        return F.conv2d(F.pad(x, pads, "reflect"), weights, stride=stride, groups=3)

    def both(x: jax.Array, dy: jax.Array) -> tuple:
        y, back = jax.vjp(partial(blur_pool, kernel=kernel, stride=stride), x)
        return y, back(dy)[0]

    for got, right in zip(
        fast_jit(both)(*(jnp.asarray(a, "float32") for a in (x, dy))), by_torch(f, x, dy), strict=True
    ):
        np.testing.assert_allclose(got, right, **CLOSE)


@pytest.mark.parametrize("kernel", [3, 5])
def test_an_output_lies_where_it_is_sampled(kernel: int) -> None:
    """A straight line stays one, away from the borders, with the same value at the same place."""
    line = jnp.arange(12.0).reshape(1, 12, 1)
    np.testing.assert_allclose(blur_pool(line, kernel)[0, 1:-1, 0], [2, 4, 6, 8], **CLOSE)


def test_each_axis_has_its_own_kernel(rng: np.random.Generator) -> None:
    x = jnp.asarray(rng.normal(size=(1, 6, 7, 2)), "float32")

    def both(x: jax.Array) -> tuple:
        one_by_one = blur_pool(blur_pool(x, (5, 1), stride=(2, 1)), (1, 2), stride=(1, 3))
        return blur_pool(x, (5, 2), stride=(2, 3)), one_by_one

    np.testing.assert_allclose(*fast_jit(both)(x), **CLOSE)


def test_blur_pool_keeps_a_constant(rng: np.random.Generator) -> None:
    value = jnp.asarray(rng.normal(size=4), "float32")
    for shape in ((1, 9, 4), (2, 1, 6, 4), (1, 3, 4, 2, 4)):
        y = fast_jit(partial(blur_pool, kernel=5))(jnp.broadcast_to(value, shape))
        np.testing.assert_allclose(y, jnp.broadcast_to(value, y.shape), **CLOSE)


def test_max_blur_pool_is_the_dense_maximum_blurred(rng: np.random.Generator) -> None:
    x = rng.normal(size=(2, 7, 6, 3)) - 2
    dense = oracles.max_pool(x, Window((3, 2), (1, 1), ((1, 1), (1, 0)), (1, 1)))

    def run(x: jax.Array) -> tuple:
        y = max_blur_pool(x, (3, 2), stride=2, padding=((1, 1), (1, 0)), blur=4)
        return y, max_blur_pool(x, 2), max_blur_pool(x, 2, stride=2)

    y, *same = fast_jit(run)(jnp.asarray(x, "float32"))
    np.testing.assert_allclose(y, blurred(dense, 4, 2), **CLOSE)
    np.testing.assert_array_equal(*same)  # the stride is the kernel unless it is said


def test_max_blur_pool_has_the_sizes_of_max_pool() -> None:
    for n, kernel, stride, padding in itertools.product(range(4, 9), (2, 3, 4), (1, 2, 3), (0, 1)):
        x = jax.ShapeDtypeStruct((1, n, 2), "float32")
        shapes = [
            jax.eval_shape(partial(pool, kernel=kernel, stride=stride, padding=padding), x).shape
            for pool in (max_pool, max_blur_pool)
        ]
        assert shapes[0] == shapes[1]


def test_max_blur_pool_changes_less_under_a_shift(rng: np.random.Generator) -> None:
    """Zhang's figure 1: the strided maximum of a period of two flips, the anti-aliased one does not."""
    wave = jnp.asarray(np.tile([0.0, 0.0, 1.0, 1.0], 8), "float32").reshape(1, 32, 1)
    shifted = jnp.roll(wave, 1, axis=1)

    def change(pool) -> float:
        return float(jnp.abs(pool(wave, 2) - pool(shifted, 2))[:, 2:-2].max())

    assert change(max_pool) == 1
    assert change(max_blur_pool) <= 0.5


@pytest.mark.parametrize("name", ["blur_pool", "max_blur_pool"])
def test_dtypes_jit_vmap_and_errors(name: str, rng: np.random.Generator) -> None:
    f = partial({"blur_pool": blur_pool, "max_blur_pool": max_blur_pool}[name], kernel=3, stride=2)
    x = jnp.asarray(rng.normal(size=(2, 6, 6, 3)), "bfloat16")

    def run(x: jax.Array) -> tuple:
        return f(x.astype("float32")), jax.vmap(f)(x[:, None])[:, 0], f(x)

    y, alone, half = fast_jit(run)(x)
    assert (y.dtype, half.dtype) == (jnp.float32, jnp.bfloat16)
    np.testing.assert_array_equal(alone, half)
    np.testing.assert_array_equal(half, y.astype("bfloat16"))  # one rounding, at the end
    np.testing.assert_allclose(f(x.astype("float32")), y, **CLOSE)
    with pytest.raises(ValueError, match=r"x: expected \(N, W, C\), .* got shape \(6, 3\)"):
        f(jnp.zeros((6, 3)))
    with pytest.raises(ValueError, match=r"kernel: expected positive sizes, got 0"):
        f(x, kernel=0)
    with pytest.raises(ValueError, match=r"stride: expected an int or 2 ints, one for each"):
        f(x, stride=(2, 2, 2))
