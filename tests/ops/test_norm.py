"""Normalisation of batches, examples and kernels: float64 numpy, torch, split batches, half precision, errors."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv import conv
from jconv.ops import batch_norm, fold_batch_norm, group_norm, layer_norm, local_response_norm, standardize_kernel
from jconv.ops.norm import ghosts, moments
from tests import oracles
from tests.by_torch import by_torch
from tests.catalogue import fast_jit

CLOSE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5}


@pytest.mark.parametrize("shape", [(6, 3), (4, 5, 3), (2, 5, 4, 3), (2, 3, 2, 4, 3)])
def test_moments_and_map_are_numpys(rng: np.random.Generator, shape: tuple[int, ...]) -> None:
    x, scale, bias = rng.normal(3, 2, size=shape), rng.normal(size=3), rng.normal(size=3)
    right, right_mean, right_var = oracles.batch_norm(x, scale, bias, 1e-3)
    mean, var, n = moments(jnp.asarray(x, "float32"))
    assert n == x.size // 3
    np.testing.assert_allclose(mean, right_mean, **CLOSE)
    np.testing.assert_allclose(var * (n / (n - 1)), right_var, **CLOSE)
    y = batch_norm(*(jnp.asarray(a, "float32") for a in (x, mean, var, scale, bias)), eps=1e-3)
    np.testing.assert_allclose(y, right, **CLOSE)


def test_a_wrong_answer_is_noticed(rng: np.random.Generator) -> None:
    x = rng.normal(3, 2, size=(4, 3, 2))
    y, _, var = oracles.batch_norm(x, np.ones(2), np.zeros(2), 1e-3)
    for wrong in (
        oracles.batch_norm(x, np.ones(2), np.zeros(2), 0.1)[0],
        (x - x.mean((0, 1))) / np.sqrt(var + 1e-3),  # unbiased
        (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-3),  # of each position
    ):
        assert not np.allclose(wrong, y, **CLOSE)


def test_moments_of_large_numbers_do_not_cancel(rng: np.random.Generator) -> None:
    x = np.float32(1000 + rng.normal(size=(64, 4)))
    mean, var, _ = moments(jnp.asarray(x))
    np.testing.assert_allclose(mean, x.astype(np.float64).mean(0), rtol=1e-6)
    np.testing.assert_allclose(var, x.astype(np.float64).var(0), rtol=1e-3)


def test_moments_of_a_split_batch_are_the_batchs(rng: np.random.Generator) -> None:
    x = jnp.asarray(rng.normal(1, 3, size=(8, 5, 3)), "float32")
    split = jax.vmap(lambda x: moments(x, axis_name="devices")[:2], axis_name="devices")(x.reshape(4, 2, 5, 3))
    for part, whole in zip(split, moments(x)[:2], strict=True):
        np.testing.assert_allclose(part, jnp.broadcast_to(whole, (4, 3)), **CLOSE)
    alone = jax.vmap(lambda x: moments(x)[0])(x.reshape(4, 2, 5, 3))
    assert not np.allclose(alone, jnp.broadcast_to(moments(x)[0], (4, 3)), **CLOSE)


def test_the_gradient_sees_the_moments(rng: np.random.Generator) -> None:
    """A shift or a scale of the batch changes nothing, so the gradient has no part along either."""
    x, dy = (jnp.asarray(rng.normal(size=(16, 3)), "float32") for _ in range(2))
    norm = partial(batch_norm, scale=jnp.ones(3), bias=jnp.zeros(3), eps=0.0)
    dx = jax.grad(lambda x: jnp.vdot(dy, norm(x, *moments(x)[:2])))(x)
    np.testing.assert_allclose(dx.sum(0), 0, atol=1e-5)
    np.testing.assert_allclose((dx * x).sum(0), 0, atol=1e-4)


def test_half_precision_in_and_out_is_computed_in_float32(rng: np.random.Generator) -> None:
    x = jnp.asarray(rng.normal(300, 1, size=(512, 2)), "bfloat16")
    mean, var, _ = moments(x)
    assert (mean.dtype, var.dtype) == (jnp.float32, jnp.float32)
    y = batch_norm(x, mean, var, jnp.ones(2), jnp.zeros(2))
    assert y.dtype == jnp.bfloat16
    right, _, _ = oracles.batch_norm(np.asarray(x, np.float64), np.ones(2), np.zeros(2), 1e-5)
    np.testing.assert_allclose(y.astype(jnp.float32), right, rtol=0.01, atol=0.01)


# Each example


def normalised(x: np.ndarray, axes: tuple[int, ...], eps: float) -> np.ndarray:
    x = np.asarray(x, np.float64)
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)


SHAPES = [(3, 6), (2, 5, 6), (2, 5, 4, 6), (2, 3, 2, 4, 6)]
GROUPS = (1, 2, 3, 6)


def test_layer_and_group_norm_are_numpys(rng: np.random.Generator) -> None:
    xs, scale, bias = [rng.normal(3, 2, size=shape) for shape in SHAPES], rng.normal(size=6), rng.normal(size=6)

    @fast_jit
    def run(xs: list[jax.Array], *affine: jax.Array) -> list:
        layers = [(layer_norm(x, *affine, eps=1e-3), layer_norm(x, *affine, spatial=True, eps=1e-3)) for x in xs]
        return [
            (*each, *(group_norm(x, *affine, groups=g, eps=1e-3) for g in GROUPS))
            for x, each in zip(xs, layers, strict=True)
        ]

    for x, (channels, whole, *grouped) in zip(xs, run(*jax.tree.map(jnp.float32, (xs, scale, bias))), strict=True):
        np.testing.assert_allclose(channels, normalised(x, (-1,), 1e-3) * scale + bias, **CLOSE)
        np.testing.assert_allclose(whole, normalised(x, tuple(range(1, x.ndim)), 1e-3) * scale + bias, **CLOSE)
        for groups, got in zip(GROUPS, grouped, strict=True):
            axes = (*range(1, x.ndim - 1), -1)
            parts = [normalised(part, axes, 1e-3) for part in np.split(x, groups, axis=-1)]
            np.testing.assert_allclose(got, np.concatenate(parts, axis=-1) * scale + bias, **CLOSE)


def value_and_gradient(f: Callable[[jax.Array], jax.Array], x: np.ndarray, dy: np.ndarray) -> tuple:
    """f(x) and what it hands back of dy."""

    @fast_jit
    def run(x: jax.Array, dy: jax.Array) -> tuple:
        y, back = jax.vjp(f, x)
        return y, *back(dy)

    return run(jnp.float32(x), jnp.float32(dy))


@pytest.mark.parametrize("groups", GROUPS)
def test_group_norm_is_torchs_and_so_is_its_gradient(rng: np.random.Generator, groups: int) -> None:
    x, dy, scale, bias = (rng.normal(1, 2, size=s) for s in ((2, 5, 4, 6), (2, 5, 4, 6), (6,), (6,)))

    def right(torch: Any, x: Any) -> Any:
        return torch.nn.functional.group_norm(x, groups, torch.tensor(scale), torch.tensor(bias), eps=1e-3)

    f = partial(group_norm, scale=jnp.float32(scale), bias=jnp.float32(bias), groups=groups, eps=1e-3)
    for got, expected in zip(value_and_gradient(f, x, dy), by_torch(right, x, dy), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("spatial", [False, True])
def test_layer_norm_is_torchs_and_so_is_its_gradient(rng: np.random.Generator, spatial: bool) -> None:
    """torch takes the moments of the last axes: (C,), or all of (C, H, W) with a scale for each element."""
    x, dy = (rng.normal(1, 2, size=(2, 5, 4, 6)) for _ in range(2))
    scale, bias = (rng.normal(size=(5, 4, 6) if spatial else (6,)) for _ in range(2))

    def right(torch: Any, x: Any) -> Any:
        if spatial:
            per_element = [torch.tensor(a).permute(2, 0, 1) for a in (scale, bias)]
            return torch.nn.functional.layer_norm(x, (6, 5, 4), *per_element, eps=1e-3)
        y = torch.nn.functional.layer_norm(x.permute(0, 2, 3, 1), (6,), torch.tensor(scale), torch.tensor(bias), 1e-3)
        return y.permute(0, 3, 1, 2)

    f = partial(layer_norm, scale=jnp.float32(scale), bias=jnp.float32(bias), spatial=spatial, eps=1e-3)
    for got, expected in zip(value_and_gradient(f, x, dy), by_torch(right, x, dy), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_as_many_groups_as_channels_is_instance_normalisation(rng: np.random.Generator) -> None:
    x = rng.normal(1, 2, size=(2, 5, 4, 3))
    right, _ = by_torch(lambda torch, x: torch.nn.functional.instance_norm(x), x)
    np.testing.assert_allclose(group_norm(jnp.float32(x), jnp.ones(3), jnp.zeros(3), groups=3), right, **CLOSE)


def test_batch_norm_is_torchs_and_so_is_its_gradient(rng: np.random.Generator) -> None:
    x, dy, scale, bias = (rng.normal(1, 2, size=s) for s in ((4, 5, 3, 6), (4, 5, 3, 6), (6,), (6,)))

    def right(torch: Any, x: Any) -> Any:
        affine = torch.tensor(scale), torch.tensor(bias)
        return torch.nn.functional.batch_norm(x, None, None, *affine, training=True, eps=1e-3)

    def f(x: jax.Array) -> jax.Array:
        return batch_norm(x, *moments(x)[:2], jnp.float32(scale), jnp.float32(bias), eps=1e-3)

    for got, expected in zip(value_and_gradient(f, x, dy), by_torch(right, x, dy), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_a_wrong_normalisation_is_noticed(rng: np.random.Generator) -> None:
    x = rng.normal(3, 2, size=(2, 5, 4))
    y = group_norm(jnp.float32(x), jnp.ones(4), jnp.zeros(4), groups=2)
    blocks = np.concatenate([normalised(part, (1, 2), 1e-5) for part in np.split(x, 2, axis=-1)], axis=-1)
    np.testing.assert_allclose(y, blocks, **CLOSE)
    woven = x.reshape(2, 5, 2, 2)
    for wrong in (normalised(woven, (1, 2), 1e-5).reshape(x.shape), normalised(x, (-1,), 1e-5), blocks * 3 / 4):
        assert not np.allclose(y, wrong, **CLOSE)


@pytest.mark.parametrize("f", [layer_norm, partial(layer_norm, spatial=True), partial(group_norm, groups=2)])
def test_examples_in_half_precision_are_normalised_in_float32(rng: np.random.Generator, f: Any) -> None:
    x = jnp.asarray(rng.normal(300, 2, size=(3, 40, 4)), "bfloat16")
    y = f(x, jnp.ones(4), jnp.zeros(4))
    assert y.dtype == jnp.bfloat16
    right = f(x.astype(jnp.float32), jnp.ones(4), jnp.zeros(4))
    np.testing.assert_allclose(y.astype(jnp.float32), right, rtol=0.01, atol=0.01)


# Neighbouring channels


def damped(x: np.ndarray, size: int, alpha: float, beta: float, k: float) -> np.ndarray:
    """Equation by equation, channel by channel."""
    y = np.empty_like(x)
    for c in range(x.shape[-1]):
        near = x[..., max(0, c - size // 2) : c + (size - 1) // 2 + 1]
        y[..., c] = x[..., c] / (k + alpha * (near**2).sum(-1)) ** beta
    return y


SIZES = (1, 2, 3, 5, 20)


def test_local_response_norm_is_its_equation(rng: np.random.Generator) -> None:
    xs = [rng.normal(0, 3, size=shape) for shape in ((4, 7), (2, 5, 7), (2, 5, 4, 7), (1, 2, 3, 2, 7))]

    @fast_jit
    def run(xs: list[jax.Array]) -> list:
        return [[local_response_norm(x, size=size, alpha=0.3, beta=0.7, k=1.5) for size in SIZES] for x in xs]

    for x, ys in zip(xs, run(jax.tree.map(jnp.float32, xs)), strict=True):
        for size, y in zip(SIZES, ys, strict=True):
            right = damped(x, size, 0.3, 0.7, 1.5)
            np.testing.assert_allclose(y, right, **CLOSE)
            assert not np.allclose(damped(x, size + 1, 0.3, 0.7, 1.5), right, **CLOSE) or size == 20


@pytest.mark.parametrize("size", [2, 5])
def test_local_response_norm_is_torchs_and_so_is_its_gradient(rng: np.random.Generator, size: int) -> None:
    """torch divides the sum by the size."""
    x, dy = (rng.normal(1, 2, size=(2, 5, 4, 6)) for _ in range(2))

    def right(torch: Any, x: Any) -> Any:
        return torch.nn.functional.local_response_norm(x, size, alpha=0.3 * size, beta=0.7, k=1.5)

    f = partial(local_response_norm, size=size, alpha=0.3, beta=0.7, k=1.5)
    for got, expected in zip(value_and_gradient(f, x, dy), by_torch(right, x, dy), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_local_response_norm_in_half_precision_and_of_no_channels(rng: np.random.Generator) -> None:
    x = jnp.asarray(rng.normal(300, 2, size=(3, 4, 6)), "bfloat16")
    y = local_response_norm(x)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(y.astype(jnp.float32), local_response_norm(x.astype(jnp.float32)), rtol=0.01)
    with pytest.raises(ValueError, match=r"size: expected a positive number of channels, got 0"):
        local_response_norm(x, size=0)


# Ghost batches, kernels


def test_ghost_batches_are_parts_of_the_batch_in_order(rng: np.random.Generator) -> None:
    x = jnp.float32(rng.normal(size=(6, 4, 3)))
    parts = ghosts(x, size=2)
    for part, right in zip(parts, (x[:2], x[2:4], x[4:]), strict=True):
        np.testing.assert_array_equal(part, right)
    for size in (0, 4, 7):
        with pytest.raises(
            ValueError, match=rf"ghost: expected a positive size that divides the batch of 6, got {size}"
        ):
            ghosts(x, size=size)


def test_a_standardised_kernel_has_mean_zero_and_variance_one(rng: np.random.Generator) -> None:
    kernels = [rng.normal(2, 3, size=shape) for shape in ((3, 3, 8, 5), (5, 8, 4), (2, 2, 2, 3, 2), (16, 3))]

    @fast_jit
    def run(kernels: list[jax.Array]) -> list:
        exact = partial(standardize_kernel, eps=0.0)
        return [
            (standardize_kernel(k, eps=1e-3), standardize_kernel(k, scaled=True), exact(k), exact(2 * k + 5))
            for k in kernels
        ]

    for kernel, (y, scaled, exact, moved) in zip(kernels, run(jax.tree.map(jnp.float32, kernels)), strict=True):
        axes = tuple(range(kernel.ndim - 1))
        np.testing.assert_allclose(y, normalised(kernel, axes, 1e-3), **CLOSE)
        np.testing.assert_allclose(np.mean(scaled, axes), 0, atol=1e-6)
        np.testing.assert_allclose(np.sum(np.square(scaled), axes), 1, rtol=1e-5)
        np.testing.assert_allclose(moved, exact, rtol=1e-4, atol=1e-4)
    assert standardize_kernel(jnp.ones((3, 2), jnp.bfloat16)).dtype == jnp.bfloat16


def test_a_scaled_kernel_keeps_the_variance_of_what_it_meets(rng: np.random.Generator) -> None:
    x, kernel = jnp.float32(rng.normal(size=(4, 30, 30, 16))), jnp.float32(rng.normal(2, 3, size=(3, 3, 16, 4)))
    y = conv(x, standardize_kernel(kernel, scaled=True))
    np.testing.assert_allclose(y.var(), 1, rtol=0.1)


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("biased", [False, True])
def test_a_folded_kernel_is_the_convolution_and_the_batch_norm(rng, groups: int, biased: bool) -> None:
    x, kernel = jnp.float32(rng.normal(size=(2, 6, 5, 6))), jnp.float32(rng.normal(size=(3, 2, 6 // groups, 9)))
    bias, mean, scale, bias_bn = (jnp.float32(rng.normal(size=9)) for _ in range(4))
    var, bias = jnp.float32(rng.uniform(0.1, 2, 9)), bias if biased else None
    f = partial(conv, stride=2, padding=1, groups=groups)

    @fast_jit
    def run(kernel: jax.Array, bias: jax.Array | None, *numbers: jax.Array) -> list[jax.Array]:
        folded = (fold_batch_norm(kernel, bias, *numbers, eps=eps) for eps in (0.1, 1e-5))
        return [batch_norm(f(x, kernel, bias), *numbers, eps=0.1), *(f(x, *arrays) for arrays in folded)]

    right, got, wrong = run(kernel, bias, mean, var, scale, bias_bn)
    np.testing.assert_allclose(got, right, rtol=1e-4, atol=1e-5)
    assert not np.allclose(wrong, right, rtol=0.01)
    half = jax.eval_shape(fold_batch_norm, kernel.astype(jnp.bfloat16), bias, mean, var, scale, bias_bn)
    assert [a.dtype for a in half] == [jnp.bfloat16, jnp.float32 if biased else jnp.bfloat16]


def test_groups_that_do_not_divide_the_channels() -> None:
    for groups in (0, 3):
        with pytest.raises(ValueError, match=rf"groups: expected .* divides the 4 channels of x, got {groups}"):
            group_norm(jnp.zeros((2, 4)), jnp.ones(4), jnp.zeros(4), groups=groups)


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (lambda x, one, two: batch_norm(x, one, two, two, two), r"mean: expected shape \(2,\), one number for each"),
        (lambda x, one, two: batch_norm(x, two, two, two, one), r"bias: expected shape \(2,\)"),
        (
            lambda x, one, two: layer_norm(x, jnp.ones(3), two),
            r"scale: expected \(2,\), or what broadcasts to \(3, 2\)",
        ),
        (lambda x, one, two: layer_norm(x, two, jnp.ones((4, 3, 2))), r"bias: expected \(2,\).*got \(4, 3, 2\)"),
        (lambda x, one, two: group_norm(x, two, one, groups=2), r"bias: expected shape \(2,\)"),
        (lambda x, one, two: fold_batch_norm(x, None, two, one, two, two), r"var: expected shape \(2,\)"),
        (lambda x, one, two: moments(x[:0]), r"x: expected some elements to take mean and variance of, got shape"),
    ],
)
def test_errors_say_what_was_expected(f: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        f(jnp.ones((4, 3, 2)), jnp.ones(1), jnp.ones(2))
