"""DCGAN's generator: images from random numbers by transposed convolutions; and its twin that resizes and convolves."""

import dataclasses
from collections.abc import Callable

import jax

from jconv.layers import Activation, BatchNorm, Conv, ConvTranspose, Layer, Sequential, Upsample
from jconv.layers.initializers import Normal
from jconv.layers.simple import Function
from jconv.models.network import Network, known, sized

__all__ = ["VARIANTS", "Latent", "dcgan"]

VARIANTS: dict[str, dict] = {"dcgan": {}, "dcgan_resize": {"up": "resize"}}

UPS = ("transpose", "resize")


@dataclasses.dataclass(frozen=True)
class Latent(Function):
    """(N, Z) -> (N, 1, 1, Z): a vector as an image of one pixel; such an image stays as it is."""

    def __call__(self, x: jax.Array) -> jax.Array:
        return x[:, None, None, :] if x.ndim == 2 else x


def dcgan(
    *,
    size: int = 64,
    width: int = 64,
    channels: int = 3,
    up: str = "transpose",
    act: str | Callable[[jax.Array], jax.Array] = "relu",
) -> Network:
    """DCGAN's generator: a 4×4 image of many features, twice as large with half as many at each stage, then tanh.

    | up | a stage | on a constant image |
    |---|---|---|
    | "transpose" | transposed 4×4/2 convolution | a checkerboard: neighbours come from different weights |
    | "resize" | nearest neighbour, 3×3 convolution | constant: every output comes from all weights |

    A kernel that the stride divides meets all outputs equally often (`jconv.ops.overlap_map`), which is why it is 4 and
    not 5; but the four weights that an output meets are not its neighbour's.

    Args:
        size: of the images: 8, 16, 32, 64, ...
        width: features of the last stage but one; the first has `width size / 8`.
        channels: of the images.
        up: one of the table.
        act: the activation.

    Returns:
        A Network with the paths of PyTorch's example, `main.0`, ..., (N, 1, 1, Z) or (N, Z) -> (N, size, size,
        channels) between -1 and 1, with the features "32x32", ..., "4x4".

    Raises:
        ValueError: a size that is not 4 times a power of two, or another that is not above 0; an unknown `up`.

    Example:
        >>> net = dcgan()
        >>> params, state = jax.eval_shape(net.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 100), "float32"))
        >>> sum(p.size for p in jax.tree.leaves(params))
        3576704

    References:
        Radford, Metz & Chintala 2015, arXiv:1511.06434, figure 1. Odena, Dumoulin & Olah 2016, "Deconvolution and
        Checkerboard Artifacts", Distill, doi:10.23915/distill.00003.
    """
    sized(int, size=size, width=width, channels=channels)
    known("up", up, UPS)
    stages = (size // 4).bit_length() - 1
    if size != 4 << stages or stages < 1:
        raise ValueError(f"size: expected 4 times a power of two, as 8, 16, 32 or 64, got {size}")
    small = Normal(0.02)

    def doubled(features: int) -> Layer:
        if up == "transpose":
            return ConvTranspose(features, 4, stride=2, bias=False, kernel_init=small)
        return Sequential(Upsample(2), Conv(features, 3, bias=False, kernel_init=small))

    widths = [width << i for i in reversed(range(stages))]
    layers: list[Layer] = [ConvTranspose(widths[0], 4, padding=0, bias=False, kernel_init=small)]
    for features in widths[1:]:
        layers += [BatchNorm(), Activation(act), doubled(features)]
    layers += [BatchNorm(), Activation(act), doubled(channels), Activation("tanh")]
    sizes = {f"{4 << i}x{4 << i}": f"main.{3 * i + 2}" for i in reversed(range(stages))}
    return Network(stages=sizes, latent=Latent(), main=Sequential(*layers))
