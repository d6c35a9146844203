"""Convolutions over sequences: TextCNN, which looks for phrases, and the TCN, which dilates to see far back."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY

import jax
import jax.numpy as jnp

from jconv import ops
from jconv.layers import (
    Activation,
    Conv,
    Dropout,
    Identity,
    Layer,
    Linear,
    Parallel,
    Params,
    Residual,
    Sequential,
    State,
    concatenate,
)
from jconv.layers.initializers import Initializer, Normal
from jconv.models.network import Network, several, sized

__all__ = ["TCNS", "VARIANTS", "Embed", "max_over_time", "tcn", "textcnn"]

VARIANTS: dict[str, dict] = {"textcnn": {}}
TCNS: dict[str, dict] = {"tcn": {}}


@dataclasses.dataclass(frozen=True)
class Embed(Layer):
    """`y = embedding[x]`: a learned vector for each whole number, (N, T) -> (N, T, features).

    Args:
        vocabulary: how many numbers there are; others are taken for the nearest.
        features: of each vector.
        dtype: of y, for whole numbers have none that a network could compute in.
        embedding_init: `(key, shape) -> array`.

    Parameters: embedding (vocabulary, features), float32.
    """

    vocabulary: int
    features: int
    _: KW_ONLY
    dtype: str = "float32"
    embedding_init: Initializer = Normal(1.0)

    def init(self, key: jax.Array, x: jax.Array | jax.ShapeDtypeStruct) -> tuple[Params, State]:
        """A table of vectors."""
        return {"embedding": self.embedding_init(key, (self.vocabulary, self.features))}, {}

    def apply(
        self, params: Params, state: State, x: jax.Array, *, train: bool = False, key: jax.Array | None = None
    ) -> tuple[jax.Array, State]:
        """(...) of whole numbers -> (..., features)."""
        if not jnp.issubdtype(x.dtype, jnp.integer):
            raise ValueError(f"x: expected whole numbers, one for each token, got {x.dtype} of shape {x.shape}")
        return jnp.take(params["embedding"], x, axis=0, mode="clip").astype(self.dtype), state


def max_over_time(values: list[jax.Array]) -> jax.Array:
    """The largest value of each channel over the spatial axes, of all values side by side: (N, channels of all)."""
    return concatenate([ops.global_max_pool(value) for value in values])


def textcnn(
    *,
    vocabulary: int = 0,
    embedding: int = 300,
    widths: Sequence[int] = (3, 4, 5),
    width: int = 100,
    num_classes: int = 2,
    dropout: float = 0.5,
    act: str | Callable[[jax.Array], jax.Array] = "relu",
) -> Network:
    """TextCNN: convolutions over phrases of several lengths side by side, the largest response to each, a classifier.

        y = fc(drop(act([max over t of conv_w(x)[t] for w in widths])))

    The activation may follow the maximum because it never falls: there are fewer numbers of it to compute.

    Args:
        vocabulary: how many tokens there are, for an input (N, T) of whole numbers; 0 is an input (N, T, D) of vectors.
        embedding: features of a token's vector.
        widths: of the phrases; a text has at least as many tokens as the widest.
        width: features of each of them.
        num_classes: features of the classifier `fc`; 0 ends the network with the responses.
        dropout: before the classifier.
        act: the activation, one that never falls.

    Returns:
        A Network, (N, T, D) or (N, T) -> (N, num_classes), with the feature "convs". Paths are `embed`, `convs.0`, ...,
        `fc`.

    Raises:
        ValueError: no widths, or a size that is not above 0.

    Example:
        >>> net = textcnn(vocabulary=20_000)
        >>> x = jnp.zeros((2, 40), jnp.int32)
        >>> params, state = jax.eval_shape(net.init, jax.random.key(0), x)
        >>> jax.eval_shape(net.apply, params, state, x)[0].shape
        (2, 2)

    References:
        Kim 2014, "Convolutional Neural Networks for Sentence Classification", arXiv:1408.5882, sections 2 and 3.1.
    """
    several(widths=widths)
    sized(int, num_classes=num_classes, vocabulary=vocabulary, embedding=embedding, widths=widths, width=width)
    convs = Parallel(*(Conv(width, w, padding="VALID") for w in widths), combine=max_over_time)
    layers: dict[str, Layer] = {"embed": Embed(vocabulary, embedding)} if vocabulary else {}
    layers |= {"convs": convs, "act": Activation(act), "drop": Dropout(dropout)}
    if num_classes:
        layers["fc"] = Linear(num_classes)
    return Network(layers, stages={"convs": "convs"})


def tcn(
    *,
    levels: int = 8,
    width: int = 25,
    kernel: int = 7,
    channels: int = 1,
    num_classes: int = 10,
    dropout: float = 0.05,
    act: str | Callable[[jax.Array], jax.Array] = "relu",
) -> Network:
    """A temporal convolutional network: residual blocks of causal convolutions with dilations 1, 2, 4, ...

    Level i is `act(x + conv(conv(x)))`, with dilation 2^i and an activation after each convolution. The output at t
    depends on the inputs from t - 2 (kernel - 1) (2^levels - 1) to t, and on none after it. The paper's weight
    normalisation is left out.

    Args:
        levels: residual blocks.
        width: features of every convolution.
        kernel: window of every convolution.
        channels: of the input: where the width is another, the first block's shortcut is a 1×1 convolution.
        num_classes: features of the layer `linear` at each step; 0 ends the network with the features.
        dropout: after each convolution.
        act: the activation.

    Returns:
        A Network, (N, T, channels) -> (N, T, num_classes), with the feature "network". Paths are those of the paper's
        code: `network.0.conv1`, `linear`.

    Raises:
        ValueError: no levels, or a size that is not above 0.

    Example:
        >>> net = tcn(levels=4)
        >>> x = jnp.zeros((2, 784, 1))
        >>> net.apply(*net.init(jax.random.key(0), x), x)[0].shape
        (2, 784, 10)

    References:
        Bai, Kolter & Koltun 2018, arXiv:1803.01271, section 3. van den Oord et al. 2016, "WaveNet", arXiv:1609.03499,
        section 2.1.
    """
    sized(int, num_classes=num_classes, levels=levels, width=width, kernel=kernel, channels=channels)

    def block(dilation: int, shortcut: Layer) -> Layer:
        def conv() -> Conv:
            return Conv(width, kernel, dilation=dilation, padding="CAUSAL")

        branch = Sequential(
            conv1=conv(), relu1=Activation(act), dropout1=Dropout(dropout),
            conv2=conv(), relu2=Activation(act), dropout2=Dropout(dropout),
        )  # fmt: skip
        return Residual(branch, shortcut, Activation(act))

    first = Identity() if channels == width else Conv(width, 1)
    blocks = Sequential(*(block(2**i, Identity() if i else first) for i in range(levels)))
    head = {"linear": Linear(num_classes)} if num_classes else {}
    return Network({"network": blocks, **head}, stages={"network": "network"})
