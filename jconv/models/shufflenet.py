"""ShuffleNet: v1 with grouped 1×1 convolutions and a shuffle between them, v2 that splits the channels in halves."""

import dataclasses
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp

from jconv.layers import (
    Activation,
    AvgPool,
    BatchNorm,
    ChannelShuffle,
    Composite,
    Conv,
    GlobalAvgPool,
    Identity,
    Layer,
    Linear,
    MaxPool,
    Residual,
    Run,
    Sequential,
    child,
    concatenate,
    depthwise,
)
from jconv.models.network import Network, known, sized

__all__ = ["COUNTS", "V1", "V2", "Concatenated", "Halves", "shufflenet_v1", "shufflenet_v2"]

Act = str | Callable[[jax.Array], jax.Array]

COUNTS = (4, 8, 4)
"""Units of each stage; the first of each strides."""
STAGE2 = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}
"""Features of v1's first stage by groups, which all cost about the same; they double in each of the next."""
FEATURES: dict[float, tuple[int, ...]] = {
    0.5: (24, 48, 96, 192, 1024),
    1.0: (24, 116, 232, 464, 1024),
    1.5: (24, 176, 352, 704, 1024),
    2.0: (24, 244, 488, 976, 2048),
}
"""Of v2's stem, stages and head, by width."""
V1: dict[str, dict] = {f"shufflenet_v1_g{groups}": {"groups": groups} for groups in STAGE2}
V2: dict[str, dict] = {f"shufflenet_v2_x{str(width).replace('.', '_')}": {"width": width} for width in FEATURES}


@dataclasses.dataclass(frozen=True, repr=False)
class Concatenated(Residual):
    """`y = act([shortcut(x), branch(x)])`: a Residual whose shortcut stands beside the branch."""

    def wire(self, run: Run, x: jax.Array) -> jax.Array:
        """Side by side."""
        return run("act", concatenate([run("shortcut", x), run("branch", x)]))


@dataclasses.dataclass(frozen=True, repr=False)
class Halves(Composite):
    """`y = shuffle([branch1(a), branch2(b)])` where a and b are the halves of x's channels, or both x where it strides.

    Ma et al. 2018, arXiv:1807.11164, figure 3, c and d.
    """

    branch1: Layer
    branch2: Layer
    split: bool = False
    shuffle: Layer = child("shuffle", default=ChannelShuffle(2))

    def wire(self, run: Run, x: jax.Array) -> jax.Array:
        """Apart, and dealt out anew."""
        a, b = jnp.split(x, 2, axis=-1) if self.split else (x, x)
        return run("shuffle", concatenate([run("branch1", a), run("branch2", b)]))


def shufflenet_v1(*, groups: int = 3, width: float = 1.0, num_classes: int = 1000, act: Act = "relu") -> Network:
    """ShuffleNet v1: a 3×3/2 stem, a max-pool, three stages of units 1×1, shuffle, depthwise 3×3, 1×1, a mean.

    Both 1×1 convolutions have groups, but for the first of all, which sees few channels; the shuffle lets each group
    of the second see all of the first. Where a unit strides, its input is averaged and stands beside the branch.

    Args:
        groups: of the 1×1 convolutions: 1, 2, 3, 4 or 8; the more, the more features at the same cost.
        width: multiplies all features.
        num_classes: features of the classifier `fc`; 0 ends the network with the pooled features.
        act: the activation.

    Returns:
        A Network with the paper's names of stages and ResNet's in a unit, (N, H, W, C) -> (N, num_classes), and
        features "conv1", "maxpool", "stage2", "stage3", "stage4".

    Raises:
        ValueError: another number of groups, or features that these do not divide.

    Example:
        >>> net = shufflenet_v1(groups=8)
        >>> params, _ = jax.eval_shape(net.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 64, 64, 3), "float32"))
        >>> sum(p.size for p in jax.tree.leaves(params))
        2434768

    References:
        Zhang et al. 2017, "ShuffleNet", arXiv:1707.01083, table 1 and figure 2.
    """
    sized(num_classes=num_classes, width=width)
    stem, stage2 = round(24 * width), round(STAGE2[known("groups", groups, STAGE2)] * width)
    if stage2 % (4 * groups) or (stage2 - stem) % groups or not stem:
        raise ValueError(
            f"width: expected features of the stem and of stage 2 of which {groups} groups divide the difference and "
            f"a quarter of the latter, got {stem} and {stage2} at width={width}"
        )

    def unit(channels: int, features: int, stride: int, first: int) -> Layer:
        hidden = features // 4
        branch = Sequential(
            conv1=Conv(hidden, 1, groups=first, bias=False), bn1=BatchNorm(), act1=Activation(act),
            shuffle=ChannelShuffle(first), conv2=depthwise(hidden, 3, stride=stride, bias=False), bn2=BatchNorm(),
            conv3=Conv(features - (channels if stride > 1 else 0), 1, groups=groups, bias=False), bn3=BatchNorm(),
        )  # fmt: skip
        if stride > 1:
            return Concatenated(branch, AvgPool(3, stride=2), Activation(act))
        return Residual(branch, act=Activation(act))

    def stages(channels: int) -> Iterator[tuple[str, Layer]]:
        for i, count in enumerate(COUNTS):
            features = stage2 << i
            units = [unit(channels, features, 2, groups if i else 1)]
            units += [unit(features, features, 1, groups) for _ in range(count - 1)]
            yield f"stage{i + 2}", Sequential(*units)
            channels = features

    return _network(_conv(stem, 3, act, stride=2), dict(stages(stem)), num_classes)


def shufflenet_v2(*, width: float = 1.0, num_classes: int = 1000, act: Act = "relu") -> Network:
    """ShuffleNet v2: as v1 without groups; a unit leaves half of the channels alone, and the shuffle comes last.

    Args:
        width: 0.5, 1.0, 1.5 or 2.0 of the paper's table of features; another multiplies those of 1.0.
        num_classes, act: as in `shufflenet_v1`.

    Returns:
        A Network with torchvision's paths, (N, H, W, C) -> (N, num_classes), and features "conv1", "maxpool",
        "stage2", "stage3", "conv5".

    Raises:
        ValueError: a width that leaves no features.

    Example:
        >>> net = shufflenet_v2(width=0.5)
        >>> params, _ = jax.eval_shape(net.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 64, 64, 3), "float32"))
        >>> sum(p.size for p in jax.tree.leaves(params))
        1366792

    References:
        Ma et al. 2018, "ShuffleNet V2", arXiv:1807.11164, table 5 and figure 3.
    """
    sized(num_classes=num_classes, width=width)
    stem, *features, head = FEATURES.get(width) or (2 * round(f * width / 2) for f in FEATURES[1.0])
    if min(stem, *features) < 2:
        raise ValueError(f"width: expected at least 2 features in the stem and in each stage, got width={width}")

    def window(channels: int, stride: int) -> list[Layer]:
        return [depthwise(channels, 3, stride=stride, bias=False), BatchNorm()]

    def unit(channels: int, features: int, stride: int) -> Layer:
        half = features // 2
        project = list(_conv(half, 1, act).children().values())
        branch1 = Sequential(*window(channels, stride), *project) if stride > 1 else Identity()
        branch2 = Sequential(*project, *window(half, stride), *project)
        return Halves(branch1, branch2, split=stride == 1)

    def stages(channels: int) -> Iterator[tuple[str, Layer]]:
        for i, (f, count) in enumerate(zip(features, COUNTS, strict=True)):
            yield f"stage{i + 2}", Sequential(*(unit(f if j else channels, f, 1 if j else 2) for j in range(count)))
            channels = f

    body = dict(stages(stem)) | {"conv5": _conv(head, 1, act)}
    return _network(_conv(stem, 3, act, stride=2), body, num_classes)


def _conv(features: int, kernel: int, act: Act, *, stride: int = 1) -> Sequential:
    return Sequential(Conv(features, kernel, stride=stride, bias=False), BatchNorm(), Activation(act))


def _network(conv1: Layer, body: dict[str, Layer], num_classes: int) -> Network:
    names = ["conv1", "maxpool", "stage2", "stage3", list(body)[-1]]
    layers = {"conv1": conv1, "maxpool": MaxPool(3, stride=2), **body, "global_pool": GlobalAvgPool()}
    if num_classes:
        layers["fc"] = Linear(num_classes)
    return Network(layers, stages={name: name for name in names})
