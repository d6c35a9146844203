"""A convolutional Highway network: gates that carry x past a layer made depth trainable half a year before ResNet."""

from collections.abc import Callable

import jax

from jconv.layers import Activation, Conv, Dropout, GlobalAvgPool, Highway, Layer, Linear, MaxPool, Sequential
from jconv.layers.initializers import Constant
from jconv.models.network import Network, known, sized

__all__ = ["DEPTHS", "VARIANTS", "highway"]

DEPTHS: dict[int, tuple[int, int, int]] = {11: (3, 3, 4), 20: (6, 6, 7), 32: (10, 10, 11)}
"""Convolutions of the three stages; the first of each is plain, the rest are highways."""
VARIANTS: dict[str, dict] = {f"highway{depth}": {"depth": depth} for depth in DEPTHS}


def highway(
    depth: int = 20,
    *,
    num_classes: int = 10,
    width: int = 16,
    gate_bias: float = -2.0,
    dropout: float = 0.0,
    act: str | Callable[[jax.Array], jax.Array] = "relu",
) -> Network:
    """A highway network of 3×3 convolutions: three stages with 2×2 max-pools between, a mean, a classifier.

        y = t · act(conv(x)) + (1 - t) · x,   t = sigmoid(conv_gate(x))

    A stage's first convolution is a plain one, since a highway must keep the shape of x; the others are highways, each
    with a gate as large as itself. A ResNet's shortcut is this one without t. The paper's networks for CIFAR-10 are of
    this shape, after the FitNets; the features here are 1, 2 and 4 × width, so its counts are not claimed.

    Args:
        depth: layers with weights, gates aside: 11, 20 or 32.
        num_classes: features of the classifier `fc`; 0 ends the network with the pooled features.
        width: features of the first stage.
        gate_bias: where the gates' biases start; at -2 a block passes 88 % of x on, so that gradients reach every
            layer from the first step. Lower for deeper networks.
        dropout: after each stage.
        act: the activation.

    Returns:
        A Network, (N, H, W, C) -> (N, num_classes), and features "stage1", "stage2", "stage3".

    Raises:
        ValueError: an unknown depth; a width that is not above 0.

    Example:
        >>> net = highway(11)
        >>> params, _ = jax.eval_shape(net.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 32, 32, 3), "float32"))
        >>> sum(p.size for p in jax.tree.leaves(params))
        292074

    References:
        Srivastava, Greff & Schmidhuber 2015, "Highway networks", arXiv:1505.00387, section 2, and "Training very deep
        networks", arXiv:1507.06228, sections 2 and 3.3.
    """
    sized(int, num_classes=num_classes, width=width)

    def conv(features: int) -> Sequential:
        return Sequential(conv=Conv(features, 3), act=Activation(act))

    layers: dict[str, Layer] = {}
    for i, count in enumerate(DEPTHS[known("depth", depth, DEPTHS)], 1):
        features = width << (i - 1)
        block = Highway(conv(features), Conv(features, 3, bias_init=Constant(gate_bias)))
        layers[f"stage{i}"] = Sequential(conv(features), *[block] * (count - 1))
        layers |= {f"pool{i}": MaxPool(2)} if i < 3 else {}
        layers |= {f"drop{i}": Dropout(dropout)} if dropout else {}
    layers["global_pool"] = GlobalAvgPool()
    if num_classes:
        layers["fc"] = Linear(num_classes)
    return Network(layers, stages={name: name for name in ("stage1", "stage2", "stage3")})
