"""The transposed convolution: the exact adjoint of the convolution, and torch's, by every lowering; its overlap."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv import conv_transpose
from jconv.ops import conv, overlap_map
from jconv.ops.lowerings import LOWERINGS
from tests import oracles
from tests.catalogue import fast_jit
from tests.oracles import random_case

CLOSE: dict[str, Any] = {"rtol": 1e-5, "atol": 5e-5}
ANY = ("auto", "lax", "im2col", "chunked", "kn2row", "fft")  # lowerings that take every form


def cases(seed: int, n: int) -> list[tuple[dict, np.ndarray, np.ndarray, np.ndarray]]:
    """Options, x, kernel and a y that conv maps to x's sizes; y is as large as any that does."""
    rng, found = np.random.default_rng(seed), []
    while len(found) < n:
        case = random_case(rng)
        w = case.window
        out = w.out(case.x[1:-1])
        settings = zip(out, w.kernel, w.stride, w.pads, w.dilation, strict=True)
        least = [(m - 1) * s - sum(p) + (k - 1) * d + 1 for m, k, s, p, d in settings]
        if min(least) < 1:
            continue
        extra = [int(rng.integers(0, s)) for s in w.stride]
        options = {"stride": w.stride, "padding": w.pads, "dilation": w.dilation, "groups": case.groups}
        options["output_padding"] = extra
        sizes = [n + e for n, e in zip(least, extra, strict=True)]
        x = rng.normal(size=(case.x[0], *out, case.kernel[-1]))
        found.append((options, x, rng.normal(size=case.kernel), rng.normal(size=(case.x[0], *sizes, case.x[-1]))))
    return found


@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_adjoint_of_the_convolution(seed: int) -> None:
    """<conv(y), x> = <y, conv_transpose(x)>, and it is the oracle's input gradient."""
    given = cases(seed, 12)

    def all_cases(arrays: list) -> list:
        return [
            [conv_transpose(x, kernel, lowering=name, **options) for name in ANY]
            for (options, *_), (x, kernel) in zip(given, arrays, strict=True)
        ]

    found = fast_jit(all_cases)([(jnp.float32(x), jnp.float32(kernel)) for _, x, kernel, _ in given])
    for (options, x, kernel, y), results in zip(given, found, strict=True):
        window = oracles.Window(kernel.shape[:-2], options["stride"], options["padding"], options["dilation"])
        forward = oracles.conv(y, kernel, window, options["groups"])
        right, _ = oracles.conv_gradients(y, kernel, x, window, options["groups"])
        for name, got in zip(ANY, results, strict=True):
            np.testing.assert_allclose(got, right, err_msg=f"{name} of {options}", **CLOSE)
            np.testing.assert_allclose(np.vdot(forward, x), np.vdot(y, np.float64(got)), rtol=1e-4, atol=1e-3)


def test_a_wrong_adjoint_is_noticed() -> None:
    [(options, x, kernel, y)] = cases(0, 1)
    window = oracles.Window(kernel.shape[:-2], options["stride"], options["padding"], options["dilation"])
    wrong, _ = oracles.conv_gradients(y, np.flip(kernel), x, window, options["groups"])
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(conv_transpose(jnp.float32(x), jnp.float32(kernel), **options), wrong, **CLOSE)


NAMES = ("stride", "dilation", "output_padding")


def test_it_is_torchs() -> None:
    torch = pytest.importorskip("torch")
    functions = {1: torch.nn.functional.conv_transpose1d, 2: torch.nn.functional.conv_transpose2d}
    functions[3] = torch.nn.functional.conv_transpose3d
    compared = beyond = 0
    rng = np.random.default_rng(10)
    for options, x, kernel, _ in cases(9, 60):
        most = map(max, options["stride"], options["dilation"])  # beyond the stride there is no adjoint, but torch's
        options["output_padding"] = [int(rng.integers(0, m)) for m in most]
        rank, low = x.ndim - 2, [lo for lo, _ in options["padding"]]  # torch pads both sides by one number
        settings = zip(x.shape[1:], kernel.shape, low, *(options[n] for n in NAMES), strict=False)
        if min((m - 1) * s - 2 * lo + (k - 1) * d + o + 1 for m, k, lo, s, d, o in settings) < 1:
            continue
        weight = torch.from_numpy(kernel).permute(rank + 1, rank, *range(rank))
        images = torch.from_numpy(x).permute(0, rank + 1, *range(1, rank + 1))
        right = functions[rank](images, weight, **{**options, "padding": low}).permute(0, *range(2, rank + 2), 1)
        same = {**options, "padding": [(lo, lo) for lo in low]}
        np.testing.assert_allclose(conv_transpose(jnp.float32(x), jnp.float32(kernel), **same), right, **CLOSE)
        compared += 1
        beyond += any(o >= s for o, s in zip(options["output_padding"], options["stride"], strict=True))
    assert compared >= 10 and beyond >= 5


def test_its_derivatives_are_convolutions(rng: np.random.Generator) -> None:
    x, kernel = jnp.float32(rng.normal(size=(2, 4, 5, 6))), jnp.float32(rng.normal(size=(3, 4, 2, 6)))
    options: dict[str, Any] = {"stride": (2, 1), "padding": 1, "groups": 2}
    y, back = jax.vjp(lambda x, k: conv_transpose(x, k, **options), x, kernel)
    dy = jnp.float32(rng.normal(size=y.shape))
    dx, dkernel = back(dy)
    np.testing.assert_allclose(dx, conv(dy, kernel, **options), **CLOSE)
    np.testing.assert_allclose(jnp.vdot(dkernel, kernel), jnp.vdot(y, dy), rtol=1e-4)
    tangent = jnp.flip(x)
    np.testing.assert_allclose(
        jax.jvp(lambda x: conv_transpose(x, kernel, **options), (x,), (tangent,))[1],
        conv_transpose(tangent, kernel, **options),
        **CLOSE,
    )


@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (3, 2), (4, 2), (1, 3), (5, 3)])
def test_same_makes_images_stride_times_as_large(kernel: int, stride: int) -> None:
    x, weights = jnp.ones((1, 5, 7, 2)), jnp.ones((kernel, kernel, 3, 2))
    y = conv_transpose(x, weights, stride=stride, padding="SAME")
    assert y.shape == (1, 5 * stride, 7 * stride, 3)
    assert conv(y, weights, stride=stride, padding="SAME").shape == x.shape


@pytest.mark.parametrize("seed", range(3))
def test_the_overlap_is_that_of_ones(seed: int) -> None:
    rng = np.random.default_rng(seed)
    kernel, stride = tuple(map(int, rng.integers(1, 6, 2))), tuple(map(int, rng.integers(1, 4, 2)))
    found = overlap_map(kernel, stride, size=3)
    ones = conv_transpose(jnp.ones((1, 12, 12, 1)), jnp.ones((*kernel, 1, 1)), stride=stride)[0, ..., 0]
    first = [-(-(k - 1) // s) * s for k, s in zip(kernel, stride, strict=True)]
    rows, columns = (slice(f, f + 3 * s) for f, s in zip(first, stride, strict=True))
    np.testing.assert_array_equal(found, ones[rows, columns])


def test_the_overlap_is_uniform_exactly_when_the_stride_divides_the_kernel() -> None:
    for kernel in range(1, 10):
        for stride in range(1, 6):
            found = overlap_map(kernel, stride)
            assert found.shape == (4 * stride,) * 2, "an int means all axes"
            assert (np.ptp(found) == 0) == (kernel % stride == 0)
            np.testing.assert_array_equal(
                np.diag(overlap_map(kernel, stride, rank=2)), overlap_map((kernel,), stride) ** 2
            )


ERRORS: dict[str, tuple[tuple, tuple, dict, str]] = {
    "channels": ((1, 4, 4, 3), (3, 3, 3, 6), {}, r"has 3 channels, so expected a kernel of shape \(3, 3, 3, 3\), got"),
    "rank": ((1, 4, 4, 3), (3, 3, 3), {}, r"kernel: expected 2 window axes, features / groups and C"),
    "groups": ((1, 4, 4, 6), (3, 3, 3, 6), {"groups": 4}, "groups: expected a positive number that divides the 6"),
    "output padding": ((1, 4, 3), (3, 2, 3), {"output_padding": 1}, "output_padding: expected less than the stride or"),
    "same": (
        (1, 5, 1),
        (3, 1, 1),
        {"padding": "SAME", "dilation": 3, "output_padding": 2},
        "output_padding: expected 0 with padding 'SAME', which makes outputs of the stride times x's size, got 2",
    ),
    "padding": (
        (1, 1, 3),
        (2, 2, 3),
        {"padding": 1},
        r"padding \(1, 1\) cuts off all of an output of 2; expected less",
    ),
    "edge padding": ((1, 4, 3), (3, 2, 3), {"padding": "CIRCULAR"}, "padding: expected an int, pairs, None, 'SAME'"),
    "lowering": ((1, 4, 3), (3, 2, 3), {"lowering": "shift"}, "'shift' is only for one channel a group"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_say_what_was_expected(name: str) -> None:
    x, kernel, options, message = ERRORS[name]
    with pytest.raises(ValueError, match=message):
        conv_transpose(jnp.ones(x), jnp.ones(kernel), **options)


def test_bias(rng: np.random.Generator) -> None:
    x, kernel = jnp.float32(rng.normal(size=(1, 4, 3))), jnp.float32(rng.normal(size=(3, 2, 3)))
    np.testing.assert_allclose(conv_transpose(x, kernel, jnp.ones(2)), conv_transpose(x, kernel) + 1, **CLOSE)
    with pytest.raises(ValueError, match=r"bias: expected shape \(2,\)"):
        conv_transpose(x, kernel, jnp.ones(3))


def test_every_lowering_is_listed() -> None:
    assert {*ANY, "shift", "matmul", "winograd", "winograd4", "space_to_depth"} >= {*LOWERINGS}
