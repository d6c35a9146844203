"""Flattened networks: every window of a CIFAR network as vectors over its channels, its rows and its columns."""

from collections.abc import Callable

import jax

from jconv.layers import Activation, Conv, Dropout, Flatten, Layer, Linear, MaxPool, Sequential, flattened
from jconv.layers.initializers import lecun_normal
from jconv.models.network import Network, sized

__all__ = ["FEATURES", "VARIANTS", "flattened_cnn"]

FEATURES = (96, 128, 256)
RATES = (0.1, 0.25, 0.25, 0.5, 0.5, 0.5)
"""Of dropout, from the image to the last hidden layer."""
VARIANTS: dict[str, dict] = {"flattened_cnn": {}, "flattened_cnn_baseline": {"sets": 0}}


def flattened_cnn(
    *,
    sets: int = 2,
    width: float = 1.0,
    kernel: int = 5,
    num_classes: int = 10,
    dropout: bool = True,
    act: str | Callable[[jax.Array], jax.Array] = "relu",
) -> Network:
    """A flattened CNN: three convolutions in parts, each with a 3×3/2 max-pool, two hidden layers, a classifier.

    A part is `jconv.layers.flattened`: a 1×1 over the channels, then k×1 and 1×k on each feature, all with biases and
    none with an activation. A window of k × k over C channels has k² C weights for a feature, and C + 2k in a part.

    Args:
        sets: parts that stand for a window, one after another; 2 reaches what whole windows reach. 0 is the baseline
            with whole windows.
        width: multiplies all features.
        kernel: size of the windows.
        num_classes: features of the last layer; 0 ends the network with the hidden features.
        dropout: drop 0.1 of the image, 0.25 of the first two pools, 0.5 of what the linear layers see.
        act: the activation after each window and hidden layer.

    Returns:
        A Network, (N, H, W, C) -> (N, num_classes), and features "act1", "act2", "act3", "pool3". Its linear layers see
        every position, so images have the size that it was initialised with, 32×32 in the paper.

    Raises:
        ValueError: a negative number of sets; a width that leaves no features.

    Example:
        >>> x = jax.ShapeDtypeStruct((1, 32, 32, 3), "float32")
        >>> for sets in (2, 0):
        ...     params, _ = jax.eval_shape(flattened_cnn(sets=sets, num_classes=0).init, jax.random.key(0), x)
        ...     print([sum(p.size for p in jax.tree.leaves(params[f"conv{i}"])) for i in (1, 2, 3)])
        [12000, 32000, 104960]
        [7296, 307328, 819456]

    References:
        Jin, Dundar & Culurciello 2014, "Flattened convolutional neural networks", arXiv:1412.5474, figure 2. With whole
        windows: Srivastava et al. 2014, "Dropout", JMLR 15, appendix B.2.
    """
    sized(num_classes=num_classes, sets=sets, width=width)
    sized(int, kernel=kernel)
    rates = iter(RATES)

    def drop(name: str) -> dict[str, Layer]:
        rate = next(rates)
        return {f"drop_{name}": Dropout(rate)} if dropout else {}

    layers = drop("image")
    for i, features in enumerate(FEATURES, 1):
        f = round(features * width)
        # of variance 2 / fan_out, as a Conv starts, six vectors in a row would leave nothing of their input
        parts = (flattened(f, kernel).update(Conv, kernel_init=lecun_normal) for _ in range(sets))
        window = Sequential(*parts) if sets else Conv(f, kernel)
        layers |= {f"conv{i}": window, f"act{i}": Activation(act), f"pool{i}": MaxPool(3, stride=2), **drop(f"pool{i}")}
    layers["flatten"] = Flatten()
    for i in (1, 2):
        layers |= {f"fc{i}": Linear(round(2048 * width)), f"act_fc{i}": Activation(act), **drop(f"fc{i}")}
    if num_classes:
        layers["classifier"] = Linear(num_classes)
    names = ["act1", "act2", "act3", "pool3"]
    return Network(layers, stages={name: name for name in names})
