"""LeNet-5, the convolutional network that read cheques: with the parts of 1998, or with today's in their place."""

import dataclasses
from collections.abc import Callable
from dataclasses import KW_ONLY

import jax
import jax.numpy as jnp
import numpy as np

from jconv import ops
from jconv.layers import (
    Activation,
    AvgPool,
    Conv,
    GlobalAvgPool,
    Layer,
    Linear,
    MaxPool,
    Params,
    State,
)
from jconv.layers.initializers import fan_in_uniform, ones, zeros
from jconv.models.network import Network, known, sized

__all__ = ["C3", "VARIANTS", "Subsample", "TableConv", "lenet5", "scaled_tanh"]

C3 = (
    *(tuple((i + j) % 6 for j in range(3)) for i in range(6)),
    *(tuple((i + j) % 6 for j in range(4)) for i in range(6)),
    *(tuple((i + j) % 6 for j in (0, 1, 3, 4)) for i in range(3)),
    tuple(range(6)),
)
"""Which of the six maps of S2 each of the sixteen maps of C3 sees: table I."""
VARIANTS: dict[str, dict] = {"lenet5": {}, "lenet5_modern": {"table": False, "pool": "max", "act": "relu"}}
POOLS = ("learned", "avg", "max")


def scaled_tanh(x: jax.Array) -> jax.Array:
    """`y = 1.7159 tanh(2 x / 3)`, which maps ±1 to ±1 nearly; LeCun et al. 1998, appendix A."""
    return 1.7159 * jnp.tanh(2 / 3 * x)


def lenet5(
    *,
    table: bool = True,
    pool: str = "learned",
    act: str | Callable[[jax.Array], jax.Array] = scaled_tanh,
    num_classes: int = 10,
    width: float = 1.0,
) -> Network:
    """LeNet-5: three 5×5 convolutions with sub-sampling between, a hidden layer, a classifier; for 32×32 grey images.

    | layer | C1 | S2 | C3 | S4 | C5 | F6 | output |
    |---|---|---|---|---|---|---|---|
    | output | 28×28×6 | 14×14×6 | 10×10×16 | 5×5×16 | 1×1×120 | 84 | 10 |
    | parameters | 156 | 12 | 1,516 | 32 | 48,120 | 10,164 | 850 |

    Faithful by default: C3's table of partial connections, sub-sampling with a coefficient and a bias for each map, the
    scaled tanh, LeCun's initialisation. Not so: the output is a linear layer for a softmax, where the paper compares
    F6 with a fixed picture of each class; its 60,000 parameters are those up to F6. A larger image is read at every
    position, and C5's maps averaged.

    Args:
        table: connect C3 by the paper's table, or else fully (2,416 parameters).
        pool: "learned", the paper's S2 and S4; or 2×2 "avg" or "max".
        act: the activation.
        num_classes: features of the last layer; 0 ends the network with F6.
        width: multiplies the features of every layer but the last; other than 1 needs `table=False`.

    Returns:
        A Network with the paper's names, (N, H, W, C) -> (N, num_classes), and features "C1", "C3", "C5".

    Raises:
        ValueError: an unknown pool; a table for another width than the paper's; a width that leaves no features.

    Example:
        >>> net = lenet5(num_classes=0)
        >>> params, _ = jax.eval_shape(net.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 32, 32, 1), "float32"))
        >>> sum(p.size for p in jax.tree.leaves(params))
        60000

    References:
        LeCun, Bottou, Bengio & Haffner 1998, "Gradient-based learning applied to document recognition", section II.B.
    """
    sized(num_classes=num_classes, width=width)
    known("pool", pool, POOLS)
    if table and width != 1:
        raise ValueError(f"table: the paper's connects 6 maps with 16; for width={width} give table=False")

    def pooled(i: int) -> dict[str, Layer]:
        if pool == "learned":
            return {f"S{i}": Subsample(2), f"act{i}": Activation(act)}
        return {f"S{i}": AvgPool(2) if pool == "avg" else MaxPool(2)}

    def conv(features: int) -> Conv:
        return Conv(int(features * width), 5, padding=0, kernel_init=fan_in_uniform)

    third = TableConv(16, 5, padding=0, kernel_init=fan_in_uniform, connections=C3) if table else conv(16)
    layers: dict[str, Layer] = {
        "C1": conv(6), "act1": Activation(act), **pooled(2),
        "C3": third, "act3": Activation(act), **pooled(4),
        "C5": conv(120), "act5": Activation(act), "global_pool": GlobalAvgPool(),
        "F6": Linear(int(84 * width)), "act6": Activation(act),
    }  # fmt: skip
    if num_classes:
        layers["output"] = Linear(num_classes)
    return Network(layers, stages={"C1": "act1", "C3": "act3", "C5": "act5"})


@dataclasses.dataclass(frozen=True)
class TableConv(Conv):
    """A `Conv` in which each feature sees some of the channels alone; it has no weights for the others.

    Parameters: kernel (*window, connections), one window for each connection, feature by feature; bias (features,).
    """

    _: KW_ONLY
    connections: tuple[tuple[int, ...], ...]
    """For each feature, the channels that it sees."""

    def _pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Channel and feature of each connection."""
        pairs = [(c, f) for f, channels in enumerate(self.connections) for c in channels]
        channels, features = np.array(pairs).T
        return channels, features

    def init(self, key: jax.Array, x: jax.Array | jax.ShapeDtypeStruct) -> tuple[Params, State]:
        """The weights of the connections and a bias."""
        channels, features = self._pairs()
        if channels.max() >= x.shape[-1] or len(self.connections) != self.features:
            raise ValueError(
                f"connections: expected {self.features} features that see some of the {x.shape[-1]} channels of x, got "
                f"{len(self.connections)} that see up to channel {channels.max()}"
            )
        params, state = super().init(key, x)
        return params | {"kernel": params["kernel"][..., channels, features]}, state

    def effective_kernel(self, params: Params) -> jax.Array:
        """The kernel with zeros where nothing is connected."""
        channels, features = self._pairs()
        kernel = params["kernel"]
        whole = jnp.zeros((*kernel.shape[:-1], channels.max() + 1, self.features), kernel.dtype)
        return whole.at[..., channels, features].set(kernel)


@dataclasses.dataclass(frozen=True)
class Subsample(Layer):
    """`y = scale * mean + bias` of each window, with a scale and a bias for each channel.

    The paper's sum of four times a coefficient: the coefficient is a quarter of this scale.
    """

    kernel: int

    def init(self, key: jax.Array, x: jax.Array | jax.ShapeDtypeStruct) -> tuple[Params, State]:
        """Plain means."""
        return {"scale": ones(key, x.shape[-1:]), "bias": zeros(key, x.shape[-1:])}, {}

    def apply(
        self, params: Params, state: State, x: jax.Array, *, train: bool = False, key: jax.Array | None = None
    ) -> tuple[jax.Array, State]:
        """(N, *spatial, C) -> (N, *out, C)."""
        scale, bias = (params[name].astype(x.dtype) for name in ("scale", "bias"))
        return ops.avg_pool(x, self.kernel) * scale + bias, state
