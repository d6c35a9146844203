"""Pooling: the naive oracles and torch on random windows, ceil_mode, named paddings, gradients, errors."""

import itertools
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv.ops import avg_pool, global_avg_pool, global_max_pool, l2_pool, max_pool
from jconv.ops.window import axes
from tests import oracles
from tests.by_torch import by_torch
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


def over(w: Window, sizes: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """(0, elements beyond the padding) of ceil_mode's last windows: each the next of its row, if it is due."""
    beyond = []
    for i, n in enumerate(sizes):
        start = len(w.starts(i, n)) * w.stride[i]
        excess = start + (w.kernel[i] - 1) * w.dilation[i] + 1 - (n + sum(w.pads[i]))
        beyond.append((0, excess if 0 < excess < w.stride[i] and start < w.pads[i][0] + n else 0))
    return tuple(beyond)


def ceiled(w: Window, sizes: tuple[int, ...]) -> Window:
    """The window with as much padding as ceil_mode's last windows need."""
    return w._replace(pads=tuple((lo, hi + o) for (lo, hi), (_, o) in zip(w.pads, over(w, sizes), strict=True)))


def mean(x: np.ndarray, w: Window, ceil_mode: bool, count_include_pad: bool) -> np.ndarray:
    """Each window's sum over its taps in x, or in x and its padding, but not beyond."""
    sizes = x.shape[1:-1]
    counted = oracles.pad(np.ones_like(x), w.pads, fill=float(count_include_pad))
    if ceil_mode:
        counted, w = oracles.pad(counted, over(w, sizes)), ceiled(w, sizes)
    padded, taps = oracles.pad(x, w.pads), [where for _, where in w.taps(sizes)]
    return np.sum([padded[t] for t in taps], axis=0) / np.sum([counted[t] for t in taps], axis=0)


@pytest.mark.parametrize("ceil_mode", [False, True])
def test_max_pool_is_the_oracle(rng: np.random.Generator, ceil_mode: bool) -> None:
    pools = random_pools(rng, 60)
    assert sum(ceiled(w, x.shape[1:-1]) != w for x, w in pools) > 10

    def all_pools(xs: list[jax.Array]) -> list[jax.Array]:
        return [
            max_pool(x, w.kernel, stride=w.stride, padding=w.pads, dilation=w.dilation, ceil_mode=ceil_mode)
            for x, (_, w) in zip(xs, pools, strict=True)
        ]

    for (x, w), y in zip(pools, fast_jit(all_pools)([jnp.asarray(x, "float32") for x, _ in pools]), strict=True):
        right = oracles.max_pool(x, ceiled(w, x.shape[1:-1]) if ceil_mode else w)
        np.testing.assert_allclose(y, right, err_msg=str(w), **CLOSE)


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("count_include_pad", [True, False])
def test_avg_pool_and_l2_pool_are_the_oracle(
    rng: np.random.Generator, count_include_pad: bool, ceil_mode: bool
) -> None:
    pools = [(x, w) for x, w in random_pools(rng, 120) if max(w.dilation) == 1]
    assert sum(ceiled(w, x.shape[1:-1]) != w for x, w in pools) > 5
    options: dict[str, Any] = {"count_include_pad": count_include_pad, "ceil_mode": ceil_mode}

    def all_pools(pool, xs: list[jax.Array]) -> list[jax.Array]:
        f = partial(pool, **options)
        return [f(x, w.kernel, stride=w.stride, padding=w.pads) for x, (_, w) in zip(xs, pools, strict=True)]

    xs = [jnp.asarray(x, "float32") for x, _ in pools]
    found = [fast_jit(partial(all_pools, pool))(xs) for pool in (avg_pool, l2_pool)]
    for (x, w), average, root in zip(pools, *found, strict=True):
        np.testing.assert_allclose(average, mean(x, w, **options), err_msg=str(w), **CLOSE)
        np.testing.assert_allclose(root, np.sqrt(mean(x**2, w, **options)), err_msg=str(w), **CLOSE)


class Torch(NamedTuple):
    """A pool that torch has too: window and options, for an input of this shape."""

    shape: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    ceil_mode: bool
    count_include_pad: bool

    def options(self, *names: str) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("stride", "padding", "ceil_mode", *names)}

    def by_torch(self, name: str, x: np.ndarray, dy: np.ndarray, *names: str) -> tuple[np.ndarray, np.ndarray]:
        return by_torch(
            lambda torch, x: getattr(torch.nn.functional, f"{name}{len(self.kernel)}d")(
                x, self.kernel, **self.options(*names)
            ),
            x,
            dy,
        )


def torch_pools(rng: np.random.Generator, count: int) -> list[Torch]:
    pools = []
    for i in range(count):
        rank = i % 3 + 1
        kernel, stride, dilation, extra = (rng.integers(1, high, rank) for high in (5, 4, 3, 5))
        padding = rng.integers(0, kernel // 2 + 1)
        sizes = (kernel - 1) * dilation + extra  # of at least one window without padding
        window = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
        numbers = {name: tuple(map(int, values)) for name, values in window.items()}
        shape = (2, *map(int, sizes), 2)
        pools.append(Torch(shape, **numbers, ceil_mode=i % 4 < 3, count_include_pad=i % 2 > 0))
    return pools


def test_torchs_values_and_gradients(rng: np.random.Generator) -> None:
    pools = torch_pools(rng, 18)
    xs = [rng.permutation(np.prod(p.shape)).reshape(p.shape) / 10 for p in pools]  # no two are equal
    xs = [x - x.mean() for x in xs]

    def both(p: Torch) -> list:
        max_options, avg_options = p.options("dilation"), p.options("count_include_pad")
        return [partial(max_pool, kernel=p.kernel, **max_options), partial(avg_pool, kernel=p.kernel, **avg_options)]

    dys = [
        [rng.normal(size=jax.eval_shape(f, jax.ShapeDtypeStruct(p.shape, "float32")).shape) for f in both(p)]
        for p in pools
    ]

    def all_pools(xs: list, dys: list) -> list:
        found = []
        for p, x, pair in zip(pools, xs, dys, strict=True):
            for f, dy in zip(both(p), pair, strict=True):
                y, back = jax.vjp(f, x)
                found.append((y, back(dy)[0]))
        return found

    f32 = partial(jax.tree.map, lambda a: jnp.asarray(a, "float32"))
    found = iter(fast_jit(all_pools)(f32(xs), f32(dys)))
    for p, x, (dy_max, dy_avg) in zip(pools, xs, dys, strict=True):
        for name, dy, option in (("max_pool", dy_max, "dilation"), ("avg_pool", dy_avg, "count_include_pad")):
            for got, right in zip(next(found), p.by_torch(name, x, dy, option), strict=True):
                np.testing.assert_allclose(got, right, rtol=1e-5, atol=1e-4, err_msg=f"{name} {p}")


def test_torchs_output_sizes() -> None:
    """Every small window of one axis, and nothing where torch has nothing."""
    torch = pytest.importorskip("torch")
    more = 0
    for n, k, s, d in itertools.product(range(1, 10), range(1, 5), range(1, 5), range(1, 3)):
        for padding, ceil_mode in itertools.product(range(k // 2 + 1), (False, True)):
            options = {"stride": s, "padding": padding, "dilation": d, "ceil_mode": ceil_mode}
            try:
                right = torch.nn.functional.max_pool1d(torch.zeros(1, 1, n), k, **options).shape[-1]
            except RuntimeError:
                right = 0
            try:
                window = axes((n,), k, **options)
            except ValueError:
                assert not right, (n, k, options)
            else:
                assert window[0].output_size(n) == right, (n, k, options)
                more += ceil_mode and right > window[0]._replace(over=0).output_size(n)
    assert more > 100


def test_ceil_mode_keeps_a_window_out_of_the_padding_after_x() -> None:
    x = jnp.arange(1.0, 6).reshape(1, 5, 1)
    y = max_pool(x, 2, stride=3, padding=1, ceil_mode=True)  # windows at -1, 2; that at 5 would begin in the padding
    np.testing.assert_array_equal(y.ravel(), [1, 4])
    np.testing.assert_array_equal(max_pool(x, 2, stride=2, ceil_mode=True).ravel(), [2, 4, 5])
    np.testing.assert_array_equal(max_pool(x, 6, stride=2, ceil_mode=True).ravel(), [5])  # cut off, as in torch


@pytest.mark.parametrize(
    ("count_include_pad", "last"), [(True, 5 / 2), (False, 5.0)], ids=["padding counts", "padding does not"]
)
def test_what_lies_beyond_the_padding_is_not_counted(count_include_pad: bool, last: float) -> None:
    x = jnp.arange(6.0).reshape(1, 6, 1)
    options = {"stride": 3, "padding": 1, "ceil_mode": True, "count_include_pad": count_include_pad}
    np.testing.assert_allclose(avg_pool(x, 3, **options)[0, -1, 0], last, rtol=1e-6)  # taps 5, padding, beyond


W = Window((3, 3), (3, 3), ((1, 1), (1, 1)), (1, 1))  # of 6 elements the third window has one, beside the padding


def test_a_wrong_answer_is_noticed(rng: np.random.Generator) -> None:
    x = rng.normal(size=(2, 6, 6, 3)) - 2
    w = Window((3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1))
    for wrong, right in (
        (oracles.avg_pool(x, w), oracles.avg_pool(x, w, count_include_pad=False)),
        (oracles.max_pool(oracles.pad(x, w.pads), w._replace(pads=((0, 0), (0, 0)))), oracles.max_pool(x, w)),
        (oracles.max_pool(x, w._replace(pads=((0, 2), (2, 0)))), oracles.max_pool(x, w)),
        (oracles.max_pool(x, w), oracles.avg_pool(x, w)),
        (oracles.avg_pool(x, ceiled(W, (6, 6))), mean(x, W, ceil_mode=True, count_include_pad=True)),
        (mean(x, W, ceil_mode=True, count_include_pad=True), mean(x, W, ceil_mode=True, count_include_pad=False)),
    ):  # fmt: skip
        assert wrong.shape == right.shape
        assert not np.allclose(wrong, right, **CLOSE)


@pytest.mark.parametrize("pool", [max_pool, avg_pool, l2_pool])
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
    average = oracles.avg_pool(oracles.pad(x, pads, mode), plain)
    np.testing.assert_allclose(avg_pool(x32, 4, stride=2, padding=padding), average, **CLOSE)
    for pool in (max_pool, avg_pool):  # these paddings leave nothing over
        f = partial(pool, kernel=4, stride=2, padding=padding)
        np.testing.assert_array_equal(f(x32, ceil_mode=True), f(x32))


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


def test_l2_pool_is_torchs_without_the_count(rng: np.random.Generator) -> None:
    x, dy = rng.normal(size=(2, 7, 8, 3)), rng.normal(size=(2, 3, 3, 3))
    right = by_torch(lambda torch, x: torch.nn.functional.lp_pool2d(x, 2, (2, 3), 2), x, dy)
    y, back = jax.vjp(lambda x: l2_pool(x, (2, 3), stride=2), jnp.asarray(x, "float32"))
    for got, r in zip((y, back(jnp.asarray(dy, "float32"))[0]), right, strict=True):
        np.testing.assert_allclose(got * 6**0.5, r, **CLOSE)


def test_l2_pool_has_a_gradient_of_zero_at_zero(rng: np.random.Generator) -> None:
    x = jnp.asarray(rng.normal(size=(1, 6, 2)), "float32").at[:, 2:4].set(0)
    dx = fast_jit(jax.grad(lambda x: l2_pool(x, 2).sum()))(x)
    np.testing.assert_array_equal(dx[:, 2:4], 0)
    assert np.all(np.asarray(dx)[:, [0, 1, 4, 5]])
    _, dy = fast_jit(lambda x: jax.jvp(partial(l2_pool, kernel=2), (x,), (jnp.ones_like(x),)))(x)
    assert np.isfinite(dy).all()


def test_l2_pool_of_large_values_in_half_precision() -> None:
    y = l2_pool(jnp.full((1, 4, 1), 3e4, "float16"), 2)  # whose squares float16 cannot hold
    np.testing.assert_array_equal(y, np.full((1, 2, 1), 3e4, "float16"))


@pytest.mark.parametrize("sizes", [(5,), (4, 3), (2, 3, 4)])
def test_global_pools_are_mean_and_maximum(rng: np.random.Generator, sizes: tuple[int, ...]) -> None:
    x = rng.normal(size=(3, *sizes, 2))
    rows, x32 = x.reshape(3, -1, 2), jnp.asarray(x, "float32")
    np.testing.assert_allclose(global_avg_pool(x32), rows.mean(1), **CLOSE)
    np.testing.assert_allclose(global_max_pool(x32), rows.max(1), **CLOSE)
    dx = jax.grad(lambda x: global_max_pool(x).sum())(x32)
    np.testing.assert_array_equal(dx.reshape(3, -1, 2), rows == rows.max(1, keepdims=True))


POOLS = {
    "max": partial(max_pool, kernel=3, stride=2, padding=1),
    "avg": partial(avg_pool, kernel=3, stride=2, padding=1),
    "avg of real inputs": partial(avg_pool, kernel=3, padding=1, count_include_pad=False),
    "avg, ceil": partial(avg_pool, kernel=3, stride=2, ceil_mode=True),
    "l2": partial(l2_pool, kernel=3, stride=2, padding=1),
    "global avg": global_avg_pool,
    "global max": global_max_pool,
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
    if "global" not in name:
        with pytest.raises(ValueError, match=r"kernel: expected"):
            POOLS[name](jnp.zeros((1, 6, 6, 3)), kernel=0)


@pytest.mark.parametrize("pool", [max_pool, partial(avg_pool, count_include_pad=False)])
def test_a_window_in_padding_alone_is_an_error(pool) -> None:
    x = jnp.ones((1, 4, 4, 1))
    message = r"padding: window 0 of spatial axis 1 \(kernel 2, .* input 4\) lies in the padding \(2, 0\) alone; pad by"
    with pytest.raises(ValueError, match=message):
        pool(x, 2, padding=((0, 0), (2, 0)))
    with pytest.raises(ValueError, match=r"padding: window 2 of spatial axis 0 "):
        pool(x, 2, padding=((0, 2), (0, 0)))
    assert avg_pool(x, 2, padding=2)[0, 0, 0, 0] == 0  # where padding counts, it has a mean
