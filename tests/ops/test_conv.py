"""The convolution: every lowering is the naive oracle, in value and both gradients; its laws; its errors."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from jconv import conv, conv_transpose
from jconv.ops import im2col
from jconv.ops.lowerings import LOWERINGS, chunks
from tests import oracles
from tests.catalogue import fast_jit
from tests.oracles import Case, Window, random_case, varied

ANY = ("lax", "im2col", "chunked", "kn2row", "auto")  # those that take every convolution, and fft
CLOSE: dict[str, Any] = {"rtol": 1e-5, "atol": 5e-5}  # float32, sums of at most some hundred products

Numbers = tuple[np.ndarray, np.ndarray, np.ndarray]


def lowerings(case: Case) -> list[str]:
    """The lowerings that take this case."""
    depthwise = case.groups == case.x[-1]
    w, dense = case.window, case.groups == 1
    matmul = dense and all(k == 1 or (k, d) == (s, 1) for k, s, d in zip(w.kernel, w.stride, w.dilation, strict=True))
    winograd = dense and set(w.kernel) == {3} and {*w.stride, *w.dilation} == {1}
    blocks = dense and w.stride[-1] > 1
    some = {
        "shift": depthwise,
        "matmul": matmul,
        "winograd": winograd,
        "winograd4": winograd and len(w.kernel) < 3,
        "space_to_depth": blocks,
        "fft": len(w.kernel) == 1 or {*w.stride} == {1},  # a stride is a slice of it, along one axis as along three
    }
    return [*ANY, *(name for name, takes in some.items() if takes)]


def options(case: Case) -> dict:
    w = case.window
    padding = w.pads if case.padding == "pairs" else case.padding
    return {"stride": w.stride, "padding": padding, "dilation": w.dilation, "groups": case.groups, "flip": case.flip}


def value_and_gradients(case: Case, lowering: str, x: jax.Array, kernel: jax.Array, dy: jax.Array) -> Any:
    """y and both gradients; by the transposed convolution they are its value and gradients in another order."""
    if not case.transposed:
        y, back = jax.vjp(partial(conv, lowering=lowering, **options(case)), x, kernel)
        return (y, *back(dy))
    w, own = case.window, options(case)
    del own["flip"]
    over = [
        (n + sum(p) - (k - 1) * d - 1) % s
        for n, p, k, s, d in zip(case.x[1:-1], w.pads, w.kernel, w.stride, w.dilation, strict=True)
    ]
    dx, back = jax.vjp(partial(conv_transpose, lowering=lowering, output_padding=over, **own), dy, kernel)
    y, dkernel = back(x)
    return y, dx, dkernel


def random_numbers(rng: np.random.Generator, case: Case) -> Numbers:
    """x, kernel and a cotangent."""
    y = (case.x[0], *case.window.out(case.x[1:-1]), case.kernel[-1])
    return rng.normal(size=case.x), rng.normal(size=case.kernel), rng.normal(size=y)


def expected(case: Case, numbers: Numbers) -> Numbers:
    """The oracle's value and both gradients."""
    x, kernel, dy = numbers
    turn = (slice(None, None, -1),) * len(case.window.kernel) if case.flip else ()
    y = oracles.conv(x, kernel[turn], case.window, case.groups)
    dx, dkernel = oracles.conv_gradients(x, kernel[turn], dy, case.window, case.groups)
    return y, dx, dkernel[turn]


def computed(cases: list[Case], numbers: list[Numbers], dtype: str) -> list[dict[str, Numbers]]:
    """Value and both gradients by every lowering: one program for all, because compiling is what takes time."""

    def all_cases(numbers: list) -> list:
        results = []
        for case, arrays in zip(cases, numbers, strict=True):
            results.append({name: value_and_gradients(case, name, *arrays) for name in lowerings(case)})
        return results

    return fast_jit(all_cases)(jax.tree.map(lambda a: jnp.asarray(a, dtype), numbers))


def compare(case: Case, results: dict[str, Numbers], right: Numbers, **close: Any) -> None:
    for lowering, got in results.items():
        own = {name: value * oracles.ROUNDING.get(lowering, 1) for name, value in close.items()}
        for name, g, r in zip(("value", "input gradient", "kernel gradient"), got, right, strict=True):
            np.testing.assert_allclose(g, r, err_msg=f"{lowering}, {name} of {case}", **own)


CHUNKS = (300, 3000, chunks.CHUNK)  # bytes: bands of an image, some images, everything at once


@pytest.mark.parametrize("seed", range(16))
def test_every_lowering_is_the_oracle(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """256 random convolutions as XLA compiles them, in value and both gradients; `tests.fuzz` has thousands more."""
    monkeypatch.setattr(chunks, "CHUNK", CHUNKS[seed % 3])
    rng = np.random.default_rng(seed)
    cases = [varied(rng, random_case(rng)) for _ in range(16)]
    numbers = [random_numbers(rng, case) for case in cases]
    for case, given, results in zip(cases, numbers, computed(cases, numbers, "float32"), strict=True):
        assert {r.dtype for r in jax.tree.leaves(results)} == {jnp.dtype("float32")}
        compare(case, results, expected(case, given), **CLOSE)


def test_every_lowering_is_the_oracle_in_float64(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK", CHUNKS[0])
    cases = [varied(rng, random_case(rng)) for _ in range(16)]
    numbers = [random_numbers(rng, case) for case in cases]
    with jax.enable_x64(True):
        found = computed(cases, numbers, "float64")
    for case, given, results in zip(cases, numbers, found, strict=True):
        assert {r.dtype for r in jax.tree.leaves(results)} == {jnp.dtype("float64")}
        compare(case, results, expected(case, given), rtol=1e-10, atol=1e-10)


def test_every_lowering_is_among_them() -> None:
    cases = [random_case(np.random.default_rng(seed)) for seed in range(100)]
    assert {name for case in cases for name in lowerings(case)} == {"auto", *LOWERINGS}


def test_the_random_cases_are_of_every_kind() -> None:
    streams = [np.random.default_rng(seed) for seed in range(300)]
    cases = [varied(rng, random_case(rng)) for rng in streams]
    for kind in (
        lambda c: len(c.x) == 3, lambda c: len(c.x) == 4, lambda c: len(c.x) == 5,
        lambda c: c.x[0] == 1, lambda c: c.x[0] > 1,
        lambda c: any(lo != hi for lo, hi in c.window.pads),
        lambda c: any(k % 2 == 0 for k in c.window.kernel), lambda c: len({*c.window.kernel}) > 1,
        lambda c: max(c.window.stride) > 1 and max(c.window.dilation) > 1,
        lambda c: c.groups > 1 and c.kernel[-2] == 1, lambda c: c.groups > 1 and c.kernel[-2] > 1,
        lambda c: any(w.kernel[0] > n for w in [c.window] for n in c.x[1:2]),
        lambda c: c.transposed and max(c.window.stride) > 1, lambda c: c.flip,
        lambda c: c.padding in oracles.NAMED, lambda c: c.padding in ("SAME", "SAME_LOWER", "CAUSAL"),
        lambda c: max(c.window.kernel) > 1 and c.window.kernel == c.window.stride,
    ):  # fmt: skip
        assert sum(map(kind, cases)) >= 10


def test_torch_agrees(rng: np.random.Generator) -> None:
    """A second oracle, which nobody here has written: value and both gradients."""
    torch = pytest.importorskip("torch")
    functions = {3: torch.nn.functional.conv1d, 4: torch.nn.functional.conv2d, 5: torch.nn.functional.conv3d}
    for _ in range(100):
        case = random_case(rng)
        x, kernel, dy = random_numbers(rng, case)
        rank, w = len(case.window.kernel), case.window
        last = (0, rank + 1, *range(1, rank + 1))
        images = torch.tensor(oracles.pad(x, w.pads)).permute(last).requires_grad_()
        weight = torch.tensor(kernel).permute(rank + 1, rank, *range(rank)).contiguous().requires_grad_()
        y = functions[x.ndim](images, weight, stride=w.stride, dilation=w.dilation, groups=case.groups)
        dx, dkernel = torch.autograd.grad(y, (images, weight), torch.tensor(dy).permute(last))
        back, inside = (
            (0, *range(2, rank + 2), 1),
            [slice(lo, lo + n) for (lo, _), n in zip(w.pads, x.shape[1:], strict=False)],
        )
        theirs = y.detach().permute(back), dx.permute(back)[:, *inside], dkernel.permute(*range(2, rank + 2), 1, 0)
        for ours, right in zip(expected(case, (x, kernel, dy)), theirs, strict=True):
            np.testing.assert_allclose(ours, right, rtol=1e-10, atol=1e-10)


# The oracle itself


def test_the_oracle_is_numpys_correlation(rng: np.random.Generator) -> None:
    x, kernel = rng.normal(size=(1, 11, 1)), rng.normal(size=(4, 1, 1))
    y = oracles.conv(x, kernel, Window((4,), (1,), ((0, 0),), (1,)))
    np.testing.assert_allclose(y[0, :, 0], np.correlate(x[0, :, 0], kernel[:, 0, 0], "valid"))


def test_the_oracles_gradients_are_its_transposes(rng: np.random.Generator) -> None:
    for _ in range(50):
        case = random_case(rng)
        x, kernel, dy = random_numbers(rng, case)
        dx, dkernel = oracles.conv_gradients(x, kernel, dy, case.window, case.groups)
        y = oracles.conv(x, kernel, case.window, case.groups)
        np.testing.assert_allclose([np.vdot(dx, x), np.vdot(dkernel, kernel)], np.vdot(dy, y), rtol=1e-9, atol=1e-9)


CASE = Case((2, 7, 6, 4), (3, 2, 2, 6), Window((3, 2), (2, 1), ((0, 1), (2, 0)), (1, 2)), 2)
MISTAKES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "flipped": lambda x, k: oracles.conv(x, k[::-1], CASE.window, 2),
    "taps transposed": lambda x, k: oracles.conv(x, k.reshape(2, 3, 2, 6).swapaxes(0, 1), CASE.window, 2),
    "pads swapped": lambda x, k: oracles.conv(x, k, CASE.window._replace(pads=((1, 0), (0, 2))), 2),
    "groups interleaved": lambda x, k: oracles.conv(x[..., [0, 2, 1, 3]], k, CASE.window, 2),
    "features of groups interleaved": lambda x, k: oracles.conv(x, k[..., [0, 3, 1, 4, 2, 5]], CASE.window, 2),
    "one tap forgotten": lambda x, k: oracles.conv(x, k * (np.arange(3) > 0)[:, None, None, None], CASE.window, 2),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_wrong_answer_is_noticed(rng: np.random.Generator, mistake: str) -> None:
    numbers = random_numbers(rng, CASE)
    right = expected(CASE, numbers)
    compare(CASE, {"right": right}, right, **CLOSE)
    wrong = MISTAKES[mistake](*numbers[:2])
    with pytest.raises(AssertionError, match=re.escape("wrong, value of Case(x=(2, 7, 6, 4)")):
        compare(CASE, {"wrong": (wrong, *right[1:])}, right, **CLOSE)


# Padding by name


@pytest.mark.parametrize("padding", oracles.PADDINGS)
def test_padding_by_name(rng: np.random.Generator, padding: str | int | None) -> None:
    for (h, w), kernel, stride, dilation in (
        ((7, 8), (3, 4), (2, 3), (1, 2)),
        ((6, 9), (2, 5), (1, 1), (3, 1)),
        ((8, 5), (1, 3), (3, 2), (2, 1)),
    ):
        settings = zip((h, w), kernel, stride, dilation, strict=True)
        pads = tuple(oracles.named_pads(padding, *axis) for axis in settings)
        x, k = rng.normal(size=(2, h, w, 2)), rng.normal(size=(*kernel, 2, 3))
        window = Window(kernel, stride, pads, dilation, oracles.NAMED.get(str(padding), "constant"))
        right = oracles.conv(x, k, window)
        spelled = [padding, padding.lower()] if isinstance(padding, str) else [padding]
        for name in spelled:
            y = conv(f32(x), f32(k), stride=stride, padding=name, dilation=dilation)
            np.testing.assert_allclose(y, right, **CLOSE)


def test_same_has_ceil_sizes_and_circular_and_reflect_share_them() -> None:
    for n in range(3, 12):
        for stride in (1, 2, 3):
            for padding in ("SAME", "SAME_LOWER", "CIRCULAR", "REFLECT"):
                f = partial(conv, stride=stride, padding=padding)
                y = jax.eval_shape(f, *map(jnp.zeros, ((1, n, 1), (3, 1, 1))))
                assert y.shape[1] == -(-n // stride)


def test_causal_sees_no_later_input(rng: np.random.Generator) -> None:
    x, kernel = f32(rng.normal(size=(1, 9, 2))), f32(rng.normal(size=(3, 2, 2)))
    f = partial(conv, padding="CAUSAL", dilation=2)
    changed = x.at[:, 5:].add(1.0)
    before, after = f(x, kernel), f(changed, kernel)
    np.testing.assert_array_equal(before[:, :5], after[:, :5])
    assert not np.allclose(before[:, 5], after[:, 5])


# Laws


def f32(a: np.ndarray) -> jax.Array:
    return jnp.asarray(a, jnp.float32)


@pytest.fixture(params=ANY)
def lowering(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def f(lowering: str) -> Callable[..., jax.Array]:
    """A convolution with stride, asymmetric padding, dilation and groups."""
    return partial(conv, lowering=lowering, **options(CASE))


@pytest.fixture
def arrays(rng: np.random.Generator) -> list[jax.Array]:
    """x, kernel and cotangent for f."""
    return [f32(a) for a in random_numbers(rng, CASE)]


def test_linear_in_x_and_in_kernel(f, arrays) -> None:
    x, kernel, _ = arrays
    u, v = jnp.flip(x), jnp.flip(kernel)
    np.testing.assert_allclose(f(2 * x - 3 * u, kernel), 2 * f(x, kernel) - 3 * f(u, kernel), **CLOSE)
    np.testing.assert_allclose(f(x, 2 * kernel - 3 * v), 2 * f(x, kernel) - 3 * f(x, v), **CLOSE)


def test_forward_mode_is_the_difference_of_a_linear_map(f, arrays) -> None:
    x, kernel, _ = arrays
    u, v = jnp.flip(x), jnp.flip(kernel)
    y, dy = jax.jvp(f, (x, kernel), (u, v))
    np.testing.assert_allclose(y, f(x, kernel), **CLOSE)
    np.testing.assert_allclose(dy, f(x + u, kernel) - f(x, kernel) + f(x, kernel + v) - f(x, kernel), **CLOSE)


def test_second_derivatives(f, arrays) -> None:
    """The Hessian of |conv(x)|² / 2 times u is the transposed convolution of conv(u)."""
    x, kernel, _ = arrays
    u = jnp.flip(x)
    hvp = jax.jvp(jax.grad(lambda x: 0.5 * jnp.sum(f(x, kernel) ** 2)), (x,), (u,))[1]
    dy = np.asarray(f(u, kernel))
    right, _ = oracles.conv_gradients(np.asarray(x), np.asarray(kernel), dy, CASE.window, CASE.groups)
    np.testing.assert_allclose(hvp, right, rtol=1e-4, atol=1e-4)
    mixed = jax.grad(lambda k: jnp.sum(jax.grad(lambda x: jnp.sum(f(x, k) ** 3))(x) * u))(kernel)
    assert np.isfinite(mixed).all()
    assert np.any(mixed)


def test_jit_is_eager_and_vmap_is_the_batch(f, arrays) -> None:
    x, kernel, _ = arrays
    y = f(x, kernel)
    np.testing.assert_allclose(jax.jit(f)(x, kernel), y, **CLOSE)
    np.testing.assert_allclose(jax.vmap(f, (0, None))(x[:, None], kernel)[:, 0], y, **CLOSE)
    kernels = jnp.stack([kernel, jnp.flip(kernel)])
    np.testing.assert_allclose(jax.vmap(f, (None, 0))(x, kernels)[1], f(x, kernels[1]), **CLOSE)


def test_bfloat16_in_bfloat16_out(f, arrays) -> None:
    x, kernel, dy = arrays
    y, back = jax.vjp(f, x.astype(jnp.bfloat16), kernel)
    dx, dkernel = back(dy.astype(jnp.bfloat16))
    assert (y.dtype, dx.dtype, dkernel.dtype) == (jnp.bfloat16, jnp.bfloat16, jnp.float32)
    right, right_back = jax.vjp(f, x, kernel)
    for got, r in zip((y, dx, dkernel), (right, *right_back(dy)), strict=True):
        np.testing.assert_allclose(got.astype(jnp.float32), r, rtol=0.05, atol=0.1)


def test_flip_is_the_mathematicians_convolution(rng: np.random.Generator, lowering: str) -> None:
    x, kernel = rng.normal(size=(1, 9, 1)), rng.normal(size=(4, 1, 1))
    y = conv(f32(x), f32(kernel), padding=3, flip=True, lowering=lowering)
    np.testing.assert_allclose(y[0, :, 0], np.convolve(x[0, :, 0], kernel[:, 0, 0]), **CLOSE)


def test_bias_is_added_to_each_feature(f, arrays, rng: np.random.Generator) -> None:
    x, kernel, dy = arrays
    bias = f32(rng.normal(size=6))
    y, back = jax.vjp(lambda bias: f(x, kernel, bias), bias)
    np.testing.assert_allclose(y, f(x, kernel) + bias, **CLOSE)
    np.testing.assert_allclose(back(dy)[0], dy.sum((0, 1, 2)), **CLOSE)


def test_groups_are_blocks(f, arrays) -> None:
    x, kernel, _ = arrays
    one = partial(f, groups=1)
    parts = [one(x[..., c], kernel[..., k]) for c, k in oracles.blocks(4, 6, 2)]
    np.testing.assert_allclose(f(x, kernel), jnp.concatenate(parts, axis=-1), **CLOSE)


def test_one_by_one_is_a_matmul(arrays, lowering: str, rng: np.random.Generator) -> None:
    x, matrix = arrays[0], f32(rng.normal(size=(4, 5)))
    np.testing.assert_allclose(conv(x, matrix[None, None], lowering=lowering), x @ matrix, **CLOSE)


@pytest.mark.parametrize("padding", [0, ((0, 1), (2, 0)), "SAME", "CIRCULAR", "REFLECT"])
def test_patches_times_kernel_is_the_convolution(arrays, padding, rng: np.random.Generator) -> None:
    x, kernel = arrays[0], f32(rng.normal(size=(3, 2, 4, 5)))
    window = {"stride": (2, 1), "padding": padding, "dilation": (1, 2)}
    rows = im2col(x, (3, 2), **window)
    np.testing.assert_allclose(rows @ kernel.reshape(-1, 5), conv(x, kernel, **window), **CLOSE)


def test_patches_are_the_windows(rng: np.random.Generator) -> None:
    x = f32(rng.normal(size=(2, 6, 7, 3)))
    rows = im2col(x, (2, 3), stride=2)
    np.testing.assert_array_equal(rows[1, 2, 1], np.asarray(x)[1, 4:6, 2:5].ravel())


def test_shift_equivariant_on_a_circle(rng: np.random.Generator, lowering: str) -> None:
    x, kernel = f32(rng.normal(size=(2, 8, 6, 2))), f32(rng.normal(size=(3, 4, 2, 3)))
    f = partial(conv, kernel=kernel, padding="CIRCULAR", lowering=lowering)
    np.testing.assert_allclose(f(jnp.roll(x, (3, 5), (1, 2))), jnp.roll(f(x), (3, 5), (1, 2)), **CLOSE)
    halved = partial(f, stride=2)
    np.testing.assert_allclose(halved(jnp.roll(x, (2, 4), (1, 2))), jnp.roll(halved(x), (1, 2), (1, 2)), **CLOSE)


def test_numpy_arrays_and_lists_of_numbers_are_welcome(arrays) -> None:
    x, kernel, _ = arrays
    y = conv(np.asarray(x), np.asarray(kernel), stride=[2, 1], padding=[[0, 1], [2, 0]], dilation=[1, 2], groups=2)  # pyright: ignore[reportArgumentType]
    np.testing.assert_allclose(y, conv(x, kernel, **options(CASE)), **CLOSE)


# The lowering follows the platform that the program is for


@pytest.mark.parametrize("platform", ["cpu", "cuda", "rocm", "tpu"])
def test_auto_chooses_where_the_program_will_run(platform: str) -> None:
    def text(lowering: str) -> str:
        f = jax.jit(jax.grad(lambda x, k: conv(x, k, groups=8, lowering=lowering).sum(), (0, 1)))
        shapes = (jax.ShapeDtypeStruct(s, jnp.float32) for s in ((1, 9, 9, 8), (3, 3, 1, 8)))
        return export.export(f, platforms=[platform])(*shapes).mlir_module()

    convolution = "stablehlo.convolution"
    assert convolution in text("lax")
    assert convolution not in text("shift")
    assert (convolution in text("auto")) == (platform != "cpu")


# Errors

X, K = (2, 8, 8, 4), (3, 3, 4, 6)
ERRORS: dict[str, tuple[tuple, tuple, dict, str]] = {
    "no spatial axis": ((2, 4), (4, 6), {}, r"x: expected \(N, W, C\), .*got shape \(2, 4\)"),
    "one image": ((8, 4), (3, 4, 6), {}, r"x: .*got shape \(8, 4\); a single image needs a batch axis: x\[None\]"),
    "rank 4": ((1, 2, 2, 2, 2, 4), K, {}, r"x: expected .*\(N, D, H, W, C\), got shape \(1, 2, 2, 2, 2, 4\)"),
    "kernel's rank": (X, (3, 4, 6), {}, r"kernel: expected 2 window axes.*got shape \(3, 4, 6\); reshape .* to 4 axes"),
    "an image without batch axis": ((8, 8, 4), K, {}, r"kernel: expected 1 window axes.*x of shape \(8, 8, 4\)"),
    "groups and channels": (X, K, {"groups": 3}, r"groups: expected .* divides the 4 channels .* 6 features .*got 3"),
    "groups and features": (X, (3, 3, 2, 5), {"groups": 2}, r"groups: .* the 5 features of the kernel, got 2"),
    "no groups": (X, K, {"groups": 0}, r"groups: expected a positive number"),
    "half a group": (X, K, {"groups": 1.0}, r"groups: expected a positive number that divides .*, got 1\.0"),
    "a word for groups": (X, K, {"groups": "1"}, r"groups: expected a positive number that divides .*, got '1'"),
    "no image": ((1, 0, 8, 4), K, {"padding": 3}, r"x: expected positive spatial sizes, got shape \(1, 0, 8, 4\)"),
    "kernel's channels": (X, (3, 3, 3, 6), {}, r"kernel: .* shape \(3, 3, 4, 6\), got \(3, 3, 3, 6\)"),
    "kernel's group": (X, K, {"groups": 2}, r"kernel: .* in 2 group\(s\), so .* shape \(3, 3, 2, 6\)"),
    "bias": (X, K, {"bias": jnp.zeros(4)}, r"bias: expected shape \(6,\), one for each feature, got \(4,\)"),
    "negative padding": (X, K, {"padding": -1}, r"padding: expected non-negative sizes, got -1"),
    "negative pair": (X, K, {"padding": ((0, 0), (0, -1))}, r"padding: expected non-negative sizes, got \(0, -1\)"),
    "three pairs": (X, K, {"padding": ((1, 1),) * 3}, r"padding: expected 2 pairs \(lo, hi\)"),
    "a pair of three": (X, K, {"padding": ((1, 1, 1), (1, 1))}, r"padding: expected an int or 2 ints"),
    "three strides": (X, K, {"stride": (1, 2, 1)}, r"stride: .* 2 ints, one for each of the 2 spatial axes"),
    "zero stride": (X, K, {"stride": 0}, r"stride: expected positive sizes, got 0"),
    "half a stride": (X, K, {"stride": 0.5}, r"stride: expected an int or 2 ints, got 0.5"),
    "zero dilation": (X, K, {"dilation": (1, 0)}, r"dilation: expected positive sizes, got \(1, 0\)"),
    "unknown padding": (X, K, {"padding": "FULL"}, r"padding: expected .* SAME, .*CAUSAL, .*got 'FULL'"),
    "unknown lowering": (X, K, {"lowering": "strassen"}, r"lowering: expected one of .*'im2col', .*got 'strassen'"),
    "lowerings": (X, K, {"lowering": ["lax"]}, r"lowering: expected one of .*got \['lax'\]"),
    "window": ((1, 4, 4, 1), (5, 3, 1, 1), {}, r"axis 0: a window of 5 .* input of 4 .*at least 5 inputs"),
    "dilated window": ((1, 4, 4, 1), (3, 3, 1, 1), {"dilation": 2}, r"a window of 5 \(kernel 3, dilation 2\)"),
    "REFLECT": ((1, 3, 1), (7, 1, 1), {"padding": "REFLECT"}, r"REFLECT can take at most 2 .* axis of 3, needs 3"),
    "CIRCULAR": ((1, 3, 1), (8, 1, 1), {"padding": "CIRCULAR"}, r"CIRCULAR can take at most 3 elements .* needs 4"),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_errors_say_what_was_expected(name: str) -> None:
    x, kernel, options, message = ERRORS[name]
    with pytest.raises(ValueError, match=message):
        conv(jnp.zeros(x), jnp.zeros(kernel), **options)


@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool"])
def test_images_must_be_floats(dtype: str) -> None:
    with pytest.raises(ValueError, match=rf"x: expected a floating-point array, got {dtype}; cast it first"):
        conv(jnp.zeros(X, dtype), jnp.zeros(K))
