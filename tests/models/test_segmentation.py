"""DeepLabV3: sizes, the resizing, the auxiliary head beside it, torchvision's multiply-adds and numbers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv import cost, ops
from jconv.layers import Conv, Dropout
from jconv.models import create, deeplab
from jconv.models.segmentation import Resized
from tests.catalogue import fast_jit
from tests.models.parity import Agree, reference
from tests.models.shapes import abstract, maps

SMALL: dict[str, Any] = {"width": 8, "rates": (1, 2), "head_width": 16, "num_classes": 5, "dropout": 0.0}


def test_sizes() -> None:
    assert maps(deeplab(auxiliary=True), 1, 128, 97, 3) == {
        "stem": (64, 49, 64), "layer1": (32, 25, 256), "layer2": (16, 13, 512), "layer3": (16, 13, 1024),
        "layer4": (16, 13, 2048), "out": (16, 13, 21), "aux": (16, 13, 21), "value": (128, 97, 21),
    }  # fmt: skip
    coarse = maps(deeplab(18, output_stride=16, num_classes=0), 1, 64, 64, 1)
    assert (coarse["layer4"], coarse["value"]) == ((4, 4, 512), (64, 64, 256))


def test_multiply_adds_are_torchvisions() -> None:
    """Of both heads; resizing the pooled branch is counted here and not there, as 1.1e6."""
    net = create("deeplabv3_resnet50")
    arrays = abstract(net, 1, 520, 520, 3)
    total = cost.analyze(lambda *a: net.features(*a, at=("out", "aux")), *arrays, has_aux=True).total
    assert total.macs / 1e9 == pytest.approx(178.722, abs=0.003)


def test_dilations_of_the_pyramid() -> None:
    for stride, rates in ((8, (12, 24, 36)), (16, (6, 12, 18))):
        net = deeplab(output_stride=stride)
        pyramid = [net[f"classifier.0.convs.{i}.0"] for i in range(4)]
        assert pyramid == [Conv(256, 1, bias=False), *(Conv(256, 3, dilation=rate, bias=False) for rate in rates)]


def test_the_value_is_its_last_stage_resized(rng: np.random.Generator, key: jax.Array) -> None:
    net = deeplab(18, **SMALL)
    x = jnp.asarray(rng.normal(size=(2, 33, 40, 3)), "float32")
    params, state = net.init(key, x)
    y, found = fast_jit(lambda *a: (net.apply(*a)[0], net.features(*a, at=["out"])[0]["out"]))(params, state, x)
    assert y.shape == (2, 33, 40, 5)
    right = ops.resize(found, size=(33, 40), method="bilinear")
    np.testing.assert_allclose(y, right, rtol=1e-5, atol=1e-6)
    inner = Resized(Conv(3, 3, stride=2))
    arrays = inner.init(key, x)
    np.testing.assert_array_equal(
        inner.apply(*arrays, x)[0],
        ops.resize(inner["0"].apply(arrays[0]["0"], {}, x)[0], size=(33, 40), method="bilinear"),
    )


def test_the_auxiliary_head_is_beside_the_network(rng: np.random.Generator, key: jax.Array) -> None:
    """With it the value is what it is without, and its loss reaches the first three stages alone."""
    both, alone = deeplab(18, **SMALL, auxiliary=True, zero_gamma=False), deeplab(18, **SMALL, zero_gamma=False)
    x = jnp.asarray(rng.normal(size=(2, 32, 32, 3)), "float32")
    params, state = both.init(key, x)

    @fast_jit
    def run(params: Any, state: Any) -> Any:
        def loss(params: Any) -> tuple:
            taken, after = both.features(params, state, x, at=["aux"], train=True)
            return jnp.sum(taken["aux"] ** 2), after

        bare, own = ({k: v for k, v in tree.items() if k != "aux_classifier"} for tree in (params, state))
        grads, after = jax.grad(loss, has_aux=True)(params)
        return grads, after, both.apply(params, state, x)[0], alone.apply(bare, own, x)[0]

    grads, after, y, right = run(params, state)
    np.testing.assert_allclose(y, right, rtol=1e-5, atol=1e-6)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), after, state)
    assert all(jax.tree.leaves(moved))  # both parts of the backbone, and both heads
    reached = {name for name, tree in grads["backbone"].items() if any(np.any(g) for g in jax.tree.leaves(tree))}
    assert reached == {"conv1", "bn1", "layer1", "layer2", "layer3"}
    assert not any(np.any(g) for g in jax.tree.leaves(grads["classifier"]))
    assert all(np.any(g) for g in jax.tree.leaves(grads["aux_classifier"]))


def test_dropout_of_both_heads() -> None:
    drops = {path: layer.rate for path, layer in deeplab(auxiliary=True).walk() if isinstance(layer, Dropout)}
    assert drops == {"aux_classifier.3": 0.1, "classifier.0.project.3": 0.5}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output_stride": 32}, r"output_stride: unknown 32; there are 8, 16"),
        ({"depth": 20}, r"depth: unknown 20; there are 18, 26, 34"),
        ({"rates": 12}, r"rates: expected several in a tuple, got 12"),
        ({"rates": ()}, r"rates: expected several in a tuple, got \(\)"),
        ({"rates": (0,)}, r"rates: expected whole numbers, above 0, got \(0,\)"),
        ({"stem": "deep"}, r"stem: unknown 'deep'"),
    ],
)
def test_options_that_make_no_sense(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        deeplab(**options)


def strip(name: str) -> str:
    """A name in the wrapped network as one in the network."""
    return name.removeprefix("net.")


def torchvisions() -> Any:
    torch = pytest.importorskip("torch")
    options = {"weights_backbone": None, "num_classes": 10, "aux_loss": True}
    theirs = reference("torchvision", "deeplabv3_resnet50", **options)()
    for module in theirs.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0

    class Out(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = theirs

        def forward(self, x: Any) -> Any:
            return self.net(x)["out"]

    return Out()


def test_it_is_torchvisions(agree: Agree) -> None:
    """Of eight images, because the pooled branch normalises one number for each of them."""
    net = deeplab(auxiliary=True, num_classes=10, dropout=0.0)
    agree(net, torchvisions, (8, 32, 24, 3), rename=strip)


@pytest.mark.parity
def test_auxiliary_logits_are_torchvisions(rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    from jconv import weights

    options = {"weights_backbone": None, "num_classes": 10, "aux_loss": True}
    theirs = reference("torchvision", "deeplabv3_resnet50", **options)().eval()
    net, x = deeplab(auxiliary=True, num_classes=10), jnp.asarray(rng.normal(size=(1, 40, 48, 3)), "float32")
    params, state = weights.load(net, {n: t.numpy() for n, t in theirs.state_dict().items()}, x=x)[:2]
    taken, _ = jax.jit(lambda *a: net.features(*a, at=["aux"]))(params, state, x)
    with torch.no_grad():
        right = theirs(torch.tensor(np.moveaxis(np.asarray(x), -1, 1)))["aux"].numpy()
    found = ops.resize(taken["aux"], size=(40, 48), method="bilinear")
    np.testing.assert_allclose(found, np.moveaxis(right, 1, -1), rtol=1e-4, atol=1e-4 * np.abs(right).max())
