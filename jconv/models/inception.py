"""Inception-v3: convolutions factorised into smaller ones, 5×5 into two 3×3 and 7×7 into 1×7 and 7×1."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax

from jconv.layers import (
    AvgPool,
    Beside,
    Dropout,
    GlobalAvgPool,
    Layer,
    Linear,
    MaxPool,
    Parallel,
    Sequential,
)
from jconv.models.googlenet import conv_bn_act
from jconv.models.network import Network, sized

__all__ = ["VARIANTS", "inception_v3"]

VARIANTS: dict[str, dict] = {"inception_v3": {}}

Unit = Callable[..., Layer]
ROW, COLUMN = (1, 7), (7, 1)


def inception_v3(
    *,
    aux: bool = False,
    num_classes: int = 1000,
    width: float = 1.0,
    dropout: float = 0.5,
    act: str | Callable[[jax.Array], jax.Array] = "relu",
) -> Network:
    """Inception-v3: a stem, three blocks at 35×35, five at 17×17, three at 8×8, a mean, a classifier; at 299 pixels.

    | block | branches beside a pool | factorisation |
    |---|---|---|
    | 5b, 5c, 5d | 1×1 · 5×5 · 3×3, 3×3 | a 5×5 as two 3×3 |
    | 6a | 3×3/2 · 3×3, 3×3/2 | the grid shrinks in parallel with its pool |
    | 6b to 6e | 1×1 · 1×7, 7×1 · 7×1, 1×7, 7×1, 1×7 | a 7×7 as a row and a column |
    | 7a | 3×3/2 · 1×7, 7×1, 3×3/2 | the grid shrinks |
    | 7b, 7c | 1×1 · 1×3 beside 3×1 · 3×3, then 1×3 beside 3×1 | a wider bank where the grid is coarse |

    Its published weights want pixels of mean and deviation 0.5 (`jconv.weights.Preprocessing`): torchvision's
    `transform_input`, which has no counterpart here, makes such pixels of those normalised by ImageNet's mean and
    deviation.

    Args:
        aux: with the auxiliary head `AuxLogits` beside 6e, for images of at least 299 pixels or nearly: its logits are
            `net.outputs(..., at=["AuxLogits"])`, and they act on the loss alone. torchvision weighs them by 0.4.
        num_classes: features of the classifier `fc` and of the head; 0 ends the network with the pooled features.
        width: multiplies the features of every layer but the last.
        dropout: before the classifier.
        act: the activation.

    Returns:
        A Network with timm's and torchvision's paths, (N, H, W, C) -> (N, num_classes), for H, W >= 75, and features
        "Conv2d_2b_3x3", "Conv2d_4a_3x3", "Mixed_5d", "Mixed_6e", "Mixed_7c".

    Raises:
        ValueError: an auxiliary head without classes; a width that leaves no features.

    Example:
        >>> net = inception_v3(aux=True)
        >>> params, _ = jax.eval_shape(net.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 299, 299, 3), "float32"))
        >>> sum(p.size for p in jax.tree.leaves(params))
        27161264

    References:
        Szegedy et al. 2015, "Rethinking the Inception architecture for computer vision", arXiv:1512.00567, table 1,
        figures 5 to 7 and 10, section 4.
    """
    sized(num_classes=num_classes, width=width)
    if aux and not num_classes:
        raise ValueError("aux: auxiliary heads classify, and num_classes=0 has no classes; give it some, or aux=False")
    unit = partial(conv_bn_act, width=width, act=act)
    pool = MaxPool(3, stride=2, padding=0)
    layers: dict[str, Layer] = {
        "Conv2d_1a_3x3": unit(32, 3, stride=2, padding=0), "Conv2d_2a_3x3": unit(32, 3, padding=0),
        "Conv2d_2b_3x3": unit(64, 3), "Pool1": pool,
        "Conv2d_3b_1x1": unit(80), "Conv2d_4a_3x3": unit(192, 3, padding=0), "Pool2": pool,
        "Mixed_5b": _fives(unit, 32), "Mixed_5c": _fives(unit, 64), "Mixed_5d": _fives(unit, 64),
        "Mixed_6a": _shrink_to_17(unit),
        "Mixed_6b": _sevens(unit, 128), "Mixed_6c": _sevens(unit, 160), "Mixed_6d": _sevens(unit, 160),
        "Mixed_6e": _sevens(unit, 192),
    }  # fmt: skip
    if aux:
        layers["AuxLogits"] = Beside(Sequential(
            pool=AvgPool(5, stride=3, padding=0), conv0=unit(128), conv1=unit(768, 5, padding=0),
            global_pool=GlobalAvgPool(), fc=Linear(num_classes),
        ))  # fmt: skip
    layers |= {
        "Mixed_7a": _shrink_to_8(unit), "Mixed_7b": _wide(unit), "Mixed_7c": _wide(unit),
        "global_pool": GlobalAvgPool(), "dropout": Dropout(dropout),
    }  # fmt: skip
    if num_classes:
        layers["fc"] = Linear(num_classes)
    stages = ("Conv2d_2b_3x3", "Conv2d_4a_3x3", "Mixed_5d", "Mixed_6e", "Mixed_7c")
    return Network(layers, stages={name: name for name in stages})


def _fives(unit: Unit, pooled: int) -> Parallel:
    """Figure 5."""
    return Parallel(
        branch1x1=unit(64),
        **_chain("5x5", unit(48), unit(64, 5)),
        **_chain("3x3dbl", unit(64), unit(96, 3), unit(96, 3)),
        **_pooled(unit(pooled)),
    )


def _sevens(unit: Unit, inner: int) -> Parallel:
    """Figure 6."""
    long = (unit(inner), unit(inner, COLUMN), unit(inner, ROW), unit(inner, COLUMN), unit(192, ROW))
    return Parallel(
        branch1x1=unit(192),
        **_chain("7x7", unit(inner), unit(inner, ROW), unit(192, COLUMN)),
        **_chain("7x7dbl", *long),
        **_pooled(unit(192)),
    )


def _wide(unit: Unit) -> Parallel:
    """Figure 7."""

    def both(name: str) -> Parallel:
        layers: dict[str, Any] = {f"{name}a": unit(384, (1, 3)), f"{name}b": unit(384, (3, 1))}
        return Parallel(**layers)

    return Parallel(
        branch1x1=unit(320),
        **_chain("3x3", unit(384), _2=both("branch3x3_2")),
        **_chain("3x3dbl", unit(448), unit(384, 3), _3=both("branch3x3dbl_3")),
        **_pooled(unit(192)),
    )


def _shrink_to_17(unit: Unit) -> Parallel:
    """Figure 10."""
    return Parallel(
        branch3x3=unit(384, 3, stride=2, padding=0),
        **_chain("3x3dbl", unit(64), unit(96, 3), unit(96, 3, stride=2, padding=0)),
        branch_pool=MaxPool(3, stride=2, padding=0),
    )


def _shrink_to_8(unit: Unit) -> Parallel:
    """Figure 10, with a 7×7 before one of its convolutions."""
    return Parallel(
        **_chain("3x3", unit(192), unit(320, 3, stride=2, padding=0)),
        **_chain("7x7x3", unit(192), unit(192, ROW), unit(192, COLUMN), unit(192, 3, stride=2, padding=0)),
        branch_pool=MaxPool(3, stride=2, padding=0),
    )


def _chain(window: str, *units: Layer, **last: Layer) -> dict[str, Any]:
    """A branch of several layers, at the block's own path: `branch5x5_1`, `branch5x5_2`."""
    named = {f"branch{window}_{i}": layer for i, layer in enumerate(units, 1)}
    return {f"_{window}": Sequential(**named, **last)}


def _pooled(unit: Layer) -> dict[str, Any]:
    return {"_pool": Sequential(pool=AvgPool(3, stride=1), branch_pool=unit)}
