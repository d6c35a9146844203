"""The tree: paths, editing, printing, outputs by path, and layers and composites of a user's own."""

import dataclasses
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv import models
from jconv.layers import (
    Activation,
    BatchNorm,
    Beside,
    Composite,
    Conv,
    GroupNorm,
    Highway,
    Identity,
    Layer,
    LayerNorm,
    Linear,
    MaxPool,
    PadChannels,
    Parallel,
    Residual,
    Sequential,
    SqueezeExcite,
    add,
)
from jconv.layers.initializers import Constant
from tests.catalogue import COMPOSITES, MODELS, ready

NET = cast(models.Network, MODELS["network"].layer)


def paths(tree: dict, prefix: str = "") -> dict[str, jax.Array]:
    """A tree's arrays by their joined path."""
    flat = {}
    for name, value in tree.items():
        flat |= paths(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


# Paths


def test_a_path_names_a_layer() -> None:
    net = models.resnet(18)
    assert net["layer1.0.conv1"] == Conv(64, 3, bias=False)
    assert net["layer2.0.conv1"] == Conv(128, 3, stride=2, bias=False)
    assert net["layer2.0.downsample.0"] == Conv(128, 1, stride=2, bias=False)
    assert isinstance(net["layer1.0"], Residual)
    assert isinstance(net["layer1"], Sequential)
    assert net["layer1.0.downsample"] == Identity()


def test_walk_meets_every_layer_once_parents_first() -> None:
    walked = list(NET.walk())
    assert [path for path, _ in walked] == [
        "stem", "layer1", "layer1.0", "layer1.0.conv1", "layer1.0.bn1", "layer1.0.downsample", "layer1.0.act",
        "pool", "fc",
    ]  # fmt: skip
    assert all(NET[path] is layer for path, layer in walked)


@pytest.mark.parametrize("name", COMPOSITES | MODELS)
def test_parameters_and_state_stand_at_their_layers_path(name: str) -> None:
    layer, params, state, _, _ = ready(name)
    assert isinstance(layer, Composite)
    known = dict(layer.walk())
    for path in paths(params) | paths(state):
        assert path.rpartition(".")[0] in known
    leaves = [path for path, child in known.items() if isinstance(child, Conv | Linear | BatchNorm)]
    assert {path.rpartition(".")[0] for path in paths(params)} == set(leaves)


def test_an_unknown_path_names_the_nearest() -> None:
    net = models.resnet(18)
    for use in (net.__getitem__, lambda path: net.replace(path, Identity())):
        with pytest.raises(KeyError, match=r"no layer 'layer1.0.conv3' in this Network; did you mean 'layer1.0.conv"):
            use("layer1.0.conv3")
    with pytest.raises(KeyError, match=r"no layer 'zzz' in this Network; there are 'stem', 'layer1', .*'fc'"):
        NET["zzz"]
    with pytest.raises(KeyError, match=r"no layer 'layer1.0.con1'"):
        NET.outputs({}, {}, jnp.zeros((1, 8, 8, 3)), ["layer1.0.con1"])


# Editing


def test_replace_changes_one_layer_and_not_the_original() -> None:
    new = NET.replace("layer1.0.conv1", Conv(6, 5))
    assert isinstance(new, models.Network)
    assert new["layer1.0.conv1"] == Conv(6, 5)
    assert NET["layer1.0.conv1"] == Conv(6, 3, bias=False)
    assert {p for p, layer in NET.walk() if new[p] != layer} == {"layer1", "layer1.0", "layer1.0.conv1"}
    assert new.stages == NET.stages
    assert new.replace("layer1.0.conv1", NET["layer1.0.conv1"]) == NET


def test_update_changes_every_layer_of_a_kind() -> None:
    new = NET.update(Conv, lowering="im2col").update(BatchNorm, eps=0.1)
    for path, old in NET.walk():
        if isinstance(old, Conv):
            assert new[path] == dataclasses.replace(old, lowering="im2col")
        elif isinstance(old, BatchNorm):
            assert new[path] == BatchNorm(eps=0.1)
    assert new["fc"] is NET["fc"]
    assert NET.update(MaxPool, stride=1) is NET


@pytest.mark.parametrize("match", [["layer1"], ["*.bn1"], ["layer1.0.bn1", "fc"], ["layer"], []])
def test_update_of_some_paths(match: list[str]) -> None:
    """A pattern names layers and all below them, and never a path that only begins with the same letters."""
    new = NET.update(BatchNorm, match=match, frozen=True)
    changed = [path for path, old in NET.walk() if isinstance(old, BatchNorm) and new[path] != old]
    assert changed == (["layer1.0.bn1"] if match not in (["layer"], []) else [])
    assert all(new[path] == BatchNorm(frozen=True) for path in changed)


def test_editing_a_layer_does_not_reseed_the_others(key: jax.Array) -> None:
    _, _, _, x, _ = ready("network")
    before = paths(NET.init(key, x)[0])
    after = paths(NET.replace("layer1.0.conv1", Sequential(Conv(6, 3), Conv(6, 1))).init(key, x)[0])
    kept = {path for path in before if not path.startswith("layer1.0.conv1")}
    assert kept < set(after)
    for path in kept:
        np.testing.assert_array_equal(before[path], after[path])
    kernels = [before[p] for p in ("stem.kernel", "layer1.0.conv1.kernel")]
    assert not np.allclose(kernels[0].ravel()[:9], kernels[1].ravel()[:9])


def test_replacing_a_shortcut_or_an_act_of_a_block() -> None:
    block = Residual(Conv(4, 3), act=Activation("relu"))
    assert block.replace("downsample", Conv(4, 1)) == Residual(Conv(4, 3), Conv(4, 1), Activation("relu"))
    assert block.replace("act", Identity()) == Residual(Conv(4, 3))


# Values by path


def test_outputs_are_the_values_recomputed() -> None:
    net, params, state, x, key = ready("network")
    assert isinstance(net, Composite)
    at = ["stem", "layer1.0.conv1", "layer1.0", "layer1", "fc"]
    taken, after = net.outputs(params, state, x, at, train=True, key=key)
    y, after_apply = net.apply(params, state, x, train=True, key=key)
    assert list(taken) == at
    jax.tree.map(np.testing.assert_array_equal, after, after_apply)
    np.testing.assert_array_equal(taken["fc"], y)
    stem = net["stem"].apply(params["stem"], {}, x)[0]
    block = net["layer1.0"].apply(params["layer1"]["0"], state["layer1"]["0"], stem, train=True)[0]
    conv = net["layer1.0.conv1"].apply(params["layer1"]["0"]["conv1"], {}, stem)[0]
    for path, right in {"stem": stem, "layer1.0.conv1": conv, "layer1.0": block, "layer1": block}.items():
        np.testing.assert_allclose(taken[path], right, rtol=1e-5, atol=1e-6)
    assert net.outputs(params, state, x, [])[0] == {}


def test_features_are_the_stages() -> None:
    net = models.resnet(50, num_classes=0)
    x = jax.ShapeDtypeStruct((2, 65, 64, 3), "float32")
    arrays = jax.eval_shape(net.init, jax.random.key(0), x)
    maps, state = jax.eval_shape(net.features, *arrays, x)
    assert {name: y.shape for name, y in maps.items()} == {
        "stem": (2, 33, 32, 64), "layer1": (2, 17, 16, 256), "layer2": (2, 9, 8, 512), "layer3": (2, 5, 4, 1024),
        "layer4": (2, 3, 2, 2048),
    }  # fmt: skip
    assert jax.tree.structure(state) == jax.tree.structure(arrays[1])
    some, _ = jax.eval_shape(lambda *a: net.features(*a, at=["layer3", "stem"]), *arrays, x)
    assert set(some) == {"stem", "layer3"}
    with pytest.raises(ValueError, match=r"at: unknown 'layer5'; did you mean 'layer4'"):
        net.features({}, {}, jnp.zeros(x.shape), at=["layer5"])


def test_a_path_is_the_scope_of_its_operations() -> None:
    net, params, state, x, _ = ready("resnet18")
    text = jax.jit(net.apply).lower(params, state, x).as_text(debug_info=True)
    for path in ("conv1/0", "layer1/0/conv1", "layer2/0/downsample/1", "layer4/1/bn2", "fc"):
        assert f"/{path}/" in text
    assert "/layer1/0/conv3/" not in text


# Structures


def test_sequential_parallel_residual_and_excite_are_their_equations(rng: np.random.Generator, key: jax.Array) -> None:
    x = jnp.asarray(rng.normal(size=(2, 5, 4, 3)), "float32")
    f, g = Conv(3, 3), Conv(3, 1)

    def value(layer: Layer, params: dict) -> jax.Array:
        return layer.apply(params, {}, x)[0]

    def both(layer: Layer) -> tuple[dict, jax.Array, jax.Array]:
        params, _ = layer.init(key, x)
        return params, f.apply(params["a"], {}, x)[0], g.apply(params["b"], {}, x)[0]

    split = Parallel(a=f, b=g)
    params, a, b = both(split)
    np.testing.assert_array_equal(value(split, params), jnp.concatenate([a, b], axis=-1))
    np.testing.assert_array_equal(value(Parallel(a=f, b=g, combine=add), params), a + b)
    np.testing.assert_array_equal(value(Sequential(a=f, b=g), params), g.apply(params["b"], {}, a)[0])
    branch = {**params["a"], "downsample": params["b"]}
    np.testing.assert_array_equal(value(Residual(f, g, Activation("relu")), branch), jax.nn.relu(a + b))
    np.testing.assert_array_equal(value(Residual(f), params["a"]), a + x)

    excite = SqueezeExcite(Conv(4, 1), Conv(3, 1))
    p, _ = excite.init(key, x)
    hidden = jax.nn.relu(x.mean((1, 2)) @ p["fc1"]["kernel"][0, 0] + p["fc1"]["bias"])
    gate = jax.nn.sigmoid(hidden @ p["fc2"]["kernel"][0, 0] + p["fc2"]["bias"])
    np.testing.assert_allclose(value(excite, p), x * gate[:, None, None], rtol=1e-5, atol=1e-6)


def test_a_highway_is_its_equation_and_starts_by_carrying(rng: np.random.Generator, key: jax.Array) -> None:
    x = jnp.asarray(rng.normal(size=(2, 5, 4, 3)), "float32")
    layer = Highway(Conv(3, 3), Conv(3, 1, bias_init=Constant(-1.0)))
    params, _ = layer.init(key, x)
    h, t = layer.transform.apply(params["transform"], {}, x)[0], layer.gate.apply(params["gate"], {}, x)[0]
    t = jax.nn.sigmoid(t)
    np.testing.assert_allclose(layer.apply(params, {}, x)[0], h * t + x * (1 - t), rtol=1e-5, atol=1e-6)
    for bias, right in ((-40.0, x), (40.0, h)):
        params["gate"]["bias"] = jnp.full(3, bias)
        np.testing.assert_allclose(layer.apply(params, {}, x)[0], right, rtol=1e-5, atol=1e-6)


def test_a_layer_beside_is_seen_by_outputs_alone(rng: np.random.Generator, key: jax.Array) -> None:
    x = jnp.asarray(rng.normal(size=(2, 5, 4, 3)), "float32")
    plain = Sequential(a=Conv(4, 3), b=Conv(5, 1))
    net = Sequential(a=Conv(4, 3), aux=Beside(Sequential(bn=BatchNorm(), conv=Conv(2, 1))), b=Conv(5, 1))
    params, state = net.init(key, x)
    assert paths(params).keys() == {
        "a.kernel", "a.bias", "aux.bn.scale", "aux.bn.bias", "aux.conv.kernel", "aux.conv.bias", "b.kernel", "b.bias",
    }  # fmt: skip
    without = {name: params[name] for name in "ab"}
    np.testing.assert_array_equal(net.apply(params, state, x)[0], plain.apply(without, {}, x)[0])
    taken, after = net.outputs(params, state, x, ["aux", "aux.bn", "b"], train=True)
    between = plain.outputs(without, {}, x, ["a"])[0]["a"]
    aux = net["aux"].apply(params["aux"], state["aux"], between, train=True)
    np.testing.assert_allclose(taken["aux"], aux[0], rtol=1e-5, atol=1e-6)
    assert taken["aux.bn"].shape == between.shape
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), after["aux"], aux[1])
    assert not np.array_equal(after["aux"]["bn"]["mean"], state["aux"]["bn"]["mean"])
    text = jax.jit(lambda *a: net.apply(*a)[0]).lower(params, state, x).compile().as_text() or ""
    assert "/b/" in text and "/aux/" not in text
    alone = Beside(Conv(2, 1))
    assert alone.apply(*alone.init(key, x), x)[0].shape == (2, 5, 4, 2)


def test_a_name_with_an_underscore_adds_nothing_to_the_path(key: jax.Array) -> None:
    net = Sequential(
        squeeze=Conv(2, 1), _expand=Parallel(left=Conv(3, 1), _right=Sequential(a=Conv(4, 1), b=Conv(5, 3)))
    )
    x = jnp.ones((1, 4, 4, 3))
    params, state = net.init(key, x)
    assert list(params) == ["squeeze", "left", "a", "b"]
    assert [path for path, _ in net.walk()] == list(params)
    assert net.apply(params, state, x)[0].shape == (1, 4, 4, 8)
    other = net.replace("b", Conv(6, 1))
    assert (other["b"], net["b"]) == (Conv(6, 1), Conv(5, 3))
    assert net.outputs(params, state, x, ["a"])[0]["a"].shape == (1, 4, 4, 4)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("path", ["layer1.0", "layer2.0"])
def test_a_block_of_zero_gamma_starts_as_its_shortcut(path: str, train: bool, rng, key: jax.Array) -> None:
    net = models.resnet(26, width=8, num_classes=0, se=1 / 4)
    block = net[path]
    assert isinstance(block, Residual)
    x = jnp.asarray(rng.normal(size=(2, 6, 6, 8 if path == "layer1.0" else 32)), "float32")
    params, state = block.init(key, x)
    shortcut = block.shortcut.apply(params["downsample"], state["downsample"], x, train=train)[0]
    np.testing.assert_array_equal(block.apply(params, state, x, train=train)[0], jax.nn.relu(shortcut))
    other = models.resnet(26, width=8, num_classes=0, se=1 / 4, zero_gamma=False)[path]
    assert not np.allclose(other.apply(*other.init(key, x), x)[0], jax.nn.relu(shortcut))


# Of a user's own


@dataclasses.dataclass(frozen=True)
class Scale(Layer):
    """A leaf with a parameter and a count of its training steps."""

    start: float = 1.0

    def init(self, key, x):
        return {"scale": jnp.full(x.shape[-1:], self.start)}, {"steps": jnp.zeros((), jnp.int32)}

    def apply(self, params, state, x, *, train=False, key=None):
        return x * params["scale"].astype(x.dtype), {"steps": state["steps"] + 1} if train else state


@dataclasses.dataclass(frozen=True, repr=False)
class Twice(Composite):
    """One layer applied twice, and another after it."""

    layer: Layer
    last: Layer = Scale(2.0)

    def wire(self, run, x):
        return run("last", run("layer", run("layer", x)))


def test_a_layer_applied_twice_shares_its_parameters(rng: np.random.Generator, key: jax.Array) -> None:
    x = jnp.asarray(rng.normal(size=(2, 5, 3)), "float32")
    twice = Twice(Conv(3, 3))
    params, state = twice.init(key, x)
    assert set(paths(params)) == {"layer.kernel", "layer.bias", "last.scale"}
    once = twice.layer.apply(params["layer"], {}, x)[0]
    y, after = twice.apply(params, state, x, train=True)
    np.testing.assert_allclose(y, 2 * twice.layer.apply(params["layer"], {}, once)[0], rtol=1e-6)
    assert int(after["last"]["steps"]) == 1
    assert int(state["last"]["steps"]) == 0
    counted = Twice(Scale())
    assert int(counted.apply(*counted.init(key, x), x, train=True)[1]["layer"]["steps"]) == 2


def test_one_set_of_parameters_for_two_inputs_is_an_error(key: jax.Array) -> None:
    with pytest.raises(ValueError, match=r"layer: one set of parameters .* two layers or inputs: Conv\(5, 3\) on"):
        Twice(Conv(5, 3)).init(key, jnp.zeros((1, 8, 3)))


def test_two_layers_at_one_path_are_an_error(key: jax.Array) -> None:
    @dataclasses.dataclass(frozen=True, repr=False)
    class Clash(Composite):
        one: Layer = dataclasses.field(metadata={"path": "conv"})
        two: Layer = dataclasses.field(metadata={"path": "conv"})

        def wire(self, run, x):
            return run("one", x) + run("two", x)

    with pytest.raises(ValueError, match=r"conv: one set of parameters is used for two layers or inputs"):
        Clash(Conv(4, 3), Conv(4, 1)).init(key, jnp.zeros((1, 8, 3)))


def test_layers_that_define_nothing_say_so(key: jax.Array) -> None:
    with pytest.raises(TypeError, match="Layer describes no computation: it defines neither apply nor wire"):
        Layer().apply({}, {}, jnp.zeros(1))
    with pytest.raises(TypeError, match="Composite is a Composite without wire"):
        Composite().apply({}, {}, jnp.zeros(1))

    @dataclasses.dataclass(frozen=True, repr=False)
    class Typo(Composite):
        conv: Layer = Conv(3, 3)

        def wire(self, run, x):
            return run("covn", x)

    with pytest.raises(KeyError, match="Typo wires a child 'covn' that it does not have"):
        Typo().init(key, jnp.zeros((1, 8, 3)))


# Printing


def test_a_network_prints_as_a_tree() -> None:
    blocks = [Residual(Sequential(conv=Conv(8, 3), bn=BatchNorm()), act=Activation("relu"))] * 3
    net = Sequential(stem=Conv(8, (7, 3), stride=2, bias=False), stage=Sequential(*blocks), head=Linear(10))
    assert (
        str(net)
        == repr(net)
        == """\
Sequential
  stem: Conv(8, (7, 3), stride=2, bias=False)
  stage: Sequential
    0..2: 3 x Residual
      conv: Conv(8, 3)
      bn: BatchNorm()
      downsample: Identity()
      act: Activation('relu')
  head: Linear(10)"""
    )


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (Twice(Conv(3, 3)), "Twice\n  layer: Conv(3, 3)\n  last: Scale(2.0)"),
        (Parallel(Conv(3, 1), Identity(), combine=add), "Parallel(combine=add)\n  0: Conv(3, 1)\n  1: Identity()"),
        (Residual(Conv(3, 3)), "Residual\n  : Conv(3, 3)\n  downsample: Identity()\n  act: Identity()"),
        (Sequential(), "Sequential()"),
        (PadChannels(8, stride=2), "PadChannels(8, stride=2)"),
    ],
)
def test_text(layer: Layer, text: str) -> None:
    assert str(layer) == repr(layer) == text


@pytest.mark.parametrize(
    "net",
    [
        Sequential(_norm=BatchNorm(), fc=Linear(3)),
        Sequential(_norm=BatchNorm(ghost=2), fc=Linear(3)),
        Residual(LayerNorm(), Linear(4)),
        Residual(GroupNorm(2), Linear(4)),
    ],
)
def test_a_leaf_may_stand_at_its_parents_path(net: Layer, key: jax.Array) -> None:
    """It takes what is its own, and leaves the others'."""
    x = jnp.arange(16.0).reshape(4, 4)
    params, state = net.init(key, x)
    _, after = net.apply(params, state, x, train=True)
    assert {"scale", "bias"} < params.keys()
    assert jax.tree.structure(after) == jax.tree.structure(state)


def test_update_of_a_layer_that_is_not_made_from_its_fields() -> None:
    net = Sequential(a=Parallel(Conv(3, 1), Conv(3, 1)), b=Parallel(Conv(3, 1)))
    summed = net.update(Parallel, match=["a"], combine=add)
    assert summed == net.replace("a", Parallel(Conv(3, 1), Conv(3, 1), combine=add))
    assert hash(summed) != hash(net)
    with pytest.raises(TypeError, match="has no field 'layers'"):
        net.update(Sequential, layers=[Conv(3, 1)])
    with pytest.raises(TypeError, match="Parallel has no field 'combined'; did you mean 'combine'"):
        net.update(Parallel, combined=add)


def test_lists_within_tuples_are_tuples() -> None:
    layer = Conv(8, 3, padding=([1, 1], [1, 1]))  # pyright: ignore[reportArgumentType]
    assert layer == Conv(8, 3, padding=[(1, 1), (1, 1)])
    assert hash(layer) == hash(Conv(8, 3, padding=((1, 1), (1, 1))))
