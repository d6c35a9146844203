"""Rearrangements: where every element goes, torch's orders, inverses, errors."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv.ops import channel_shuffle, depth_to_space, space_to_depth
from tests.by_torch import by_torch
from tests.catalogue import fast_jit

CASES = [((6,), (3,)), ((4, 6), (2, 3)), ((2, 2), (1, 2)), ((4, 2, 3), (2, 1, 3))]


def numbered(*shape: int) -> np.ndarray:
    """Every element is another number."""
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def to_depth(x: np.ndarray, block: tuple[int, ...], order: str) -> np.ndarray:
    """Element by element."""
    taps, channels = int(np.prod(block)), x.shape[-1]
    out = [n // b for n, b in zip(x.shape[1:-1], block, strict=True)]
    y = np.full((x.shape[0], *out, taps * channels), -1.0)
    for index in np.ndindex(*x.shape[1:-1]):
        outer = [i // b for i, b in zip(index, block, strict=True)]
        tap = np.ravel_multi_index([i % b for i, b in zip(index, block, strict=True)], block)
        for c in range(channels):
            y[:, *outer, tap * channels + c if order == "block" else c * taps + tap] = x[:, *index, c]
    return y


@pytest.mark.parametrize("order", ["block", "channel"])
def test_space_to_depth_and_back(order: str) -> None:
    xs = [numbered(2, *sizes, 3) for sizes, _ in CASES]

    def there_and_back(xs: list) -> list:
        ys = [space_to_depth(x, block=block, order=order) for x, (_, block) in zip(xs, CASES, strict=True)]
        return [(y, depth_to_space(y, block=block, order=order)) for y, (_, block) in zip(ys, CASES, strict=True)]

    for dtype in ("float32", "bfloat16"):
        found = fast_jit(there_and_back)([jnp.asarray(x, dtype) for x in xs])
        for x, (_, block), (y, back) in zip(xs, CASES, found, strict=True):
            assert y.dtype == back.dtype == dtype
            np.testing.assert_array_equal(y, to_depth(x, block, order))
            np.testing.assert_array_equal(back, x)


def test_one_number_means_all_axes_and_block_is_the_order() -> None:
    x = jnp.asarray(numbered(1, 4, 6, 2))
    y = space_to_depth(x, block=(2, 2), order="block")
    np.testing.assert_array_equal(space_to_depth(x, block=2), y)
    np.testing.assert_array_equal(depth_to_space(y, block=2), x)
    assert not np.array_equal(space_to_depth(x, block=2, order="channel"), y)


def test_the_order_channel_is_torchs() -> None:
    x = numbered(2, 4, 6, 12)
    for f, name in ((space_to_depth, "pixel_unshuffle"), (depth_to_space, "pixel_shuffle")):
        right, _ = by_torch(lambda torch, x: getattr(torch.nn.functional, name)(x, 2), x)  # noqa: B023
        np.testing.assert_array_equal(f(jnp.asarray(x), block=2, order="channel"), right)
        assert not np.array_equal(f(jnp.asarray(x), block=2), right)


@pytest.mark.parametrize("sizes", [(3,), (2, 3), (2, 1, 2)])
def test_channel_shuffle(sizes: tuple[int, ...]) -> None:
    x, divisors = numbered(2, *sizes, 12), (1, 2, 3, 4, 12)

    def there_and_back(x: jax.Array) -> list:
        ys = {g: channel_shuffle(x, groups=g) for g in divisors}
        return [(g, y, channel_shuffle(y, groups=12 // g)) for g, y in ys.items()]

    for groups, y, back in jax.device_get(fast_jit(there_and_back)(x)):
        for i, j in np.ndindex(12 // groups, groups):
            np.testing.assert_array_equal(y[..., i * groups + j], x[..., j * 12 // groups + i])
        np.testing.assert_array_equal(back, x)
        assert np.array_equal(y, x) == (groups in (1, 12))
        right, _ = by_torch(lambda torch, x, g=int(groups): torch.channel_shuffle(x, g), x)
        np.testing.assert_array_equal(y, right)


F = {
    "to depth": partial(space_to_depth, block=2),
    "to space": partial(depth_to_space, block=2),
    "shuffle": partial(channel_shuffle, groups=2),
}


@pytest.mark.parametrize("name", F)
def test_a_gradient_goes_back_where_it_came_from(name: str, rng: np.random.Generator) -> None:
    f, x = F[name], jnp.asarray(rng.normal(size=(2, 4, 6, 8)), "float32")

    def run(x: jax.Array) -> tuple:
        y, back = jax.vjp(f, x)
        return y, back(y)[0], jax.vmap(f)(x[:, None])[:, 0]

    y, dx, alone = fast_jit(run)(x)
    np.testing.assert_array_equal(dx, x)
    np.testing.assert_array_equal(alone, y)


ERRORS = [
    (space_to_depth, {"block": 4}, r"block: expected sizes that divide x's \(4, 6\), got 4; pad or crop x first"),
    (space_to_depth, {"block": 0}, r"block: expected positive sizes, got 0"),
    (space_to_depth, {"block": (1, 2, 3)}, r"block: expected an int or 2 ints, one for each of the 2 spatial axes"),
    (space_to_depth, {"block": 2, "order": "row"}, r"order: expected one of 'block', 'channel', got 'row'"),
    (depth_to_space, {"block": 3}, r"block: expected 9 positions, .* \(3, 3\), to divide x's 8 channels"),
    (depth_to_space, {"block": 2, "order": "torch"}, r"order: expected one of 'block', 'channel', got 'torch'"),
    (channel_shuffle, {"groups": 3}, r"groups: expected a positive number that divides x's 8 channels, got 3"),
    (channel_shuffle, {"groups": 0}, r"groups: expected a positive number that divides x's 8 channels, got 0"),
]  # fmt: skip


@pytest.mark.parametrize(("f", "options", "message"), ERRORS)
def test_errors_say_what_was_expected(f, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        f(jnp.zeros((1, 4, 6, 8)), **options)
    with pytest.raises(ValueError, match=r"x: expected \(N, W, C\), .* got shape \(6, 8\)"):
        f(jnp.zeros((6, 8)), **options)
