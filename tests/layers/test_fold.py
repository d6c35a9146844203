"""Folding: the same function with fewer layers, where a BatchNorm follows a convolution and nothing else uses it."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv.layers import (
    Activation,
    BatchNorm,
    Composite,
    Conv,
    ConvTranspose,
    GlobalAvgPool,
    Identity,
    Layer,
    Linear,
    Parallel,
    Residual,
    Sequential,
    StandardizedConv,
    child,
    fold,
)
from jconv.models import resnet
from tests.catalogue import fast_jit

CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}
SHAPE = (2, 8, 7, 4)


def ready(model: Layer, shape: tuple[int, ...]) -> tuple[Any, Any, jax.Array]:
    """Parameters, state and input; statistics, scales and biases are moved away from where they start."""
    rng = np.random.default_rng(0)
    x = jnp.float32(rng.normal(size=shape))

    def moved(a: jax.Array) -> jax.Array:
        return jnp.asarray(a + np.float32(rng.uniform(0.1, 0.6, a.shape)) if a.ndim == 1 else a)

    arrays = jax.tree.map(np.asarray, model.init(jax.random.key(1), x))
    return *jax.tree.map(moved, arrays), x


def folded(model: Composite, shape: tuple[int, ...] = SHAPE) -> tuple[Composite, list[str]]:
    """The folded model, which computes what the model did, and the paths of the BatchNorms that it still has."""
    params, state, x = ready(model, shape)
    before = jax.tree.map(id, (params, state))
    new, new_params, new_state = fold(model, params, state, x)
    assert jax.tree.map(id, (params, state)) == before
    assert isinstance(new, Composite)

    @fast_jit
    def run(params: Any, state: Any, new_params: Any, new_state: Any, x: jax.Array) -> Any:
        return model.apply(params, state, x)[0], new.apply(new_params, new_state, x)[0]

    right, got = run(params, state, new_params, new_state, x)
    np.testing.assert_allclose(got, right, **CLOSE)
    made = jax.eval_shape(new.init, jax.random.key(0), x)
    assert jax.tree.map(jnp.shape, made) == jax.tree.map(jnp.shape, (new_params, new_state))
    return new, [path for path, layer in new.walk() if isinstance(layer, BatchNorm)]


@pytest.mark.parametrize(
    ("depth", "options"),
    [
        (18, {"stem": "c", "shortcut": "avgpool", "se": 1 / 4}),
        (26, {"groups": 2, "group_width": 32, "blur": 3, "stem_pool": "conv"}),
    ],
)
def test_a_resnet_without_its_batch_norms(depth: int, options: dict) -> None:
    net = resnet(depth, num_classes=5, width=8, zero_gamma=False, lowering="lax", **options)
    new, left = folded(net, (2, 32, 32, 3))
    assert left == (["maxpool.2"] if options.get("blur") else [])  # a blur is between them
    assert type(new) is type(net)
    assert new.stages == net.stages  # pyright: ignore[reportAttributeAccessIssue]
    assert [path for path, _ in new.walk()] == [path for path, _ in net.walk()]
    for path, layer in net.walk():
        if isinstance(layer, BatchNorm) and path not in left:
            assert new[path] == Identity()


PAIRS: dict[str, tuple[Composite, tuple[int, ...]]] = {
    "positions": (Sequential(Conv(6, 3, bias=False), BatchNorm(eps=0.1), Activation("relu")), SHAPE),
    "biased, every option": (
        Sequential(Conv(6, (3, 2), stride=2, padding="CIRCULAR", dilation=(1, 2), groups=2), BatchNorm()), SHAPE,
    ),
    "depthwise": (Sequential(Conv(8, 3, groups=4, bias=False), BatchNorm()), SHAPE),
    "1d": (Sequential(Conv(6, 3), BatchNorm()), (2, 9, 3)),
    "linear": (Sequential(pool=GlobalAvgPool(), fc=Linear(5, bias=False), bn=BatchNorm()), SHAPE),
    "standardised": (Sequential(StandardizedConv(6, 3, bias=False, scaled=True), BatchNorm()), SHAPE),
    "two in a row": (Sequential(Conv(6, 3), BatchNorm(), Conv(5, 3), BatchNorm()), SHAPE),
    "across blocks": (Sequential(Sequential(Conv(6, 3)), bn=Sequential(BatchNorm())), SHAPE),
    "in branches": (
        Residual(Sequential(conv1=Conv(4, 3), bn1=BatchNorm()), Sequential(Conv(4, 1), BatchNorm())), SHAPE,
    ),
    "transposed": (Sequential(ConvTranspose(6, 4, stride=2), BatchNorm(), Conv(4, 1), BatchNorm()), SHAPE),
    "transposed, in groups": (Sequential(ConvTranspose(6, 3, groups=2, bias=False), BatchNorm()), SHAPE),
    "side by side": (Parallel(Sequential(Conv(4, 3), BatchNorm()), Conv(3, 1)), SHAPE),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_every_pair_is_found(name: str) -> None:
    new, left = folded(*PAIRS[name])
    assert left == []
    assert not any(isinstance(layer, StandardizedConv) for _, layer in new.walk())


def test_a_folded_network_has_nothing_left_to_fold() -> None:
    params, state, x = ready(PAIRS["two in a row"][0], SHAPE)
    once = fold(PAIRS["two in a row"][0], params, state, x)
    again = fold(*once, x)
    assert once[0] == again[0] == Sequential(Conv(6, 3), Identity(), Conv(5, 3), Identity())
    jax.tree.map(np.testing.assert_array_equal, again[1:], once[1:])


# What must not be folded


@dataclasses.dataclass(frozen=True, repr=False)
class Wired(Composite):
    """A convolution, a BatchNorm, and a wiring of their outputs that subclasses choose."""

    conv: Layer = Conv(4, 3)
    bn: Layer = BatchNorm()


class UsedAgain(Wired):
    def wire(self, run, x):
        y = run("conv", x)
        return run("bn", y) + y


class UsedByAnotherLayer(Wired):
    def wire(self, run, x):
        y = run("conv", x)
        return run("bn", y) + run("act", y)

    def children(self):
        return super().children() | {"act": Activation("relu")}


class Changed(Wired):
    def wire(self, run, x):
        return run("bn", 2 * run("conv", x))


class ConvTwice(Wired):
    def wire(self, run, x):
        return run("bn", run("conv", run("conv", x)))


class NormTwice(Wired):
    def wire(self, run, x):
        return run("bn", run("bn", run("conv", x)))


class NormFirst(Wired):
    def wire(self, run, x):
        return run("conv", run("bn", x))


class InAScan(Wired):
    def wire(self, run, x):
        return jax.lax.scan(lambda x, _: (run("bn", run("conv", x)), None), x, None, 2)[0]


class OneInAScan(Wired):
    def wire(self, run, x):
        return run("bn", jax.lax.scan(lambda x, _: (run("conv", x), None), x, None, 2)[0])


class Checkpointed(Wired):
    def wire(self, run, x):
        return jax.checkpoint(lambda x: run("bn", run("conv", x)))(x)


class Mapped(Wired):
    def wire(self, run, x):
        return jax.vmap(lambda x: run("bn", run("conv", x[None]))[0])(x)


class Gain(BatchNorm):
    """A subclass that computes something else."""

    def apply(self, params, state, x, *, train=False, key=None):
        return x * params["scale"], state


KEPT: dict[str, Composite] = {
    "its output is used again": UsedAgain(),
    "another layer uses it": UsedByAnotherLayer(),
    "something is between them": Changed(),
    "an activation is between them": Sequential(conv=Conv(4, 3), act=Activation("relu"), bn=BatchNorm()),
    "the convolution runs twice": ConvTwice(),
    "the norm runs twice": NormTwice(),
    "the norm is first": NormFirst(),
    "the convolution is in a scan": OneInAScan(),
    "two branches are added": Sequential(conv=Residual(Sequential(Conv(4, 3)), Conv(4, 1)), bn=BatchNorm()),
    "one of them is another kind": Sequential(conv=Conv(4, 3), bn=Gain()),
}


@pytest.mark.parametrize("name", KEPT)
def test_what_is_not_a_pair_is_kept(name: str) -> None:
    params, state, x = ready(KEPT[name], SHAPE)
    new, new_params, new_state = fold(KEPT[name], params, state, x)
    assert new == KEPT[name]
    jax.tree.map(np.testing.assert_array_equal, (new_params, new_state), (params, state))


@pytest.mark.parametrize("wired", [InAScan(), Checkpointed(), Mapped()], ids=lambda w: type(w).__name__)
def test_pairs_inside_of_transformations_are_found(wired: Wired) -> None:
    new, left = folded(wired)
    if not isinstance(wired, InAScan) or not left:  # a scan may trace its body more than once
        assert new == type(wired)(Conv(4, 3), Identity())


def test_layers_without_a_path_of_their_own() -> None:
    @dataclasses.dataclass(frozen=True, repr=False)
    class Bare(Composite):
        conv: Layer = child("", default=Conv(4, 3, bias=False))
        bn: Layer = BatchNorm()

        def wire(self, run, x):
            return run("bn", run("conv", x))

    params, state, x = ready(Bare(), SHAPE)
    assert set(params) == {"kernel", "bn"}
    new, new_params, new_state = fold(Bare(), params, state, x)
    assert (set(new_params), new_state) == ({"kernel", "bias"}, {})
    np.testing.assert_allclose(new.apply(new_params, {}, x)[0], Bare().apply(params, state, x)[0], **CLOSE)


def test_a_leaf_has_nothing_to_fold() -> None:
    params, state, x = ready(Conv(4, 3), SHAPE)
    assert fold(Conv(4, 3), params, state, x) == (Conv(4, 3), params, state)


def test_folding_under_jit_and_in_half_precision() -> None:
    model = PAIRS["positions"][0]
    params, state, x = ready(model, SHAPE)
    right = model.apply(params, state, x)[0]
    new = fold(model, params, state, x)[0]
    inside_params, inside_state = jax.jit(lambda params, state: fold(model, params, state, x)[1:])(params, state)
    np.testing.assert_allclose(new.apply(inside_params, inside_state, x)[0], right, **CLOSE)
    half = new.apply(inside_params, inside_state, x.astype(jnp.bfloat16))[0]
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), right, rtol=0.05, atol=0.05)
