"""Exported programs compute what the network computes, at any batch, on any platform that they are for."""

import doctest
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export as jax_export

from jconv import export, models
from jconv.layers import Conv, Dropout, Flatten, Layer, Linear, MaxPool, Sequential, SqueezeExcite
from tests.catalogue import LEAVES
from tests.models.zoo import TINY

KEY = jax.random.key(0)
NET = models.resnet(18, width=4, num_classes=5)
MIXED = Sequential(
    conv=Conv(8, 3),
    pool=MaxPool(3, stride=2),
    se=SqueezeExcite(Conv(4, 1), Conv(8, 1)),
    flat=Flatten(),
    drop=Dropout(0.5),
    fc=Linear(5),
)
X = jax.ShapeDtypeStruct((1, 16, 16, 3), "float32")


@pytest.mark.parametrize("net", [NET, MIXED])
def test_stablehlo_at_any_batch_and_for_every_platform(net: Layer, rng: np.random.Generator) -> None:
    params, state = net.init(KEY, X)
    program, here = export.to_stablehlo(net, params, state, X), jax.jit(lambda x: net.apply(params, state, x)[0])
    assert program.platforms == ("cpu", "cuda", "tpu")
    again = jax_export.deserialize(program.serialize())
    for n in (1, 3):
        x = jnp.asarray(rng.normal(size=(n, 16, 16, 3)), jnp.float32)
        np.testing.assert_allclose(again.call(x), here(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("platform", ["cuda", "tpu", "rocm"])
def test_stablehlo_for_a_platform_that_is_not_here(platform: str) -> None:
    program = export.to_stablehlo(MIXED, *MIXED.init(KEY, X), X, platforms=[platform], batch="images")
    assert jax_export.deserialize(program.serialize()).platforms == (platform,)
    assert str(program.in_avals[0].shape[0]) == "images"


def test_a_fixed_batch_keeps_its_own() -> None:
    params, state = jax.eval_shape(NET.init, KEY, X)
    params, state = jax.tree.map(lambda a: jnp.zeros(a.shape), (params, state))
    assert export.to_stablehlo(NET, params, state, X, platforms=["cpu"], batch=None).in_avals[0].shape == X.shape


@pytest.fixture
def runtime() -> Any:
    """onnxruntime, where both it and the converter are installed."""
    pytest.importorskip("jax2onnx")
    return pytest.importorskip("onnxruntime")


def agrees(runtime: Any, net: Layer, shape: tuple[int, ...], path: Path, **options: Any) -> Any:
    """Exports a network, and compares the file's value of three random examples with the network's, within 1e-4 of the
    largest; returns the runtime's session."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, *shape)).astype(np.float32)
    params, state = net.init(KEY, x := jnp.asarray(x))
    moved = jax.tree.map(lambda a: a + rng.uniform(0, 0.3, a.shape).astype(a.dtype), state)  # statistics that show
    session = runtime.InferenceSession(export.to_onnx(net, params, moved, x, path, **options))
    (y,) = session.run(None, {session.get_inputs()[0].name: np.asarray(x)})
    wanted = np.asarray(jax.jit(lambda x: net.apply(params, moved, x)[0])(x))
    assert y.shape == wanted.shape and y.dtype == wanted.dtype
    assert abs(y - wanted).max() <= 1e-4 * abs(wanted).max()
    return session


def some(names: Any, quick: set[str]) -> list[Any]:
    return [pytest.param(name, marks=() if name in quick else pytest.mark.slow) for name in names]


QUICK = {"conv transpose", "max pool", "max pool, ceil", "max pool, dilated", "pad channels", "upsample, bilinear"}
PLANE = [name for name, entry in LEAVES.items() if len(entry.shape) < 5]


@pytest.mark.filterwarnings("ignore")  # the converter's own
@pytest.mark.parametrize("name", some(PLANE, QUICK))
def test_every_layer_in_onnx(name: str, runtime: Any, tmp_path: Path) -> None:
    layer, (_, *shape) = LEAVES[name]
    agrees(runtime, layer, tuple(shape), tmp_path / "layer.onnx")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", some(TINY, {"dcgan", "vgg"}))
def test_every_family_in_onnx(name: str, runtime: Any, tmp_path: Path) -> None:
    agrees(runtime, TINY[name].make(), TINY[name].shape, tmp_path / "net.onnx")


@pytest.mark.filterwarnings("ignore")
def test_onnx_takes_any_batch_unless_told(runtime: Any, tmp_path: Path) -> None:
    """A padded pool, the ResNet's own; and a layer without a network around it, in three dimensions."""
    assert agrees(runtime, NET, (16, 16, 3), tmp_path / "a.onnx").get_inputs()[0].shape == ["n", 16, 16, 3]
    fixed = agrees(runtime, MIXED, (16, 16, 3), tmp_path / "b.onnx", batch=None)
    assert fixed.get_inputs()[0].shape == [3, 16, 16, 3]
    named = agrees(runtime, MaxPool((2, 3, 2), stride=(1, 2, 2)), (4, 7, 6, 3), tmp_path / "c.onnx", batch="images")
    assert named.get_inputs()[0].shape[0] == "images"


@pytest.mark.filterwarnings("ignore")
def test_onnx_holds_one_product_and_one_sum_for_a_batch_norm(runtime: Any, tmp_path: Path) -> None:
    """What does not depend on x is computed once, when the file is written."""
    onnx = pytest.importorskip("onnx")
    agrees(runtime, LEAVES["batch norm"].layer, (6, 7, 4), tmp_path / "norm.onnx")
    graph = onnx.load(tmp_path / "norm.onnx").graph
    assert sorted(node.op_type for node in graph.node) == ["Add", "Mul"]


@pytest.mark.filterwarnings("ignore")
def test_onnx_says_which_layer_it_cannot_have(runtime: Any, tmp_path: Path) -> None:
    x = jax.ShapeDtypeStruct((1, 4, 4, 4, 2), "float32")
    deep = Sequential(pool=MaxPool(2), stage=Sequential(conv1=Conv(2, 1), conv2=Conv(3, 3)))
    message = r"convert this Sequential: layer 'stage.conv1', operation conv_general_dilated: Unsupported conv layouts"
    with pytest.raises(ValueError, match=message):
        export.to_onnx(deep, *deep.init(KEY, x), x, tmp_path / "deep.onnx")
    alone = Conv(3, 3)
    with pytest.raises(ValueError, match=r"convert this Conv: operation conv_general_dilated: .*; exchange the layer"):
        export.to_onnx(alone, *alone.init(KEY, x), x, tmp_path / "alone.onnx")


@pytest.mark.filterwarnings("ignore")
def test_the_example_of_onnx_runs(runtime: Any, tmp_path: Path, rng: np.random.Generator, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    images = rng.normal(size=(7, 28, 28, 1)).astype(np.float32)
    names = {**vars(export), "onnxruntime": runtime, "images": images}
    test = doctest.DocTestParser().get_doctest(export.to_onnx.__doc__ or "", names, "to_onnx", None, None)
    for example in test.examples:
        example.options.clear()  # they skip it where there is no converter
    assert len(test.examples) == 5 and doctest.DocTestRunner().run(test).failed == 0
