"""Resizing: naive interpolation and torch, values and gradients; resize_conv has no checkerboard; errors."""

from fractions import Fraction
from functools import partial
from math import floor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv import conv
from jconv.ops import resize, resize_conv
from tests.by_torch import by_torch
from tests.catalogue import fast_jit

CLOSE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5}
CASES = [  # (spatial sizes, new sizes): up and down, by whole numbers and not
    *(((n,), (m,)) for n, m in ((4, 8), (3, 7), (8, 4), (7, 3), (1, 5), (5, 1), (5, 4), (3, 3))),
    *((s, m) for s, m in (((3, 4), (6, 12)), ((5, 3), (4, 7)), ((4, 6), (4, 3)))),
    ((2, 3, 2), (4, 5, 3)),
]
TORCHS = {1: "linear", 2: "bilinear", 3: "trilinear"}


def positions(n: int, m: int) -> list[Fraction]:
    """Where each output's centre lies among the inputs' borders, from 0 to n."""
    return [Fraction(2 * i + 1, 2) * n / m for i in range(m)]


def nearest(x: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    for dim, m in enumerate(sizes, start=1):
        x = x.take([floor(p) for p in positions(x.shape[dim], m)], dim)
    return x


def linear(x: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    for dim, m in enumerate(sizes, start=1):
        n = x.shape[dim]
        at = [float(p) - 0.5 for p in positions(n, m)]
        x = np.apply_along_axis(lambda line, at=at, n=n: np.interp(at, range(n), line), dim, x)
    return x


def test_values_and_gradients(rng: np.random.Generator) -> None:
    xs, dys = ([rng.normal(size=(2, *case[i], 2)) for case in CASES] for i in (0, 1))

    def all_cases(xs: list, dys: list) -> list:
        found = []
        for (_, size), x, dy in zip(CASES, xs, dys, strict=True):
            for method in ("nearest", "bilinear"):
                y, back = jax.vjp(lambda x, s=size, m=method: resize(x, size=s, method=m), x)
                found.append((y, back(dy)[0]))
        return found

    found = iter(fast_jit(all_cases)(*([jnp.asarray(a, "float32") for a in arrays] for arrays in (xs, dys))))
    for (sizes, size), x, dy in zip(CASES, xs, dys, strict=True):
        for oracle, options in (
            (nearest, {"mode": "nearest-exact"}),
            (linear, {"mode": TORCHS[len(size)], "align_corners": False}),
        ):
            y, dx = next(found)
            note = f"{oracle.__name__}, {sizes} to {size}"
            np.testing.assert_allclose(y, oracle(x, size), err_msg=note, **CLOSE)
            right = by_torch(lambda torch, x: torch.nn.functional.interpolate(x, size, **options), x, dy)  # noqa: B023
            np.testing.assert_allclose(y, right[0], err_msg=note, **CLOSE)
            np.testing.assert_allclose(dx, right[1], err_msg=note, **CLOSE)


def test_torchs_nearest_is_ours_where_the_scale_is_whole(rng: np.random.Generator) -> None:
    x = rng.normal(size=(1, 5, 4, 3))
    for scale, same in (((2, 3), True), ((1, 2), True), ((0.5, 0.5), False), ((1.6, 1), False)):
        right, _ = by_torch(lambda torch, x: torch.nn.functional.interpolate(x, scale_factor=scale), x)  # noqa: B023
        y = resize(jnp.asarray(x, "float32"), scale=scale)
        assert y.shape == right.shape
        assert np.allclose(y, right, **CLOSE) == same


def test_a_wrong_answer_is_noticed(rng: np.random.Generator) -> None:
    x = rng.normal(size=(1, 4, 2))
    corners = np.apply_along_axis(lambda line: np.interp(np.linspace(0, 3, 8), range(4), line), 1, x)
    right = linear(x, (8,))
    for wrong in (corners, nearest(x, (8,)), linear(x[:, ::-1], (8,))):
        assert wrong.shape == right.shape
        assert not np.allclose(wrong, right, **CLOSE)
    assert not np.allclose(nearest(x, (3,)), x[:, [0, 1, 2]], **CLOSE)


def test_every_ratio_of_small_sizes_is_exact() -> None:
    """nearest must not round: where a centre lies on a border, the input after it is meant."""

    def all_sizes(xs: list) -> list:
        return [resize(x, size=m) for x in xs for m in range(1, 14)]

    xs = [np.arange(n, dtype=np.float32).reshape(1, n, 1) for n in range(1, 14)]
    found = iter(fast_jit(all_sizes)(xs))
    for x in xs:
        for m in range(1, 14):
            np.testing.assert_array_equal(next(found), nearest(x, (m,)))


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
def test_scale_is_a_size(method: str, rng: np.random.Generator) -> None:
    x = jnp.asarray(rng.normal(size=(1, 5, 4, 2)), "float32")
    f, pairs = (
        partial(resize, method=method),
        ((2, (10, 8)), ((1.5, 0.5), (7, 2)), (1, (5, 4)), (np.float64(0.4), (2, 1))),
    )
    found = fast_jit(lambda x: [(f(x, scale=scale), f(x, size=size)) for scale, size in pairs])(x)
    for (_, size), (by_scale, by_size) in zip(pairs, found, strict=True):
        assert by_scale.shape[1:-1] == size
        np.testing.assert_array_equal(by_scale, by_size)
    np.testing.assert_array_equal(found[2][0], x)


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
def test_dtypes_and_vmap(method: str, rng: np.random.Generator) -> None:
    x = jnp.asarray(rng.normal(size=(2, 5, 4, 3)), "bfloat16")
    f = partial(resize, size=7, method=method)
    y, wide, alone = fast_jit(lambda x: (f(x), f(x.astype("float32")), jax.vmap(lambda x: f(x[None])[0])(x)))(x)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(y, wide.astype("bfloat16"))  # one rounding, at the end
    np.testing.assert_array_equal(alone, y)


def test_resize_conv_is_resize_then_conv(rng: np.random.Generator) -> None:
    x, kernel, bias = (jnp.asarray(rng.normal(size=s), "float32") for s in ((2, 4, 5, 4), (3, 3, 2, 6), (6,)))
    options: dict[str, Any] = {"padding": "REFLECT", "dilation": (1, 2), "groups": 2, "lowering": "im2col"}
    for scale, method in ((2, "nearest"), ((3, 1.5), "bilinear")):

        def both(x: jax.Array, scale=scale, method=method) -> tuple:
            resized = resize(x, scale=scale, method=method)
            y = resize_conv(x, kernel, bias, scale=scale, method=method, **options)
            return y, conv(resized, kernel, bias, **options)

        np.testing.assert_array_equal(*fast_jit(both)(x))
    shape = jax.eval_shape(lambda x: resize_conv(x, kernel, groups=2), x).shape
    assert shape == (2, 6, 8, 6)
    with pytest.raises(ValueError, match=r"kernel: x of shape \(2, 8, 10, 4\) has 4 channels"):
        resize_conv(x, kernel)


def test_resize_conv_has_no_checkerboard() -> None:
    """Inside, a constant image and a constant kernel give a constant; a 3-tap kernel transposed by 2 does not."""
    x, kernel = jnp.ones((1, 6, 1)), jnp.ones((3, 1, 1))

    def both(x: jax.Array) -> tuple:
        transposed = jax.linear_transpose(
            lambda y: conv(y, kernel, stride=2), jax.ShapeDtypeStruct((1, 13, 1), x.dtype)
        )
        return resize_conv(x, kernel), transposed(x)[0]

    even, uneven = fast_jit(both)(x)
    assert np.unique(even).size == 1
    assert np.unique(np.asarray(uneven)[0, 2:-2]).size == 2


ERRORS = [
    ({}, r"resize: expected one of size and scale, got size=None, scale=None"),
    ({"size": 3, "scale": 2}, r"resize: expected one of size and scale, got size=3, scale=2"),
    ({"size": (3,)}, r"size: expected an int or 2 ints, one for each of the 2 spatial axes, got \(3,\)"),
    ({"size": 0}, r"size: expected positive sizes, got 0"),
    ({"scale": (1, 2, 3)}, r"scale: expected a number or 2, one for each spatial axis, got \(1, 2, 3\)"),
    ({"scale": "up"}, r"scale: expected a number or 2, one for each spatial axis, got 'up'"),
    ({"scale": 0.2}, r"scale: 0.2 makes sizes \(0, 1\) of \(4, 6\); expected at least 1 on each axis"),
    ({"scale": -1}, r"scale: -1 makes sizes \(-4, -6\) of \(4, 6\)"),
    ({"scale": 2, "method": "cubic"}, r"method: expected one of 'nearest', 'bilinear', got 'cubic'"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "message"), ERRORS)
def test_errors_say_what_was_expected(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resize(jnp.zeros((1, 4, 6, 3)), **options)


def test_inputs_that_are_no_images() -> None:
    with pytest.raises(ValueError, match=r"x: expected \(N, W, C\), .* got shape \(6, 3\)"):
        resize(jnp.zeros((6, 3)), scale=2)
    with pytest.raises(ValueError, match=r"x: expected a floating-point array, got uint8; cast it first"):
        resize(jnp.zeros((1, 6, 3), "uint8"), scale=2)
