"""Fixed filters: what each says of a ramp and a parabola, numpy and scipy as oracles, errors by name."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jconv import conv
from jconv.ops import apply_filter, filter_kernel
from jconv.ops.filters import FIXED, SEPARABLE
from tests import oracles
from tests.catalogue import fast_jit
from tests.oracles import Window

CLOSE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5}


def taps(name: str, **options: Any) -> np.ndarray:
    """The window of one channel."""
    kernel = filter_kernel(name, **options)
    assert kernel.dtype == jnp.float32
    assert kernel.shape[-2:] == (1, 1)
    return np.asarray(kernel[..., 0, 0])


def test_the_pictures() -> None:
    """As the course and the textbooks write them."""
    for name, rows in {
        "sobel_x": "-1 0 1 / -2 0 2 / -1 0 1", "sobel_y": "-1 -2 -1 / 0 0 0 / 1 2 1",
        "scharr_x": "-3 0 3 / -10 0 10 / -3 0 3", "scharr_y": "-3 -10 -3 / 0 0 0 / 3 10 3",
        "prewitt_x": "-1 0 1 / -1 0 1 / -1 0 1", "prewitt_y": "-1 -1 -1 / 0 0 0 / 1 1 1",
        "top_edge": "-1 -1 -1 / 0 0 0 / 1 1 1", "bottom_edge": "1 1 1 / 0 0 0 / -1 -1 -1",
        "left_edge": "-1 0 1 / -1 0 1 / -1 0 1", "right_edge": "1 0 -1 / 1 0 -1 / 1 0 -1",
        "diagonal1": "0 -1 1 / -1 1 0 / 1 0 0", "diagonal2": "1 -1 0 / 0 1 -1 / 0 0 1",
        "laplacian": "0 1 0 / 1 -4 1 / 0 1 0", "laplacian8": "1 1 1 / 1 -8 1 / 1 1 1",
        "sharpen": "0 -1 0 / -1 5 -1 / 0 -1 0",
        "box": " / ".join(["1 1 1"] * 3), "binomial": "1 2 1 / 2 4 2 / 1 2 1", "identity": "0 0 0 / 0 1 0 / 0 0 0",
    }.items():  # fmt: skip
        picture = np.array([row.split() for row in rows.split("/")], float)
        sums_to_one = picture.sum() if name in SEPARABLE else 1
        np.testing.assert_allclose(taps(name), picture / sums_to_one, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    ("name", "along_x", "along_y"),
    [
        ("sobel_x", 8, 0), ("sobel_y", 0, 8), ("scharr_x", 32, 0), ("scharr_y", 0, 32), ("prewitt_x", 6, 0),
        ("prewitt_y", 0, 6), ("top_edge", 0, 6), ("bottom_edge", 0, -6), ("left_edge", 6, 0), ("right_edge", -6, 0),
        ("laplacian", 0, 0), ("laplacian8", 0, 0),
    ],
)  # fmt: skip
def test_what_a_filter_says_of_a_ramp(name: str, along_x: float, along_y: float) -> None:
    rows, columns = np.mgrid[:5, :6].astype(np.float32)
    for ramp, right in ((columns, along_x), (rows, along_y), (np.ones((5, 6), np.float32), 0)):
        y = apply_filter(jnp.asarray(ramp)[None, ..., None], name, padding=0)
        np.testing.assert_allclose(y, right, **CLOSE)


@pytest.mark.parametrize(("name", "right"), [("laplacian", 4), ("laplacian8", 12)])
def test_what_a_laplacian_says_of_a_paraboloid(name: str, right: float) -> None:
    rows, columns = np.mgrid[:5, :6].astype(np.float32)
    y = apply_filter(jnp.asarray(rows**2 + columns**2)[None, ..., None], name, padding=0)
    np.testing.assert_allclose(y, right, **CLOSE)


def test_every_filter_is_the_oracle(rng: np.random.Generator) -> None:
    x = rng.normal(size=(2, 6, 7, 3))
    names = sorted(FIXED | SEPARABLE)
    reflected, plain = oracles.pad(x, ((1, 1), (1, 1)), "reflect"), Window((3, 3), (1, 1), ((0, 0), (0, 0)), (1, 1))

    def all_filters(x: jax.Array) -> list[jax.Array]:
        return [apply_filter(x, name) for name in names]

    for name, y in zip(names, fast_jit(all_filters)(jnp.asarray(x, "float32")), strict=True):
        kernel = np.repeat(taps(name)[..., None, None], 3, axis=-1)
        np.testing.assert_allclose(y, oracles.conv(reflected, kernel, plain, groups=3), err_msg=name, **CLOSE)
        right = [ndimage.correlate(image, taps(name).astype(float)[..., None], mode="mirror") for image in x]
        np.testing.assert_allclose(y, right, err_msg=name, **CLOSE)
        assert np.array_equal(y, jnp.asarray(x, "float32")) == (name == "identity")


def test_scipys_derivatives(rng: np.random.Generator) -> None:
    x = rng.normal(size=(6, 7))
    for name, f in (("sobel", ndimage.sobel), ("prewitt", ndimage.prewitt)):
        for axis, along in enumerate("yx"):
            y = apply_filter(jnp.asarray(x, "float32")[None, ..., None], f"{name}_{along}")
            np.testing.assert_allclose(y[0, ..., 0], f(x, axis, mode="mirror"), **CLOSE)
    y = apply_filter(jnp.asarray(x, "float32")[None, ..., None], "laplacian")
    np.testing.assert_allclose(y[0, ..., 0], ndimage.laplace(x, mode="mirror"), **CLOSE)


@pytest.mark.parametrize("name", SEPARABLE)
def test_low_passes_of_any_size_and_rank(name: str) -> None:
    for size in (1, 2, 5, 8):
        line = taps(name, size=size, rank=1)
        assert line.shape == (size,)
        np.testing.assert_allclose(line.sum(), 1, rtol=1e-6)
        if name != "identity":
            np.testing.assert_allclose(line, line[::-1], rtol=1e-6)
        np.testing.assert_allclose(taps(name, size=size), np.outer(line, line), rtol=1e-6)
        np.testing.assert_allclose(taps(name, size=size, rank=3), np.einsum("i,j,k", line, line, line), rtol=1e-6)


def test_a_gaussian_has_the_width_it_says() -> None:
    t = np.arange(25) - 12
    for sigma in (0.5, 1.0, 2.0):
        line = taps("gaussian", size=25, sigma=sigma, rank=1)
        right = np.exp(-(t**2) / (2 * sigma**2))
        np.testing.assert_allclose(line, right / right.sum(), rtol=1e-5, atol=1e-9)
    for size in (9, 16):  # without a width, that of the binomial filter, to which it is close
        gauss, binomial = (taps(name, size=size, rank=1) for name in ("gaussian", "binomial"))
        t = np.arange(size) - (size - 1) / 2
        np.testing.assert_allclose((t**2 * binomial).sum(), (size - 1) / 4, rtol=1e-5)
        np.testing.assert_allclose(gauss, binomial, atol=0.01)


def test_options_reach_the_convolution(rng: np.random.Generator) -> None:
    options: dict[str, Any] = {"stride": 2, "padding": 2, "dilation": 2, "lowering": "im2col"}

    def both(x: jax.Array) -> tuple:
        kernel = filter_kernel("gaussian", size=2, sigma=0.7, rank=x.ndim - 2, channels=x.shape[-1])
        y = apply_filter(x, "gaussian", size=2, sigma=0.7, **options)
        return y, conv(x, kernel, groups=x.shape[-1], **options)

    for shape in ((2, 9, 3), (1, 5, 6, 4), (1, 4, 3, 4, 2)):
        y, right = fast_jit(both)(jnp.asarray(rng.normal(size=shape), "float32"))
        np.testing.assert_array_equal(y, right)


def test_bfloat16_in_bfloat16_out(rng: np.random.Generator) -> None:
    x = jnp.asarray(rng.normal(size=(2, 6, 6, 3)), "bfloat16")
    y, right = fast_jit(lambda x: (apply_filter(x, "binomial"), apply_filter(x.astype("float32"), "binomial")))(x)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(y.astype("float32"), right, rtol=0.01, atol=0.01)


ERRORS = [
    ("sobelx", {}, r"name: no filter 'sobelx'; did you mean 'sobel_x' or .*\? There are 'binomial', 'bottom_edge', "),
    ("xyz", {}, r"name: no filter 'xyz'; There are 'binomial', .*'top_edge'"),
    ("sobel_x", {"rank": 1}, r"rank: 'sobel_x' filters over 2 spatial axes, got 1; filters of any rank: binomial, box"),
    ("box", {"rank": 4}, r"rank: 'box' filters over 1 to 3 spatial axes, got 4"),
    ("laplacian", {"size": 5}, r"size: 'laplacian' is 3×3, got 5; leave size out"),
    ("box", {"size": 0}, r"size: expected a positive number of taps, got 0"),
    ("gaussian", {"sigma": 0.0}, r"sigma: expected a positive width, got 0.0"),
    ("box", {"sigma": 1.0}, r"sigma: 'box' has none, got 1.0; leave it out, or use 'gaussian'"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options", "message"), ERRORS)
def test_errors_say_what_was_expected(name: str, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        filter_kernel(name, **options)


def test_errors_of_apply_filter() -> None:
    with pytest.raises(ValueError, match=r"name: no filter 'left'; did you mean 'left_edge'\?"):
        apply_filter(jnp.zeros((1, 4, 4, 1)), "left")
    with pytest.raises(ValueError, match=r"rank: 'top_edge' filters over 2 spatial axes, got 3"):
        apply_filter(jnp.zeros((1, 4, 4, 4, 1)), "top_edge")
    with pytest.raises(ValueError, match=r"x: expected \(N, W, C\), .* got shape \(4, 4\)"):
        apply_filter(jnp.zeros((4, 4)), "box")
    with pytest.raises(ValueError, match=r"REFLECT can take at most 0 elements from an axis of 1, needs 1"):
        apply_filter(jnp.zeros((1, 1, 4, 1)), "box")
