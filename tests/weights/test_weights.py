"""Names and axes both ways, bit for bit."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jconv
from jconv import weights
from jconv.layers import BatchNorm, Conv, ConvTranspose, Linear, Sequential
from tests.weights.nets import KEY, X, arrays, same


def test_there_and_back_is_the_same_bit_for_bit() -> None:
    made = arrays()
    tensors = weights.to_torch(*made)
    assert same(weights.from_torch(tensors, *made), made)
    assert not same(weights.from_torch(tensors | {"fc.bias": tensors["fc.bias"] + 1e-7}, *made), made)
    assert {"conv1.0.weight", "layer2.0.downsample.1.weight", "bn1.running_var", "fc.bias"} < set(tensors)


def test_trailing_axes_of_one_element_are_no_difference() -> None:
    """A matrix as the 1×1 convolution that it is; a vector as (C, 1, 1)."""
    made = arrays()
    tensors = weights.to_torch(*made)
    wide = {name: tensors[name].reshape(*tensors[name].shape, 1, 1) for name in ("fc.weight", "bn1.bias")}
    assert same(weights.from_torch(tensors | wide, *made), made)
    for wrong in (np.zeros((8, 2)), np.zeros((8, 1, 2)), np.zeros((1, 8)), np.zeros(())):
        with pytest.raises(ValueError, match=r"shape: bn1.bias: expected \(8,\), got"):
            weights.from_torch(tensors | {"bn1.bias": wrong}, *made)


@pytest.mark.parametrize("layer", [Conv(6, (3, 5), groups=2), ConvTranspose(6, 3, groups=2), Linear(6), BatchNorm()])
def test_axes_are_torchs(layer: Any, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    twin = {
        Conv: lambda: torch.nn.Conv2d(4, 6, (3, 5), padding=(1, 2), groups=2),
        ConvTranspose: lambda: torch.nn.ConvTranspose2d(4, 6, 3, padding=1, groups=2),
        Linear: lambda: torch.nn.Linear(4, 6),
        BatchNorm: lambda: torch.nn.BatchNorm2d(4),
    }[type(layer)]().eval()
    x = rng.normal(size=(2, 7, 9, 4)).astype(np.float32)
    params, state = arrays(layer, jax.ShapeDtypeStruct(x.shape, x.dtype))
    twin.load_state_dict({n: torch.tensor(a) for n, a in weights.to_torch(params, state).items()})
    first = torch.tensor(x if isinstance(layer, Linear) else np.moveaxis(x, -1, 1))
    y = twin(first).detach().numpy()
    ours, _ = layer.apply(params, state, jnp.asarray(x))
    np.testing.assert_allclose(ours, y if isinstance(layer, Linear) else np.moveaxis(y, 1, -1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("layer", "shape"), [(Conv(5, (4, 3), padding=0), (5, 24)), (Linear(5), (5, 2, 1, 1))])
def test_a_matrix_may_be_a_convolution_and_back(layer: Any, shape: tuple[int, ...], rng: np.random.Generator) -> None:
    x = jax.ShapeDtypeStruct((1, 4, 3, 2), "float32")
    params, state = layer.init(KEY, x)
    own = weights.to_torch(params, state)
    a = rng.normal(size=shape).astype(np.float32)
    got = weights.to_torch(*weights.load(layer, own | {"weight": a}, x=x)[:2])
    np.testing.assert_array_equal(got["weight"], a.reshape(own["weight"].shape))
    for wrong in (a[:, :1], a.reshape(-1), a.T):
        with pytest.raises(ValueError, match="shape: weight: expected"):
            weights.load(layer, own | {"weight": wrong}, x=x)


def test_the_layers_of_a_network_are_enough() -> None:
    net = Sequential(conv=Conv(4, 3), bn=BatchNorm())
    made = arrays(net)
    assert same(jconv.weights.load(net, weights.to_torch(*made), x=X)[:2], made)
