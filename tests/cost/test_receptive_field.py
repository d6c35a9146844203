"""Receptive fields: against the extent of gradients on random networks, and the published table."""

from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jconv
from jconv import cost
from jconv.cost.formulas import receptive_field_of_stack
from jconv.layers import BatchNorm, Conv, MaxPool, Residual, Sequential, SqueezeExcite
from tests.catalogue import fast_jit
from tests.models.zoo import TINY

PADDED = "SAME"


def chain(*layers: tuple[int, int]) -> Callable:
    """A network of windows (kernel, stride) in raw lax, padded as TensorFlow does."""

    def f(x: jax.Array) -> jax.Array:
        for kernel, stride in layers:
            x = lax.reduce_window(x, 0.0, lax.add, (1, kernel, kernel, 1), (1, stride, stride, 1), PADDED)
        return x

    return f


def slim_resnet50() -> list[tuple[int, int]]:
    """TF-Slim's resnet_v1_50: the last 3×3 of every stage but the last strides."""
    layers = [(7, 2), (3, 2)]
    for i, blocks in enumerate((3, 4, 6, 3)):
        layers += [(3, 2 if j == blocks - 1 and i < 3 else 1) for j in range(blocks)]
    return layers


VGG16 = [layer for convs in (2, 2, 3, 3, 3) for layer in [*[(3, 1)] * convs, (2, 2)]]
MOBILENET = [(3, s) for s in (2, 1, 2, 1, 2, 1, 2, *[1] * 5, 2, 1)]
# https://github.com/google-research/receptive_field, table of the README
PUBLISHED = {"vgg16": (VGG16, 212), "resnet_v1_50": (slim_resnet50(), 483), "mobilenet_v1": (MOBILENET, 315)}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_table(name: str) -> None:
    layers, size = PUBLISHED[name]
    field = cost.receptive_field(chain(*layers), jax.ShapeDtypeStruct((1, 512, 512, 1), "float32"))[""]
    assert field.size == (size, size)
    assert field.jump == (32, 32)
    assert receptive_field_of_stack(layers) == size


def test_the_zoo() -> None:
    net, x = jconv.models.create("resnet18", num_classes=0), jax.ShapeDtypeStruct((1, 224, 224, 3), "float32")
    args = (*jax.eval_shape(net.init, jax.random.key(0), x), x)
    fields = cost.receptive_field(net.apply, *args)
    assert fields["conv1"] == ((7, 7), (2, 2), (3, 3))
    assert fields["layer4"].jump == (32, 32)
    assert fields["global_pool"].size == fields[""].size == (0, 0), "a mean sees everything"


def extent(fn: Callable, x: np.ndarray, at: tuple[int, ...]) -> list[tuple[int, int]]:
    """First and last input element along each spatial axis that moves the output at that position."""
    gradient = np.asarray(fast_jit(jax.grad(lambda x: fn(x)[:, *at].sum()))(x))
    where = np.nonzero(gradient)
    return [(int(where[1 + i].min()), int(where[1 + i].max())) for i in range(len(at))]


KINDS = ["conv", "pool", "branch", "crop", "pad", "flip", "deep", "patches", "jconv", "transposed"]


def random_net(rng: np.random.Generator) -> Callable:
    """Windows, branches that add or concatenate, slices, pads, flips and space-to-depth, with positive weights."""
    parts = [(str(rng.choice(KINDS)), rng.integers(0, 99)) for _ in range(4)]

    def window(x: jax.Array, rng: np.random.Generator, channels: int = 2) -> jax.Array:
        k, s, d, lo, hi = rng.integers((1, 1, 1, 0, 0), (4, 3, 3, 3, 3), (2, 5)).T.tolist()
        kernel = jnp.ones((*k, x.shape[-1], channels), x.dtype)
        return lax.conv_general_dilated(
            x, kernel, s, list(zip(lo, hi, strict=True)), None, d, ("NHWC", "HWIO", "NHWC")
        )  # fmt: skip

    def f(x: jax.Array) -> jax.Array:
        for name, seed in parts:
            r = np.random.default_rng(seed)
            match name:
                case "conv":
                    x = window(x, r)
                case "pool":
                    x = lax.reduce_window(x, 0.0, lax.add, (1, 3, 2, 1), (1, 2, 1, 1), "SAME")
                case "branch":
                    x = jnp.concatenate([jnp.pad(x[:, 1:], ((0, 0), (0, 1), (0, 0), (0, 0))), x * 2], -1)
                case "crop":
                    x = lax.slice(x, (0, 1, 0, 0), x.shape, (1, 1, 2, 1))
                case "pad":
                    x = jnp.pad(x, ((0, 0), (1, 0), (2, 3), (0, 0)))
                case "flip":
                    x = x[:, ::-1].transpose(0, 2, 1, 3)
                case "deep":
                    x = x[:, : x.shape[1] // 2 * 2]
                    n, h, w, c = x.shape
                    x = x.reshape(n, h // 2, 2, w, c).transpose(0, 1, 3, 2, 4).reshape(n, h // 2, w, 2 * c)
                case "jconv":
                    stride, dilation, *padding = r.integers((1, 1, 0, 0), (3, 3, 2, 3)).tolist()
                    kernel = jnp.ones((3, 2, 1, x.shape[-1]), x.dtype)
                    options = {"stride": stride, "dilation": dilation, "padding": [padding, padding[::-1]]}
                    x = jconv.conv(x, kernel, groups=x.shape[-1], **options)
                case "transposed":
                    kernel = jnp.ones((3, 2, 2, x.shape[-1]), x.dtype)
                    x = jconv.ops.conv_transpose(x, kernel, padding=1, dilation=(1, 2))
                case "patches":
                    x = jconv.conv(x, jnp.ones((3, 3, x.shape[-1], 2), x.dtype), padding=1, lowering="im2col")
        return x

    return f


def test_fields_are_the_extents_of_gradients(rng: np.random.Generator) -> None:
    shape = (1, 40, 38, 1)
    x = np.ones(shape, np.float32)
    for _ in range(16):
        f = random_net(rng)
        out = jax.eval_shape(f, jax.ShapeDtypeStruct(shape, "float32")).shape
        field = cost.receptive_field(f, jax.ShapeDtypeStruct(shape, "float32"))[""]
        for at in (tuple(n // 2 for n in out[1:-1]), tuple(n // 3 for n in out[1:-1])):
            measured = extent(f, x, at)
            first = predicted(f, shape, at)
            assert measured == [(max(0, lo), min(n - 1, hi)) for (lo, hi), n in zip(first, shape[1:-1], strict=True)]
        assert all(size >= 1 for size in field.size)


def predicted(f: Callable, shape: tuple[int, ...], at: tuple[int, ...]) -> list[tuple[int, int]]:
    return [(int(lo), int(hi)) for lo, hi in exact(f, shape, at)]


def exact(f: Callable, shape: tuple[int, ...], at: tuple[int, ...]) -> list[tuple[Fraction, Fraction]]:
    """First and last element that the spans say, whatever dimension of the output an axis has come to."""
    from jconv.cost.fields import propagate
    from jconv.cost.rules import RULES
    from jconv.cost.trace import trace

    block, _, made = trace(f, jax.ShapeDtypeStruct(shape, "float32"), opaque=RULES)
    seen = propagate(block, block.inputs[0]).seen[made]
    spans = []
    for axis in range(1, len(shape) - 1):
        s = seen[axis]
        lo = s.start + (s.jump * at[s.dim - 1] if s.dim is not None else 0)
        spans.append((lo, lo + s.size - 1))
    return spans


def test_a_strided_transpose_sees_at_most_its_field(rng: np.random.Generator) -> None:
    """Between the inputs are holes, so that outputs see different numbers of them; the field is that of all."""
    shape = (1, 12, 9, 2)
    kernel = jnp.ones((4, 3, 3, 2))
    f = partial(jconv.ops.conv_transpose, kernel=kernel, stride=(2, 3), padding=(1, 0))
    out = jax.eval_shape(f, jax.ShapeDtypeStruct(shape, "float32")).shape
    reached = False
    for at in zip(*(rng.integers(n // 3, n // 2, 6).tolist() for n in out[1:3]), strict=True):
        spans = list(zip(extent(f, np.ones(shape, np.float32), at), exact(f, shape, at), strict=True))
        assert all(lo <= first <= last <= hi for (first, last), (lo, hi) in spans)
        reached |= all(last - first >= hi - lo - 1 for (first, last), (lo, hi) in spans)
    assert reached


def test_a_wrong_extent_is_noticed() -> None:
    f = chain((3, 1), (3, 1))
    assert extent(f, np.ones((1, 16, 16, 1), np.float32), (8, 8)) == [(6, 10), (6, 10)]
    assert predicted(chain((3, 1), (5, 1)), (1, 16, 16, 1), (8, 8)) != [(6, 10), (6, 10)]


def test_branches_take_the_widest_and_statistics_are_left_out() -> None:
    net = Sequential(
        conv=Conv(4, 3),
        block=Residual(Sequential(Conv(4, 5), BatchNorm(), se=SqueezeExcite(Conv(2, 1), Conv(4, 1)))),
        pool=MaxPool(2),
    )
    x = jax.ShapeDtypeStruct((1, 32, 32, 3), "float32")
    args = (*jax.eval_shape(net.init, jax.random.key(0), x), x)
    field = cost.receptive_field(lambda *a: net.apply(*a, train=True)[0], *args)[""]
    assert (field.size, field.jump, field.padding) == ((8, 8), (2, 2), (3, 3))
    assert cost.receptive_field(net.apply, *args, statistics=True)[""].size == (0, 0)


def test_loops_of_layers_and_one_and_three_axes() -> None:
    def f(w: jax.Array, x: jax.Array) -> jax.Array:
        return lax.scan(lambda x, w: (jconv.conv(x, w, padding=1, lowering="lax"), None), x, w)[0]

    x, w = jax.ShapeDtypeStruct((1, 30, 2), "float32"), jax.ShapeDtypeStruct((5, 3, 2, 2), "float32")
    assert cost.receptive_field(f, w, x)[""].size == (11,)
    x, k = jax.ShapeDtypeStruct((1, 9, 9, 9, 1), "float32"), jax.ShapeDtypeStruct((3, 1, 2, 1, 1), "float32")
    assert cost.receptive_field(lambda k, x: jconv.conv(x, k), k, x)[""].size == (3, 1, 2)


def test_another_layout_of_axes() -> None:
    def f(x: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(
            x, jnp.ones((4, 3, 3, 5)), (2, 1), "SAME", dimension_numbers=("NCHW", "OIHW", "NCHW")
        )

    field = cost.receptive_field(f, jax.ShapeDtypeStruct((1, 3, 16, 16), "float32"))[""]
    assert (field.size, field.jump) == ((3, 5), (2, 1))


@pytest.mark.parametrize("name", [name for name in TINY if "tcn" not in name and "text" not in name])
def test_one_image_is_seen_as_two_are(name: str) -> None:
    """Reshapes keep an axis of one image apart from those of space."""
    net, shape = TINY[name].make(), TINY[name].shape

    def fields(n: int) -> dict[str, Any]:
        x = jax.ShapeDtypeStruct((n, *shape), "float32")
        arrays = jax.eval_shape(net.init, jax.random.key(0), x)
        return cost.receptive_field(lambda *args: net.apply(*args)[0], *arrays, x)

    assert fields(1) == fields(2)


@pytest.mark.parametrize("n", [1, 2])
def test_statistics_are_not_what_a_network_is_for(n: int) -> None:
    """They may be larger than its value, and see nothing."""
    net = Sequential(conv=Conv(64, 3), bn=BatchNorm(), head=Conv(2, 1))
    x = jax.ShapeDtypeStruct((n, 1, 4, 1), "float32")
    arrays = jax.eval_shape(net.init, jax.random.key(0), x)
    assert cost.receptive_field(net.apply, *arrays, x)[""].size == (3, 3)


def test_mistakes_are_said() -> None:
    x = jax.ShapeDtypeStruct((1, 16, 16, 1), "float32")
    with pytest.raises(ValueError, match="argument: expected the number of one of the 1 arguments, an array, got 3"):
        cost.receptive_field(chain((3, 1)), x, argument=3)
    with pytest.raises(ValueError, match=r"at: expected an index for each of the spatial sizes \(16, 16\)"):
        cost.effective_receptive_field(chain((3, 1)), x.shape, key=jax.random.key(0), at=(16, 0))
    with pytest.raises(ValueError, match="take features before the mean"):
        cost.effective_receptive_field(lambda x: x.mean((1, 2)), x.shape, key=jax.random.key(0))
    with pytest.raises(ValueError, match="samples: expected a positive number of inputs, got 0"):
        cost.effective_receptive_field(chain((3, 1)), x.shape, key=jax.random.key(0), samples=0)


def test_the_effective_field_grows_as_the_root_of_depth(key: jax.Array) -> None:
    nets = [chain(*[(3, 1)] * depth) for depth in (4, 16)]
    sizes = [cost.effective_receptive_field(net, (1, 41, 41, 1), key=key, samples=1) for net in nets]
    assert sizes[0].map.sum() == pytest.approx(1)
    assert sizes[1].map.argmax() == 41 * 20 + 20
    assert sizes[1].size / sizes[0].size == pytest.approx(2, rel=0.15), "Luo et al. 2016, theorem 1"
