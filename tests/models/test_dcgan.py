"""DCGAN: sizes, one function of vectors and of images of one pixel, and which of the twins makes a checkerboard."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv import ops
from jconv.layers import ConvTranspose
from jconv.models import dcgan
from tests.catalogue import fast_jit
from tests.models.parity import Agree
from tests.models.shapes import count, maps


@pytest.mark.parametrize("up", ["transpose", "resize"])
def test_sizes_are_the_papers(up: str) -> None:
    """Figure 1, with half of its features, as in PyTorch's example."""
    assert maps(dcgan(up=up), 1, 100) == {
        "32x32": (32, 32, 64), "16x16": (16, 16, 128), "8x8": (8, 8, 256), "4x4": (4, 4, 512), "value": (64, 64, 3),
    }  # fmt: skip
    assert maps(dcgan(up=up, size=8, channels=1), 1, 1, 1, 7)["value"] == (8, 8, 1)


def test_a_vector_is_an_image_of_one_pixel(rng: np.random.Generator, key: jax.Array) -> None:
    net = dcgan(size=16, width=8)
    x = jnp.asarray(rng.normal(size=(3, 12)), "float32")
    params, state = net.init(key, x)
    flat, image = fast_jit(lambda x: [net.apply(params, state, x)[0] for x in (x, x[:, None, None])])(x)
    np.testing.assert_array_equal(flat, image)
    assert float(jnp.abs(flat).max()) <= 1


def checkerboard(up: str, rng: np.random.Generator, key: jax.Array) -> float:
    """How much neighbours differ, over the largest value, far from the borders of a constant image made larger."""
    stage = dcgan(up=up, width=8)["main.3"]
    x = jnp.broadcast_to(jnp.asarray(rng.normal(size=16), "float32"), (1, 8, 8, 16))
    y = np.asarray(stage.apply(*stage.init(key, x), x)[0])[0, 4:-4, 4:-4]
    return float(np.abs(np.diff(y, axis=0)).max() / np.abs(y).max())


def test_only_the_transposed_convolution_makes_a_checkerboard(rng: np.random.Generator, key: jax.Array) -> None:
    assert checkerboard("transpose", rng, key) > 0.1
    assert checkerboard("resize", rng, key) < 1e-5


def test_all_outputs_meet_the_kernel_equally_often() -> None:
    """What the kernel of 4 is for: the checkerboard that is left is the weights', not the overlap's."""
    ups = [layer for _, layer in dcgan().walk() if isinstance(layer, ConvTranspose)][1:]
    assert len(ups) == 4
    for layer in ups:
        assert len(np.unique(ops.overlap_map(layer.kernel, layer.stride))) == 1
    assert len(np.unique(ops.overlap_map((5, 5), (2, 2)))) > 1


def test_the_twin_has_nine_weights_for_sixteen() -> None:
    first = 100 * 512 * 16
    norms = 2 * (512 + 256 + 128 + 64)
    assert (count(dcgan(), 1, 100) - first - norms) * 9 == (count(dcgan(up="resize"), 1, 100) - first - norms) * 16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 48}, r"size: expected 4 times a power of two, as 8, 16, 32 or 64, got 48"),
        ({"size": 4}, r"size: expected 4 times a power of two, as 8, 16, 32 or 64, got 4"),
        ({"up": "resized"}, r"up: unknown 'resized'; did you mean 'resize'\?"),
    ],
)
def test_options_that_make_no_sense(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dcgan(**options)


def generator(up: str) -> Any:
    nn = pytest.importorskip("torch").nn

    def doubled(channels: int, features: int) -> Any:
        if up == "transpose":
            return nn.ConvTranspose2d(channels, features, 4, 2, 1, bias=False)
        return nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(channels, features, 3, padding=1, bias=False))

    layers = [nn.ConvTranspose2d(12, 32, 4, 1, 0, bias=False)]
    for channels, features in ((32, 16), (16, 8), (8, 3)):
        layers += [nn.BatchNorm2d(channels), nn.ReLU(), doubled(channels, features)]
    return nn.Sequential(*layers, nn.Tanh())


@pytest.mark.parametrize("up", ["transpose", "resize"])
def test_it_is_torchs(up: str, agree: Agree) -> None:
    net = dcgan(size=32, width=8, up=up)
    agree(net, lambda: generator(up), (4, 1, 1, 12), rename=lambda name: f"main.{name}")
