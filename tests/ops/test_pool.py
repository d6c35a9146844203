"""Pooling: the naive oracles on random windows, named paddings, the binomial filter, errors."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv import conv
from jconv.ops import avg_pool, blur_pool, global_avg_pool, max_pool
from tests import oracles
from tests.catalogue import fast_jit
from tests.oracles import Window, random_case

CLOSE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5}


def random_pools(rng: np.random.Generator, count: int) -> list[tuple[np.ndarray, Window]]:
    """Negative and positive inputs, and windows of any kind, none of which is in padding alone."""
    pools = []
    while len(pools) < count:
        case = random_case(rng)
        reach = [(k - 1) * d for k, d in zip(case.window.kernel, case.window.dilation, strict=True)]
        least = zip(reach, case.window.pads, case.x[1:-1], strict=True)
        if all(max(pads) <= r and n > r for r, pads, n in least):
            pools.append((rng.normal(size=case.x) - 2, case.window))
    return pools


def test_max_pool_is_the_oracle(rng: np.random.Generator) -> None:
    pools = random_pools(rng, 60)

    def all_pools(xs: list[jax.Array]) -> list[jax.Array]:
        return [
            max_pool(x, w.kernel, stride=w.stride, padding=w.pads, dilation=w.dilation)
            for x, (_, w) in zip(xs, pools, strict=True)
        ]

    for (x, w), y in zip(pools, fast_jit(all_pools)([jnp.asarray(x, "float32") for x, _ in pools]), strict=True):
        np.testing.assert_allclose(y, oracles.max_pool(x, w), err_msg=str(w), **CLOSE)


@pytest.mark.parametrize("count_include_pad", [True, False])
def test_avg_pool_is_the_oracle(rng: np.random.Generator, count_include_pad: bool) -> None:
    pools = [(x, w) for x, w in random_pools(rng, 100) if max(w.dilation) == 1]
    assert len(pools) > 10

    def all_pools(xs: list[jax.Array]) -> list[jax.Array]:
        f = partial(avg_pool, count_include_pad=count_include_pad)
        return [f(x, w.kernel, stride=w.stride, padding=w.pads) for x, (_, w) in zip(xs, pools, strict=True)]

    for (x, w), y in zip(pools, fast_jit(all_pools)([jnp.asarray(x, "float32") for x, _ in pools]), strict=True):
        np.testing.assert_allclose(y, oracles.avg_pool(x, w, count_include_pad), err_msg=str(w), **CLOSE)


def test_a_wrong_answer_is_noticed(rng: np.random.Generator) -> None:
    x = rng.normal(size=(2, 6, 6, 3)) - 2
    w = Window((3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1))
    for wrong, right in (
        (oracles.avg_pool(x, w), oracles.avg_pool(x, w, count_include_pad=False)),
        (oracles.max_pool(oracles.pad(x, w.pads), w._replace(pads=((0, 0), (0, 0)))), oracles.max_pool(x, w)),
        (oracles.max_pool(x, w._replace(pads=((0, 2), (2, 0)))), oracles.max_pool(x, w)),
        (oracles.max_pool(x, w), oracles.avg_pool(x, w)),
    ):  # fmt: skip
        assert wrong.shape == right.shape
        assert not np.allclose(wrong, right, **CLOSE)


@pytest.mark.parametrize("pool", [max_pool, avg_pool])
def test_stride_is_the_kernel_unless_said(pool, rng: np.random.Generator) -> None:
    x = jnp.asarray(rng.normal(size=(1, 6, 9, 2)), "float32")
    np.testing.assert_array_equal(pool(x, (2, 3)), pool(x, (2, 3), stride=(2, 3)))
    assert pool(x, (2, 3)).shape == (1, 3, 3, 2)
    assert pool(x, (2, 3), stride=1).shape == (1, 5, 7, 2)


@pytest.mark.parametrize("padding", ["SAME", "SAME_LOWER", "CIRCULAR", "REFLECT"])
def test_padding_by_name(padding: str, rng: np.random.Generator) -> None:
    x = rng.normal(size=(1, 7, 2)) - 2
    lo, hi = oracles.same_pads(7, 4, 2, 1)
    pads = ((hi, lo) if padding == "SAME_LOWER" else (lo, hi),)
    mode, fill = {"CIRCULAR": ("wrap", 0), "REFLECT": ("reflect", 0)}.get(padding, ("constant", -np.inf))
    plain = Window((4,), (2,), ((0, 0),), (1,))
    x32 = jnp.asarray(x, "float32")
    largest = oracles.max_pool(oracles.pad(x, pads, mode, fill), plain)
    np.testing.assert_allclose(max_pool(x32, 4, stride=2, padding=padding), largest, **CLOSE)
    mean = oracles.avg_pool(oracles.pad(x, pads, mode), plain)
    np.testing.assert_allclose(avg_pool(x32, 4, stride=2, padding=padding), mean, **CLOSE)


@pytest.mark.parametrize("dilation", [1, 2])
def test_the_largest_gets_the_gradient(rng: np.random.Generator, dilation: int) -> None:
    x = rng.permutation(40).reshape(2, 10, 2).astype(np.float32)
    dx = jax.grad(lambda x: max_pool(x, 2, stride=2 * dilation, dilation=dilation).sum())(jnp.asarray(x))
    others = [i + dilation * (1 if i % (2 * dilation) < dilation else -1) for i in range(8)]
    for i, other in enumerate(others):
        if i % (2 * dilation) == 0:
            np.testing.assert_array_equal(dx[:, i], x[:, i] > x[:, other])


def test_avg_pool_spreads_the_gradient(rng: np.random.Generator) -> None:
    x, dy = rng.normal(size=(1, 9, 1)), rng.normal(size=(1, 4, 1))
    _, back = jax.vjp(lambda x: avg_pool(x, 3, stride=2), jnp.asarray(x, "float32"))
    right = oracles.conv_gradients(x, np.full((3, 1, 1), 1 / 3), dy, Window((3,), (2,), ((0, 0),), (1,)))[0]
    np.testing.assert_allclose(back(jnp.asarray(dy, "float32"))[0], right, **CLOSE)


BINOMIAL = {2: [1, 1], 3: [1, 2, 1], 4: [1, 3, 3, 1], 5: [1, 4, 6, 4, 1]}


@pytest.mark.parametrize("stride", [1, 2, (2, 1)])
@pytest.mark.parametrize("kernel", BINOMIAL)
def test_blur_pool_is_a_convolution(rng: np.random.Generator, kernel: int, stride) -> None:
    x = jnp.asarray(rng.normal(size=(2, 7, 8, 3)), "float32")
    row = np.array(BINOMIAL[kernel]) / sum(BINOMIAL[kernel])
    weights = jnp.asarray(np.outer(row, row)[:, :, None, None] * np.ones((1, 1, 1, 3)), "float32")
    right = conv(x, weights, stride=stride, padding="REFLECT", groups=3, lowering="lax")
    np.testing.assert_allclose(blur_pool(x, kernel, stride=stride), right, **CLOSE)


def test_blur_pool_keeps_a_constant(rng: np.random.Generator) -> None:
    value = jnp.asarray(rng.normal(size=4), "float32")
    for shape in ((1, 9, 4), (2, 5, 6, 4), (1, 3, 4, 5, 4)):
        y = blur_pool(jnp.broadcast_to(value, shape), 3)
        assert y.shape[1:-1] == tuple(-(-n // 2) for n in shape[1:-1])
        np.testing.assert_allclose(y, jnp.broadcast_to(value, y.shape), **CLOSE)


@pytest.mark.parametrize("sizes", [(5,), (4, 3), (2, 3, 4)])
def test_global_avg_pool_is_the_mean(rng: np.random.Generator, sizes: tuple[int, ...]) -> None:
    x = rng.normal(size=(3, *sizes, 2))
    np.testing.assert_allclose(global_avg_pool(jnp.asarray(x, "float32")), x.reshape(3, -1, 2).mean(1), **CLOSE)


POOLS = {
    "max": partial(max_pool, kernel=3, stride=2, padding=1),
    "avg": partial(avg_pool, kernel=3, stride=2, padding=1),
    "avg of real inputs": partial(avg_pool, kernel=3, padding=1, count_include_pad=False),
    "blur": partial(blur_pool, kernel=3),
    "global": global_avg_pool,
}


@pytest.mark.parametrize("name", POOLS)
def test_dtypes_jit_and_vmap(name: str, rng: np.random.Generator) -> None:
    f = POOLS[name]
    x = jnp.asarray(rng.normal(size=(2, 6, 6, 3)), "float32")
    y = f(x)
    assert y.dtype == jnp.float32
    np.testing.assert_allclose(jax.jit(f)(x), y, **CLOSE)
    np.testing.assert_allclose(jax.vmap(f)(x[:, None])[:, 0], y, **CLOSE)
    half = f(x.astype(jnp.bfloat16))
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), y, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("name", POOLS)
def test_errors_say_what_was_expected(name: str) -> None:
    with pytest.raises(ValueError, match=r"x: expected \(N, W, C\), .* got shape \(6, 3\); a single image needs"):
        POOLS[name](jnp.zeros((6, 3)))
    with pytest.raises(ValueError, match=r"x: expected a floating-point array, got uint8; cast it first"):
        POOLS[name](jnp.zeros((1, 6, 6, 3), "uint8"))
    if name != "global":
        with pytest.raises(ValueError, match=r"kernel: expected"):
            POOLS[name](jnp.zeros((1, 6, 6, 3)), kernel=0)
