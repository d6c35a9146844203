"""The catalogue: every layer of `jconv.layers` and some tiny networks, each with an input; many laws run over it."""

import contextlib
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jconv.layers import (
    Activation,
    AdaptiveAvgPool,
    AdaptiveMaxPool,
    AvgPool,
    BatchNorm,
    Beside,
    BlurPool,
    ChannelShuffle,
    Conv,
    ConvTranspose,
    DepthToSpace,
    Dropout,
    DropPath,
    FixedFilter,
    Flatten,
    GlobalAvgPool,
    GlobalMaxPool,
    GroupNorm,
    Highway,
    Identity,
    L2Pool,
    Layer,
    LayerNorm,
    LayerScale,
    Linear,
    LocalResponseNorm,
    MaxBlurPool,
    MaxPool,
    PadChannels,
    Parallel,
    Residual,
    Sequential,
    SpaceToDepth,
    SqueezeExcite,
    StandardizedConv,
    Upsample,
    add,
)
from jconv.layers.initializers import Constant
from jconv.models import Network, resnet


def known(options: dict[str, Any]) -> dict[str, Any]:
    """Those of the compiler's options that this jaxlib has; newer ones have none about fusion emitters."""
    found = {}
    for name, value in options.items():
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            jax.jit(lambda: 0).lower().compile({name: value})
            found[name] = value
    return found


fast_jit = partial(
    jax.jit, compiler_options=known({"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False})
)
"""`jax.jit` for programs that run once or twice: most of a test's time is XLA's optimiser.

Its results are only ever compared with right ones: with these two options together jaxlib 0.10 computes some large
programs wrong, as ResNet-50's gradient. There a test takes `jax.jit`, or the first option alone at 1.5 times the time.
"""


def lax_conv(
    x: jax.Array, kernel: jax.Array, *, stride: Any, padding: Any, dilation: Any, groups: int = 1
) -> jax.Array:
    """JAX's own convolution, channels last, with our names."""
    names = {1: ("NWC", "WIO", "NWC"), 2: ("NHWC", "HWIO", "NHWC"), 3: ("NDHWC", "DHWIO", "NDHWC")}[x.ndim - 2]
    return jax.lax.conv_general_dilated(
        x, kernel, stride, padding, rhs_dilation=dilation, dimension_numbers=names, feature_group_count=groups
    )


class Entry(NamedTuple):
    """A layer and the shape of what it takes."""

    layer: Layer
    shape: tuple[int, ...]


def cube(x: jax.Array) -> jax.Array:
    """A function of the user's own."""
    return x**3


IMAGE = (2, 6, 7, 4)

LEAVES: dict[str, Entry] = {
    "activation": Entry(Activation("silu"), IMAGE),
    "activation function": Entry(Activation(cube), IMAGE),
    "adaptive avg pool": Entry(AdaptiveAvgPool((4, 3)), IMAGE),
    "adaptive avg pool, even": Entry(AdaptiveAvgPool((3, 7)), IMAGE),
    "adaptive max pool": Entry(AdaptiveMaxPool(4), IMAGE),
    "avg pool": Entry(AvgPool(3, stride=2, count_include_pad=False), IMAGE),
    "avg pool, ceil": Entry(AvgPool(3, stride=2, padding=0, ceil_mode=True), IMAGE),
    "batch norm": Entry(BatchNorm(momentum=0.3, eps=1e-3), IMAGE),
    "batch norm of rows": Entry(BatchNorm(), (5, 4)),
    "blur pool": Entry(BlurPool(3), IMAGE),
    "channel shuffle": Entry(ChannelShuffle(2), IMAGE),
    "conv": Entry(Conv(8, 3, stride=2), IMAGE),
    "conv, all options": Entry(
        Conv(8, (2, 3), stride=(2, 1), padding=((0, 1), (2, 0)), dilation=(1, 2), groups=2, bias=False), IMAGE
    ),
    "conv 1d": Entry(Conv(3, 3, padding="CAUSAL"), (2, 9, 4)),
    "conv 3d": Entry(Conv(3, 2, padding="SAME"), (1, 3, 4, 3, 2)),
    "conv im2col": Entry(Conv(8, 3, lowering="im2col"), IMAGE),
    "depth to space": Entry(DepthToSpace(2), IMAGE),
    "conv transpose": Entry(ConvTranspose(6, 3, stride=2, output_padding=1, groups=2), IMAGE),
    "depthwise": Entry(Conv(4, 3, groups=4, bias=False), IMAGE),
    "drop path": Entry(DropPath(0.5), (16, 3, 4)),
    "dropout": Entry(Dropout(0.5), IMAGE),
    "fixed filter": Entry(FixedFilter("sobel_x"), IMAGE),
    "fixed filter 1d": Entry(FixedFilter("gaussian", size=4, sigma=0.8, stride=2), (2, 9, 3)),
    "flatten": Entry(Flatten(), IMAGE),
    "flatten, channels first": Entry(Flatten(channels_first=True), IMAGE),
    "group norm": Entry(GroupNorm(2), IMAGE),
    "global avg pool": Entry(GlobalAvgPool(), IMAGE),
    "global max pool": Entry(GlobalMaxPool(), IMAGE),
    "identity": Entry(Identity(), IMAGE),
    "l2 pool": Entry(L2Pool(3, stride=2), IMAGE),
    "layer norm": Entry(LayerNorm(), IMAGE),
    "layer norm, spatial": Entry(LayerNorm(spatial=True), IMAGE),
    "layer scale": Entry(LayerScale(0.3), IMAGE),
    "linear": Entry(Linear(5), (3, 4)),
    "linear, biased": Entry(Linear(5, bias_init=Constant(1.5)), (3, 4)),
    "local response norm": Entry(LocalResponseNorm(size=3, alpha=0.5), IMAGE),
    "max blur pool": Entry(MaxBlurPool(3, stride=2), IMAGE),
    "max pool": Entry(MaxPool(3, stride=2), IMAGE),
    "max pool, ceil": Entry(MaxPool(2, padding=0, ceil_mode=True), IMAGE),
    "max pool, dilated": Entry(MaxPool(2, stride=1, dilation=2), IMAGE),
    "pad channels": Entry(PadChannels(7, stride=2), IMAGE),
    "space to depth": Entry(SpaceToDepth((2, 1), order="channel"), IMAGE),
    "standardized conv": Entry(StandardizedConv(8, 3, groups=2), IMAGE),
    "upsample": Entry(Upsample(2), IMAGE),
    "upsample, bilinear": Entry(Upsample(size=(9, 5), method="bilinear"), IMAGE),
}

COMPOSITES: dict[str, Entry] = {
    "beside": Entry(Sequential(conv=Conv(8, 3), aux=Beside(GlobalAvgPool()), act=Activation("relu")), IMAGE),
    "highway": Entry(Highway(Conv(4, 3), Conv(4, 3, bias_init=Constant(-2.0))), IMAGE),
    "parallel": Entry(Parallel(Conv(3, 1), pool=Sequential(MaxPool(3, stride=1), Conv(2, 1))), IMAGE),
    "parallel, at its own path": Entry(
        Parallel(_a=Sequential(conv1=Conv(3, 1), conv2=Conv(2, 3)), _b=Identity(), conv3=Conv(2, 1)), IMAGE
    ),
    "parallel sum": Entry(Parallel(Conv(4, 3), Identity(), combine=add), IMAGE),
    "residual": Entry(
        Residual(
            Sequential(conv1=Conv(8, 3, stride=2, bias=False), bn1=BatchNorm(), drop_path=DropPath(0.3)),
            Sequential(Conv(8, 1, stride=2, bias=False), BatchNorm()),
            Activation("relu"),
        ),
        IMAGE,
    ),
    "sequential": Entry(Sequential(Conv(8, 3), act=Activation("gelu"), drop=Dropout(0.2), fc=Linear(3)), IMAGE),
    "squeeze and excite": Entry(SqueezeExcite(Conv(8, 1), Conv(4, 1)), IMAGE),
}

SMALL: dict[str, Any] = {"num_classes": 5, "width": 8, "zero_gamma": False, "lowering": "lax"}

MODELS: dict[str, Entry] = {
    "network": Entry(
        Network(
            stages={"stem": "stem", "layer1": "layer1"},
            stem=Conv(6, 3, stride=2),
            layer1=Sequential(
                Residual(Sequential(conv1=Conv(6, 3, bias=False), bn1=BatchNorm()), act=Activation("relu"))
            ),
            pool=GlobalAvgPool(),
            fc=Linear(5),
        ),
        (2, 8, 8, 3),
    ),
    "resnet18": Entry(resnet(18, stem="c", shortcut="avgpool", drop_path=0.2, **SMALL), (4, 32, 32, 3)),
    "resnet26": Entry(resnet(26, groups=2, group_width=32, se=1 / 4, blur=3, **SMALL), (4, 32, 32, 3)),
}

CATALOGUE = LEAVES | COMPOSITES | MODELS


class Ready(NamedTuple):
    """A layer of the catalogue with its parameters and a random input."""

    layer: Layer
    params: Any
    state: Any
    x: jax.Array
    key: jax.Array


@cache
def ready(name: str) -> Ready:
    """A layer ready to run. Parameters that start at zero or one, and statistics, are moved to where they show."""
    layer, shape = CATALOGUE[name]
    rng = np.random.default_rng(sum(map(ord, name)))
    x = jnp.asarray(rng.normal(size=shape), jnp.float32)
    params, state = layer.init(jax.random.key(1), x)

    def moved(tree: Any) -> Any:
        return jax.tree.map(
            lambda a: a + jnp.asarray(rng.uniform(0, 0.3, a.shape), a.dtype) if a.ndim == 1 else a, tree
        )

    return Ready(layer, moved(params), moved(state), x, jax.random.key(2))
