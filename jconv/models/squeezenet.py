"""SqueezeNet: AlexNet's accuracy with a fiftieth of its weights, by squeezing channels before each 3×3."""

from collections.abc import Callable

import jax

from jconv.layers import Activation, Conv, Dropout, GlobalAvgPool, Layer, MaxPool, Parallel, Sequential
from jconv.models.network import Network, known, sized

__all__ = ["VARIANTS", "VERSIONS", "squeezenet"]

VERSIONS: dict[str, tuple[int, int, tuple[int, ...]]] = {  # conv1's features and window, the fires before a pool
    "1.0": (96, 7, (4, 8)),
    "1.1": (64, 3, (3, 5)),
}
SQUEEZES = (16, 16, 32, 32, 48, 48, 64, 64)  # of fire2, ..., fire9
VARIANTS: dict[str, dict] = {"squeezenet1_0": {"version": "1.0"}, "squeezenet1_1": {"version": "1.1"}}


def squeezenet(
    *,
    version: str = "1.0",
    num_classes: int = 1000,
    width: float = 1.0,
    dropout: float = 0.5,
    act: str | Callable[[jax.Array], jax.Array] = "relu",
) -> Network:
    """SqueezeNet: a convolution, eight fire modules, three max-pools, and a 1×1 convolution onto the classes.

    A fire module squeezes its input to s channels by 1×1, then expands them to 4 s by 1×1 and 4 s by 3×3, side by side:
    the 3×3 kernels, which are the dear ones, see few channels.

    | version | conv1 | pools after | MACs at 224 px |
    |---|---|---|---|
    | "1.0" | 7×7/2, 96 | conv1, fire4, fire8 | 0.819 G |
    | "1.1" | 3×3/2, 64 | conv1, fire3, fire5 | 0.349 G |

    Args:
        version: "1.0", the paper's, or "1.1", the authors' later one: earlier pools, 2.4 times fewer multiply-adds.
        num_classes: features of the classifier; 0 ends the network with the pooled features of fire9.
        width: multiplies the features of every layer but the last.
        dropout: before the classifier.
        act: the activation; it follows the classifier too, as published.

    Returns:
        A Network with torchvision's paths, (N, H, W, C) -> (N, num_classes), and features "conv1", ..., "fire9".

    Raises:
        ValueError: an unknown version; a width that leaves no features.

    Example:
        >>> net = squeezenet(version="1.1")
        >>> params, _ = jax.eval_shape(net.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 224, 224, 3), "float32"))
        >>> sum(p.size for p in jax.tree.leaves(params))
        1235496

    References:
        Iandola et al. 2016, "SqueezeNet", arXiv:1602.07360, table 1 and figure 1.
    """
    sized(num_classes=num_classes, width=width)
    features, kernel, pooled = VERSIONS[known("version", version, VERSIONS)]
    pool = MaxPool(3, stride=2, padding=0, ceil_mode=True)
    layers: list[Layer] = [Conv(int(features * width), kernel, stride=2, padding=0), Activation(act), pool]
    stages = {"conv1": "features.1"}
    for i, squeeze in enumerate(SQUEEZES, 2):
        layers.append(_fire(int(squeeze * width), act))
        if i in (*pooled, 9):
            stages[f"fire{i}"] = f"features.{len(layers) - 1}"
        layers += [pool] if i in pooled else []
    head = [Dropout(dropout), Conv(num_classes, 1), Activation(act)] if num_classes else []
    return Network(stages=stages, features=Sequential(*layers), classifier=Sequential(*head, GlobalAvgPool()))


def _fire(squeeze: int, act: str | Callable[[jax.Array], jax.Array]) -> Sequential:
    return Sequential(
        squeeze=Conv(squeeze, 1),
        squeeze_activation=Activation(act),
        _expand=Parallel(expand1x1=Conv(4 * squeeze, 1), expand3x3=Conv(4 * squeeze, 3)),
        expand_activation=Activation(act),
    )
