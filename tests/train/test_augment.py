"""Crops, mirror images and normalisation against independent numpy and Pillow, and laws of the random views."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from train import augment

random_resized = jax.jit(augment.random_resized, static_argnames=("out", "min_scale", "flip"))
central = jax.jit(augment.central, static_argnames=("out",))
random_views = jax.jit(jax.vmap(augment._random_view, (0, 0, None)))


def images_of(rng: np.random.Generator, n: int = 6, side: int = 16, channels: int = 3) -> np.ndarray:
    return rng.integers(0, 256, (n, side, side, channels), np.uint8)


def squares(n: int, side: int = 16) -> np.ndarray:
    return np.full((n, 2), side, np.int32)


def crops(
    key: jax.Array,
    images: np.ndarray,
    sizes: np.ndarray,
    out: int = 16,
    min_scale: float = 1.0,
    flip: bool = False,
    chosen: slice = slice(None),
) -> np.ndarray:
    """`random_resized` under jit, with one key an image of which only the chosen run."""
    keys = jax.random.split(key, len(images))[chosen]
    return np.asarray(random_resized(keys, images[chosen], sizes[chosen], out=out, min_scale=min_scale, flip=flip))


def views(key: jax.Array, sizes: np.ndarray, min_scale: float) -> np.ndarray:
    """Random views of images of these sizes: (N, 4), top, left, height and width in parts of the image."""
    keys = jax.random.split(key, len(sizes))
    return np.stack(random_views(keys, sizes, min_scale), axis=-1)


def bilinear(image: np.ndarray, view: np.ndarray, out: int) -> np.ndarray:
    """The view of an image enlarged to (out, out), one axis after the other by np.interp, edges held."""
    top, left, height, width = view
    h, w, _ = image.shape
    centres = (np.arange(out) + 0.5) / out
    y, x = (top + centres * height) * h - 0.5, (left + centres * width) * w - 0.5
    rows = np.apply_along_axis(lambda c: np.interp(y, np.arange(h), c), 0, image.astype(float))
    return np.apply_along_axis(lambda c: np.interp(x, np.arange(w), c), 1, rows)


def szegedy(rng: np.random.Generator, h: int, w: int, min_scale: float) -> tuple[float, float, float, float]:
    """Inception's crop as a loop: the oracle of the distribution."""
    for _ in range(10):
        area = h * w * rng.uniform(min_scale, 1)
        ratio = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
        height, width = np.sqrt(area / ratio), np.sqrt(area * ratio)
        if height <= h and width <= w:
            return rng.uniform(0, h - height) / h, rng.uniform(0, w - width) / w, height / h, width / w
    height, width = min(h, w * 4 / 3), min(w, h * 4 / 3)
    return (1 - height / h) / 2, (1 - width / w) / 2, height / h, width / w


def test_whole_view_is_the_identity(rng: np.random.Generator, key: jax.Array) -> None:
    images = images_of(rng)
    np.testing.assert_allclose(crops(key, images, squares(6)), images, atol=1e-3)
    np.testing.assert_allclose(central(jnp.array(images), squares(6), out=16, crop=1.0), images, atol=1e-3)


@pytest.mark.parametrize("out", [16, 21, 40])
def test_enlarged_crop_is_bilinear(rng: np.random.Generator, key: jax.Array, out: int) -> None:
    images, sizes = images_of(rng, 12), rng.integers(10, 30, (12, 2)).astype(np.int32)
    got = crops(key, images, sizes, out=out, min_scale=0.3)
    k_views = jax.vmap(lambda k: jax.random.split(k)[0])(jax.random.split(key, 12))
    boxes = np.stack(random_views(k_views, sizes, 0.3), -1)
    expected = np.stack([bilinear(i, v, out) for i, v in zip(images, boxes, strict=True)])
    np.testing.assert_allclose(got, expected, atol=1e-2)
    wrong = np.stack([bilinear(i, v + np.array([0.01, 0, 0, 0]), out) for i, v in zip(images, boxes, strict=True)])
    assert np.abs(got - wrong).max() > 1, "the oracle must notice a shift of a hundredth of the height"


@pytest.mark.parametrize("out", [5, 7, 16, 31])
def test_resize_is_pillows(rng: np.random.Generator, out: int) -> None:
    images = images_of(rng, 3, 16, 1)
    expected = [
        np.asarray(Image.fromarray(i[..., 0].astype(np.float32)).resize((out, out), Image.Resampling.BILINEAR))
        for i in images
    ]
    got = central(jnp.array(images), squares(3), out=out, crop=1.0)
    np.testing.assert_allclose(got[..., 0], expected, atol=1e-2)


@pytest.mark.parametrize("min_scale", [0.08, 0.35, 0.9])
def test_views_keep_their_bounds_in_the_original(rng: np.random.Generator, key: jax.Array, min_scale: float) -> None:
    sizes = rng.integers(20, 500, (6000, 2)).astype(np.int32)
    top, left, height, width = views(key, sizes, min_scale).T
    h, w = sizes.T
    area, ratio = height * width, width * w / (height * h)
    assert ((ratio > 3 / 4 - 1e-4) & (ratio < 4 / 3 + 1e-4)).all()
    assert (area < 1 + 1e-5).all()
    assert (np.array([top, left, 1 - top - height, 1 - left - width]) > -1e-5).all()
    central = np.isclose(height, np.minimum(1, w * 4 / 3 / h), atol=1e-5) & np.isclose(
        width, np.minimum(1, h * 4 / 3 / w), atol=1e-5
    )
    assert ((area > min_scale - 1e-5) | central).all()
    assert (~central).mean() > 0.2
    np.testing.assert_allclose(top[central], (1 - height[central]) / 2, atol=1e-5)
    np.testing.assert_allclose(left[central], (1 - width[central]) / 2, atol=1e-5)


@pytest.mark.parametrize(("h", "w"), [(100, 100), (100, 150), (240, 120)])
def test_views_are_distributed_as_inceptions(rng: np.random.Generator, key: jax.Array, h: int, w: int) -> None:
    n = 6000
    got = views(key, np.tile(np.array([h, w], np.int32), (n, 1)), 0.35)
    expected = np.array([szegedy(rng, h, w, 0.35) for _ in range(n)])

    def numbers(v: np.ndarray) -> np.ndarray:
        area, ratio = v[:, 2] * v[:, 3], np.log(v[:, 3] / v[:, 2])
        return np.stack([area, ratio, v[:, 0] + v[:, 2] / 2, v[:, 1] + v[:, 3] / 2])

    for q in (0.1, 0.25, 0.5, 0.75, 0.9):
        np.testing.assert_allclose(np.quantile(numbers(got), q, 1), np.quantile(numbers(expected), q, 1), atol=0.025)
    np.testing.assert_allclose(numbers(got).mean(1), numbers(expected).mean(1), atol=0.012)


def test_whole_area_of_a_long_image_is_its_largest_allowed_centre(key: jax.Array) -> None:
    got = views(key, np.array([[100, 300], [300, 100]], np.int32), 1.0)
    np.testing.assert_allclose(got, [[0, 5 / 18, 1, 4 / 9], [5 / 18, 0, 4 / 9, 1]], atol=1e-6)


def test_crop_does_not_depend_on_the_batch(rng: np.random.Generator, key: jax.Array) -> None:
    images, sizes = images_of(rng, 9), rng.integers(10, 30, (9, 2)).astype(np.int32)

    def run(chosen: slice) -> np.ndarray:
        return crops(key, images, sizes, out=12, min_scale=0.4, flip=True, chosen=chosen)

    whole = run(slice(None))
    parts = np.concatenate([run(slice(0, 3)), run(slice(3, 6)), run(slice(6, 9))])
    np.testing.assert_allclose(parts, whole, atol=1e-3)
    assert np.abs(crops(jax.random.key(1), images, sizes, out=12, min_scale=0.4, flip=True) - whole).max() > 1


def test_flip_mirrors_half_of_the_images(rng: np.random.Generator, key: jax.Array) -> None:
    images = images_of(rng, 600, 6, 1)
    got = crops(key, images, squares(600, 6), out=6, flip=True)
    same = np.isclose(got, images, atol=1e-2).all((1, 2, 3))
    mirrored = np.isclose(got, images[:, :, ::-1], atol=1e-2).all((1, 2, 3))
    assert (same ^ mirrored).all()
    assert 0.42 < mirrored.mean() < 0.58
    np.testing.assert_allclose(crops(key, images, squares(600, 6), out=6, flip=False), images, atol=1e-3)


@pytest.mark.parametrize(("h", "w"), [(100, 200), (200, 100), (90, 120), (64, 64)])
@pytest.mark.parametrize("crop", [1.0, 0.875, 0.5])
def test_central_crop_is_the_square_of_the_original(h: int, w: int, crop: float) -> None:
    side, out = 64, 24
    ramp = 255 * (np.arange(side) + 0.5) / side
    stored = np.stack(np.meshgrid(ramp, ramp, indexing="ij"), -1)[None]  # how far down, how far right: h and w squeezed
    got = np.asarray(central(jnp.array(stored, jnp.float32), np.array([[h, w]]), out=out, crop=crop))[0] / 255
    length = crop * min(h, w)  # of the square, in pixels of the original
    offset = (np.arange(out) + 0.5) / out * length
    down, right = ((h - length) / 2 + offset) / h, ((w - length) / 2 + offset) / w
    inside = slice(2, -2)  # at the image's edge, the ramp ends
    np.testing.assert_allclose(got[inside, inside, 0], np.tile(down[inside, None], out - 4), atol=1e-3)
    np.testing.assert_allclose(got[inside, inside, 1], np.tile(right[inside], (out - 4, 1)), atol=1e-3)


def test_normalise(rng: np.random.Generator) -> None:
    images = rng.uniform(0, 255, (2, 4, 4, 3)).astype(np.float32)
    mean, std = (0.1, 0.5, 0.9), (0.2, 0.3, 0.4)
    expected = (images.astype(float) / 255 - mean) / std
    np.testing.assert_allclose(augment.normalise(jnp.array(images), mean, std), expected, rtol=1e-4, atol=1e-5)
