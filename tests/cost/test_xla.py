"""The rules against XLA's own count of what it is handed, `Lowered.cost_analysis()`, on random programs."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jconv import cost
from jconv.cost.rules.convolution import valid_pairs
from jconv.ops.window import Axis

LAYOUTS = {1: ("NWC", "WIO", "NWC"), 2: ("NHWC", "HWIO", "NHWC"), 3: ("NDHWC", "DHWIO", "NDHWC")}


def lowered(fn: Callable, *args: Any) -> dict[str, float]:
    """XLA's properties of the program before it is optimised."""
    found = jax.jit(fn).lower(*args).cost_analysis()
    return found[0] if isinstance(found, list) else found or {}


def spec(*shape: int, dtype: str = "float32") -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


def random_conv(
    rng: np.random.Generator, *, holes: bool
) -> tuple[Callable, jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
    """A convolution of random rank, window, padding, groups, and with `holes` lhs_dilation; and its arguments."""
    rank = int(rng.integers(1, 4))
    kernel, stride, dilation = (rng.integers(1, high, rank).tolist() for high in (5, 4, 3))
    sizes = [(k - 1) * d + 1 + int(rng.integers(0, 8)) for k, d in zip(kernel, dilation, strict=True)]
    padding = rng.integers(0, 4, (rank, 2)).tolist()
    hole = rng.integers(1, 4, rank).tolist() if holes else [1] * rank
    groups, channels, features, batch = (int(rng.integers(1, 4)) for _ in range(4))

    def f(x: jax.Array, k: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(
            x, k, stride, padding, hole, dilation, LAYOUTS[rank], feature_group_count=groups
        )  # fmt: skip

    return f, spec(batch, *sizes, channels * groups), spec(*kernel, channels, features * groups)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_a_thousand_random_convolutions_and_both_gradients_are_counted_as_xla_counts_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for i in range(50):
        f, x, k = random_conv(rng, holes=i % 5 == 0)
        y = jax.eval_shape(f, x, k)

        def step(x: jax.Array, k: jax.Array, f: Callable = f, y: jax.ShapeDtypeStruct = y) -> Any:
            out, pull = jax.vjp(f, x, k)
            return out, pull(jnp.ones(y.shape))

        phases = cost.analyze(f, x, k, mode="train", wrt=(1, 0)).by_phase()
        assert list(phases) == ["forward", "backward input", "backward kernel"]
        flops = {c.flops for c in phases.values()}
        assert len(flops) == 1, "flops(dx) == flops(dw) == flops(fwd)"
        assert 3 * flops.pop() == pytest.approx(lowered(step, x, k).get("flops", 0), rel=1e-6)
        if i % 5:
            assert len({c.macs for c in phases.values()}) == 1, "and dense multiply-adds"


def test_valid_pairs_are_counted_one_by_one(rng: np.random.Generator) -> None:
    for _ in range(300):
        n, k, s, d, hole, m = (int(rng.integers(1, high)) for high in (9, 5, 4, 4, 5, 9))
        lo = int(rng.integers(-3, 6))
        at = [i * s + t * d - lo for i in range(m) for t in range(k)]
        real = sum(0 <= p <= (n - 1) * hole and p % hole == 0 for p in at)
        assert valid_pairs(n, Axis(k, s, d, lo, 0), outputs=m, hole=hole) == real


def layer_norm(x: jax.Array) -> jax.Array:
    centred = x - x.sum(1, keepdims=True) / 6
    return centred * lax.rsqrt((centred * centred).sum(1, keepdims=True) / 6 + 1e-5)


def max_pool(x: jax.Array, *, kernel: int) -> jax.Array:
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, kernel, kernel, 1), (1, 2, 2, 1), "SAME")


A, B, V = spec(4, 6), spec(6, 5), spec(2, 8, 8, 3)

PROGRAMS: dict[str, tuple[Callable, tuple]] = {
    "arithmetic": (lambda x: jnp.maximum(x * 2 + x, -x) / 3, (A,)),
    "transcendentals": (lambda x: jnp.tanh(jnp.exp(x)) + jnp.log1p(x) * lax.rsqrt(x) + lax.logistic(x), (A,)),
    "powers": (lambda x: x**2 + x**3 + x**7 + x**-2, (A,)),
    "selection": (lambda x: jnp.where(x > 0, x, 0.1 * x), (A,)),
    "clamp": (lambda x: lax.clamp(0.0, x, 6.0), (A,)),
    "sum": (lambda x: x.sum(0), (A,)),
    "max": (lambda x: x.max(), (A,)),
    "mean and variance": (lambda x: (x.mean(1), jnp.square(x - x.mean(1, keepdims=True)).mean(1)), (A,)),
    "softmax": (jax.nn.softmax, (A,)),
    "matmul": (lambda a, b: a @ b, (A, B)),
    "batched dot": (lambda a, b: jnp.einsum("bij,bkj->bik", a, b), (spec(3, 4, 5), spec(3, 7, 5))),
    "outer": (lambda a, b: jnp.einsum("i,j->ij", a, b), (spec(4), spec(5))),
    "max pool": (partial(max_pool, kernel=3), (V,)),
    "sum pool": (lambda x: lax.reduce_window(x, 0.0, lax.add, (1, 3, 2, 1), (1, 2, 1, 1), "VALID"), (V,)),
    "max pool, gradient": (lambda x, g: jax.vjp(partial(max_pool, kernel=2), x)[1](g), (V, spec(2, 4, 4, 3))),
    "movement": (
        lambda x, y: lax.slice_in_dim(jnp.concatenate([lax.rev(x, (0,)).T, y.reshape(6, 2)], 1), 0, 6, 2),
        (A, spec(12)),
    ),
    "scatter-add": (
        lambda x, i, u: lax.scatter_add(x, i, u, lax.ScatterDimensionNumbers((1,), (0,), (0,))),
        (A, spec(2, 1, dtype="int32"), spec(2, 6)),
    ),
    "layer norm and its gradient": (lambda x, g: jax.vjp(layer_norm, x)[1](g), (A, A)),
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_small_programs_are_counted_as_xla_counts_them(name: str) -> None:
    fn, args = PROGRAMS[name]
    ours, theirs = cost.analyze(fn, *args), lowered(fn, *args)
    assert ours.coverage.complete
    assert "convert_element_type" not in ours.by_primitive(), "which XLA counts"
    assert ours.total.flops == pytest.approx(theirs.get("flops", 0), rel=1e-6)
    assert ours.total.transcendentals == pytest.approx(theirs.get("transcendentals", 0), rel=1e-6)


def test_bytes_of_an_op_are_its_operands_and_results() -> None:
    ours = cost.analyze(lambda a, b: a @ b, A, B).total
    assert (ours.bytes_read, ours.bytes_written) == (4 * (24 + 30), 4 * 20)
    assert ours.bytes_read + ours.bytes_written == lowered(lambda a, b: a @ b, A, B)["bytes accessed"]


def test_a_wrong_count_is_noticed() -> None:
    assert cost.analyze(lambda x: x * x, A).total.flops != pytest.approx(lowered(lambda x: x * x + x, A)["flops"])
