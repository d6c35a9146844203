"""The matrix of a convolution and the adjoint of im2col: the naive oracle on every basis vector, laws, errors."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv import conv
from jconv.ops import col2im, conv_matrix, im2col
from jconv.ops.window import axes
from tests import oracles
from tests.catalogue import fast_jit
from tests.oracles import Case, Window, random_case

CLOSE: dict[str, Any] = {"rtol": 1e-5, "atol": 5e-5}
PADDINGS = ["SAME", "SAME_LOWER", "VALID", "CAUSAL", "CIRCULAR", "REFLECT", None, 2, ((0, 1), (2, 0))]
WINDOW: dict[str, Any] = {"stride": (2, 1), "dilation": (1, 2)}


def options(case: Case) -> dict[str, Any]:
    w = case.window
    return {"stride": w.stride, "padding": w.pads, "dilation": w.dilation, "groups": case.groups}


def basis(sizes: tuple[int, ...], channels: int) -> np.ndarray:
    """A batch of images, each of one element."""
    return np.eye(math.prod(sizes) * channels).reshape(-1, *sizes, channels)


def right_matrix(case: Case, kernel: np.ndarray) -> np.ndarray:
    """Column by column: what the oracle makes of each basis vector."""
    y = oracles.conv(basis(case.x[1:-1], case.x[-1]), kernel, case.window, case.groups)
    return y.reshape(len(y), -1).T


def random_cases(seed: int, count: int) -> list[Case]:
    """Small ones of one to three axes, so that the matrix is small."""
    rng, cases = np.random.default_rng(seed), []
    while len(cases) < count:
        case = random_case(rng)
        if math.prod(case.x[1:]) <= 300 and math.prod(case.window.out(case.x[1:-1])) <= 200:
            cases.append(case)
    return cases


@pytest.mark.parametrize("seed", range(4))
def test_the_matrix_is_the_oracles_dense_and_sparse_and_so_is_its_gradient(seed: int) -> None:
    rng, cases = np.random.default_rng(seed), random_cases(seed, 8)
    kernels = [rng.normal(size=case.kernel) for case in cases]
    matrices = [right_matrix(case, kernel) for case, kernel in zip(cases, kernels, strict=True)]
    weights = [rng.normal(size=m.shape) for m in matrices]  # a cotangent for every entry of the matrix

    @fast_jit
    def run(kernels: list[jax.Array], weights: list[jax.Array]) -> list:
        found = []
        for case, kernel, dm in zip(cases, kernels, weights, strict=True):
            f = partial(conv_matrix, sizes=case.x[1:-1], **options(case))
            dense, back = jax.vjp(f, kernel)
            sparse, sparse_back = jax.vjp(lambda k, f=f: f(k, sparse=True).todense(), kernel)
            found.append(((dense, sparse), (back(dm)[0], sparse_back(dm)[0])))
        return found

    for case, kernel, right, dm, (values, gradients) in zip(
        cases, kernels, matrices, weights, run(*jax.tree.map(jnp.float32, (kernels, weights))), strict=True
    ):
        for got in values:
            np.testing.assert_allclose(got, right, err_msg=str(case), **CLOSE)
        for got in gradients:  # the matrix is linear in the kernel: its value at the gradient's own direction
            direction = rng.normal(size=kernel.shape)
            slope = np.vdot(dm, right_matrix(case, direction))
            np.testing.assert_allclose(np.vdot(got, direction), slope, rtol=1e-4, atol=1e-3, err_msg=str(case))


CASE = Case((1, 7, 6, 4), (3, 2, 2, 6), Window((3, 2), (2, 1), ((0, 1), (2, 0)), (1, 2)), 2)


def test_a_wrong_matrix_is_noticed(rng: np.random.Generator) -> None:
    kernel = rng.normal(size=CASE.kernel)
    right = conv_matrix(jnp.float32(kernel), CASE.x[1:-1], **options(CASE))
    np.testing.assert_allclose(right, right_matrix(CASE, kernel), **CLOSE)
    for wrong in (
        right_matrix(CASE, kernel[::-1]),
        right_matrix(CASE, kernel[..., [0, 3, 1, 4, 2, 5]]),
        right_matrix(CASE._replace(window=CASE.window._replace(pads=((1, 0), (0, 2)))), kernel),
    ):
        assert not np.allclose(right, wrong, **CLOSE)


@pytest.mark.parametrize("padding", PADDINGS)
def test_the_matrix_times_x_is_the_convolution_and_its_transpose_the_transposed(rng, padding) -> None:
    x, kernel = jnp.float32(rng.normal(size=(7, 6, 4))), jnp.float32(rng.normal(size=(3, 2, 2, 6)))
    f = partial(conv, kernel=kernel, padding=padding, groups=2, lowering="lax", **WINDOW)

    @fast_jit
    def run(x: jax.Array, dy: jax.Array) -> Any:
        matrix = partial(conv_matrix, kernel, (7, 6), padding=padding, groups=2, **WINDOW)
        right = f(x[None])[0].ravel(), jax.linear_transpose(f, x[None])(dy)[0].ravel()
        return right, [(m @ x.ravel(), m.T @ dy.ravel()) for m in (matrix(), matrix(sparse=True))]

    dy = jnp.float32(rng.normal(size=jax.eval_shape(f, x[None]).shape))
    right, found = run(x, dy)
    for got in found:
        jax.tree.map(partial(np.testing.assert_allclose, **CLOSE), got, right)


@pytest.mark.parametrize("padding", ["CIRCULAR", "REFLECT"])
def test_two_taps_may_meet_one_element_on_the_border(padding: str) -> None:
    f = partial(conv_matrix, jnp.array([1.0, 2.0, 4.0]).reshape(3, 1, 1), (2,), padding=padding)
    np.testing.assert_array_equal(f(), [[2, 5], [5, 2]])
    np.testing.assert_array_equal(f(sparse=True).todense(), f())


@pytest.mark.parametrize("size", [3, 5, 9])
def test_a_convolution_is_a_fully_connected_layer_with_tied_and_absent_weights(rng, size: int) -> None:
    kernel = jnp.float32(rng.normal(size=(3, 3, 2, 4)))
    matrix = np.asarray(conv_matrix(kernel, (size, size), stride=2, padding=1, groups=2))
    assert len(np.unique(matrix)) <= kernel.size + 1  # and zero
    valid = math.prod(a.valid_taps(size) for a in axes((size, size), (3, 3), stride=2, padding=1))
    assert np.count_nonzero(matrix) == valid * 2 * 4  # the multiply-adds that XLA counts


def test_a_sparse_matrix_holds_its_weights_in_order_and_is_never_dense(rng: np.random.Generator) -> None:
    kernel = jnp.float32(rng.normal(size=CASE.kernel))
    f = partial(conv_matrix, sizes=CASE.x[1:-1], sparse=True, **options(CASE))
    sparse, dense = f(kernel), right_matrix(CASE, np.asarray(kernel))
    assert sparse.nse == np.count_nonzero(dense)
    rows, columns = np.asarray(sparse.indices).T
    assert (np.diff(rows * dense.shape[1] + columns) > 0).all()
    jaxpr = jax.make_jaxpr(lambda k: f(k).data)(kernel)
    assert max(v.aval.size for eqn in jaxpr.eqns for v in eqn.outvars) < dense.size / 4


def test_the_matrix_under_jit_and_vmap_and_in_half_precision(rng: np.random.Generator) -> None:
    kernels = jnp.float32(rng.normal(size=(2, 3, 1, 2)))
    f = partial(conv_matrix, sizes=(5,), padding=1)
    right = jnp.stack([f(k) for k in kernels])
    np.testing.assert_array_equal(fast_jit(jax.vmap(f))(kernels), right)
    half = f(kernels[0].astype(jnp.bfloat16))
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), right[0], rtol=0.01)


# col2im


@pytest.mark.parametrize("seed", range(2))
def test_col2im_adds_every_row_where_it_was_taken(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cases = [random_case(rng) for _ in range(8)]
    rows = [rng.normal(size=(c.x[0], *c.window.out(c.x[1:-1]), math.prod(c.kernel[:-2]) * c.x[-1])) for c in cases]
    settings = [{k: v for k, v in options(c).items() if k != "groups"} for c in cases]

    @fast_jit
    def run(rows: list[jax.Array]) -> list[jax.Array]:
        return [col2im(r, c.x[1:-1], c.kernel[:-2], **o) for r, c, o in zip(rows, cases, settings, strict=True)]

    for case, given, got in zip(cases, rows, run(jax.tree.map(jnp.float32, rows)), strict=True):
        padded = oracles.pad(np.zeros(case.x), case.window.pads)
        parts = np.split(given, math.prod(case.kernel[:-2]), axis=-1)
        for (_, where), part in zip(case.window.taps(case.x[1:-1]), parts, strict=True):
            padded[where] += part
        inside = [slice(lo, lo + n) for (lo, _), n in zip(case.window.pads, case.x[1:-1], strict=True)]
        np.testing.assert_allclose(got, padded[:, *inside], err_msg=str(case), **CLOSE)


@pytest.mark.parametrize("padding", PADDINGS)
def test_col2im_is_the_adjoint_of_im2col(rng: np.random.Generator, padding: Any) -> None:
    """<im2col(x), rows> = <x, col2im(rows)>, and the two are each other's gradients."""
    x = jnp.float32(rng.normal(size=(2, 7, 6, 3)))
    there = partial(im2col, kernel=(3, 2), padding=padding, **WINDOW)
    back = partial(col2im, sizes=(7, 6), kernel=(3, 2), padding=padding, **WINDOW)
    rows = jnp.float32(rng.normal(size=jax.eval_shape(there, x).shape))

    @fast_jit
    def run(x: jax.Array, rows: jax.Array) -> Any:
        patches, image = there(x), back(rows)
        return jnp.vdot(patches, rows), jnp.vdot(x, image), patches, jax.vjp(back, rows)[1](x)[0]

    of_rows, of_x, patches, gradient = run(x, rows)
    np.testing.assert_allclose(of_rows, of_x, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(gradient, patches, **CLOSE)


def test_col2im_of_im2col_counts_the_windows_that_see_each_element() -> None:
    x = 1.0 + jnp.arange(6.0).reshape(1, 6, 1)
    np.testing.assert_array_equal(col2im(im2col(x, 3), (6,), 3), x * jnp.array([1, 2, 3, 3, 2, 1.0])[:, None])


@pytest.mark.parametrize("order", [1, -1])
def test_col2im_adds_half_precision_in_float32(order: int) -> None:
    taps = jnp.full(9, 2.0**-8).at[0].set(1.0)[::order]  # 1 + 2^-8 is 1 in bfloat16, but all nine are 1 + 2^-5
    image = fast_jit(partial(col2im, sizes=(17,), kernel=9))(jnp.tile(taps, (1, 9, 1)).astype(jnp.bfloat16))
    assert image.dtype == jnp.bfloat16
    assert image[0, 8, 0] == 1 + 2.0**-5


# Errors


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 3, 8), r"rows: for an image of sizes \(4, 4\) expected shape \(N, 3, 3, 9 C\), got \(1, 3, 3, 8\)"),
        ((1, 4, 3, 9), r"expected shape \(N, 3, 3, 9 C\), got \(1, 4, 3, 9\); give the window that im2col had"),
        ((3, 3, 9), r"got \(3, 3, 9\)"),
    ],
)
def test_rows_that_no_image_has(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        col2im(jnp.zeros(shape), (4, 4), 3, padding=((1, 0), (0, 1)))


def test_a_matrix_has_the_errors_of_the_convolution() -> None:
    with pytest.raises(ValueError, match=r"kernel: expected 1 window axes"):
        conv_matrix(jnp.zeros((3, 3, 1, 1)), (5,))
    with pytest.raises(ValueError, match=r"a window of 3 .* does not fit an input of 2"):
        conv_matrix(jnp.zeros((3, 1, 1)), (2,))
    with pytest.raises(ValueError, match=r"groups: expected a positive number"):
        conv_matrix(jnp.zeros((3, 1, 3)), (5,), groups=2)
    with pytest.raises(ValueError, match=r"CIRCULAR can take at most 1 elements"):
        conv_matrix(jnp.zeros((5, 1, 1)), (1,), padding="circular")


def test_an_int_is_every_size(rng: np.random.Generator) -> None:
    kernel, rows = jnp.float32(rng.normal(size=(3, 3, 2, 2))), jnp.float32(rng.normal(size=(1, 3, 3, 18)))
    np.testing.assert_array_equal(conv_matrix(kernel, 5), conv_matrix(kernel, (5, 5)))
    np.testing.assert_array_equal(col2im(rows, 5, 3), col2im(rows, (5, 5), 3))
