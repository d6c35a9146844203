"""From stored squares to what the network sees, on the device, inside jit: crop, resize, mirror, normalise.

An image is stored as a square, squeezed to it; its original height and width come along, so that crops have the aspect
ratio they would have had in the original. One interpolation does crop and resize together.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

__all__ = ["View", "central", "normalise", "random_resized"]

RATIOS = (3 / 4, 4 / 3)
TRIES = 10


class View(NamedTuple):
    """A rectangle of the image, in parts of its height and width."""

    top: jax.Array
    left: jax.Array
    height: jax.Array
    width: jax.Array


def _random_view(key: jax.Array, size: jax.Array, min_scale: float) -> View:
    """Area uniform in [min_scale, 1], log aspect ratio uniform in log [3/4, 4/3], place uniform.

    Szegedy et al. 2014, arXiv:1409.4842, section 6. The first of ten tries that fits the image counts; if none does,
    the largest central rectangle with an allowed ratio.
    """
    full_h, full_w = size[0].astype(jnp.float32), size[1].astype(jnp.float32)
    k_area, k_ratio, k_top, k_left = jax.random.split(key, 4)
    area = full_h * full_w * jax.random.uniform(k_area, (TRIES,), minval=min_scale, maxval=1.0)
    ratio = jnp.exp(jax.random.uniform(k_ratio, (TRIES,), minval=jnp.log(RATIOS[0]), maxval=jnp.log(RATIOS[1])))
    h, w = jnp.sqrt(area / ratio), jnp.sqrt(area * ratio)
    fits = (h <= full_h) & (w <= full_w)
    pick, found = jnp.argmax(fits), fits.any()
    h = jnp.where(found, h[pick], jnp.minimum(full_h, full_w / RATIOS[0]))
    w = jnp.where(found, w[pick], jnp.minimum(full_w, full_h * RATIOS[1]))
    top = jnp.where(found, jax.random.uniform(k_top), 0.5) * (full_h - h)
    left = jnp.where(found, jax.random.uniform(k_left), 0.5) * (full_w - w)
    return View(top / full_h, left / full_w, h / full_h, w / full_w)


def _resample(image: jax.Array, view: View, out: int) -> jax.Array:
    """The view of an image (H, W, C) as (out, out, C) in float32, bilinear, and low-passed if it shrinks."""
    h, w, c = image.shape
    scale = jnp.stack([out / (view.height * h), out / (view.width * w)])
    shift = -jnp.stack([view.top * h, view.left * w]) * scale
    return jax.image.scale_and_translate(image.astype(jnp.float32), (out, out, c), (0, 1), scale, shift, "linear")


def random_resized(
    keys: jax.Array, images: jax.Array, sizes: jax.Array, *, out: int, min_scale: float, flip: bool
) -> jax.Array:
    """A random crop of each image, resized to (out, out), and half of them mirrored.

    Args:
        keys: (N,) PRNG keys, one for each image, so that an image's crop does not depend on how a batch is split.
        images: (N, H, W, C) uint8.
        sizes: (N, 2), the original height and width.
        out: side of the result, in pixels.
        min_scale: the smallest part of the area that a crop keeps.
        flip: mirror each image with probability 1/2.

    Returns:
        (N, out, out, C) float32, in 0..255.
    """

    def one(key: jax.Array, image: jax.Array, size: jax.Array) -> jax.Array:
        k_view, k_flip = jax.random.split(key)
        y = _resample(image, _random_view(k_view, size, min_scale), out)
        return jnp.where(jax.random.bernoulli(k_flip), y[:, ::-1], y) if flip else y

    return jax.vmap(one)(keys, images, sizes)


def central(images: jax.Array, sizes: jax.Array, *, out: int, crop: float) -> jax.Array:
    """The central square of each image, `crop` times its shorter side, resized to (out, out); see `random_resized`."""

    def one(image: jax.Array, size: jax.Array) -> jax.Array:
        part = crop * size.min() / size.astype(jnp.float32)
        return _resample(image, View((1 - part[0]) / 2, (1 - part[1]) / 2, part[0], part[1]), out)

    return jax.vmap(one)(images, sizes)


def normalise(images: jax.Array, mean: tuple[float, ...], std: tuple[float, ...]) -> jax.Array:
    """`(image / 255 - mean) / std` for each channel."""
    return (images / 255 - jnp.array(mean)) / jnp.array(std)
