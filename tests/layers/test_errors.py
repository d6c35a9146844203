"""What does not fit: descriptions that make no sense, and errors that name the layer they came from."""

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
    Composite,
    Conv,
    ConvTranspose,
    Dropout,
    DropPath,
    Highway,
    Identity,
    Layer,
    Linear,
    MaxPool,
    PadChannels,
    Parallel,
    Residual,
    Sequential,
    add,
)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sequential(**{"a.b": Identity()}), r"expected no dot in it, got 'a.b'"),
        (lambda: Sequential(**{"": Identity()}), r"a layer's name is one part of a path: .* got ''"),
        (
            lambda: Sequential(cast(Layer, jax.nn.relu)),
            r"0: expected a Layer, got .*; wrap a function as Activation\(function\)",
        ),
        (lambda: Activation("rleu"), r"unknown activation 'rleu'; did you mean 'relu'"),
        (lambda: Dropout(1.0), r"rate: expected a probability in \[0, 1\), got 1.0"),
        (lambda: Dropout(cast(float, "0.5")), r"rate: expected a probability in \[0, 1\), got '0.5'"),
        (lambda: DropPath(-0.1), r"rate: expected a probability in \[0, 1\), got -0.1"),
        (lambda: BatchNorm(momentum=5.0), r"momentum: expected a part of the way, 0 to 1, got 5.0"),
        (lambda: BatchNorm(eps=-1e-5), r"eps: expected 0 or more, got -1e-05"),
        (
            lambda: Sequential(Identity(), Identity(), **{"0": Activation("tanh")}),
            r"a layer's name: '0' is that of the layer given by position",
        ),
    ],
)
def test_descriptions_that_make_no_sense(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


X = jax.ShapeDtypeStruct((2, 8, 8, 4), jnp.float32)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Conv(6, 3, groups=4), r"groups: .* divides the 4 channels of x and the 6 features, got 4"),
        (Conv(6, (3, 3, 3)), r"kernel: expected an int or 2 ints"),
        (Conv(6, 9, padding=0), r"a window of 9 .* does not fit an input of 8"),
        (Conv(6, 3, lowering="strassen"), r"lowering: expected one of .*'im2col', .*got 'strassen'"),
        (Residual(Conv(6, 3)), r"Residual: .*shortcut to have one shape, got \(2, 8, 8, 6\) and \(2, 8, 8, 4\)"),
        (Highway(Conv(4, 3), Conv(3, 1)), r"Highway: .*x's shape \(2, 8, 8, 4\), got .*4\) and \(2, 8, 8, 3\); change"),
        (PadChannels(3), r"PadChannels: expected at most 3 channels, got x of shape \(2, 8, 8, 4\)"),
        (PadChannels(8, stride=-1), r"stride: expected a positive number of positions, got -1"),
        (Parallel(Conv(3, 3), Conv(3, 3, stride=2)), r"Parallel: expected branches of one shape but for the channels, "
                                                     r"got \(2, 8, 8, 3\), \(2, 4, 4, 3\); give them the same strides"),
        (Parallel(Conv(3, 1), Conv(4, 1), combine=add), r"Parallel: expected branches of one shape, got .*8, 4\)"),
        (Sequential(_a=Sequential(fc=Linear(4)), _b=Sequential(fc=Linear(4))), r"fc: one set of parameters is used "
                                                                               r"for two layers or inputs"),
        (MaxPool(3, padding="FULL"), r"padding: expected .*got 'FULL'"),
    ],
)  # fmt: skip
def test_errors_inside_a_network_name_the_layer(layer: Layer, message: str, key: jax.Array) -> None:
    with pytest.raises(ValueError, match=message) as alone:
        Sequential(layer).init(key, X)
    with pytest.raises(ValueError, match=message) as inside:
        Sequential(stage=Sequential(block=Sequential(layer))).init(key, X)
    if not isinstance(layer, Composite):
        assert f"in layer '0': {layer}" in alone.value.__notes__
        assert f"in layer 'stage.block.0': {layer}" in inside.value.__notes__


def test_errors_of_apply_name_the_layer() -> None:
    net = models.resnet(18, width=8)
    params, state = jax.eval_shape(net.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 32, 32, 3), "float32"))
    narrow = net.replace("layer1.0.conv1", Conv(8, 3, groups=3, bias=False))
    with pytest.raises(ValueError, match="groups: ") as error:
        jax.eval_shape(narrow.apply, params, state, jax.ShapeDtypeStruct((1, 32, 32, 3), "float32"))
    assert "in layer 'layer1.0.conv1': Conv(8, 3, groups=3, bias=False)" in error.value.__notes__


@pytest.mark.parametrize("layer", [BatchNorm(), Linear(3)])
def test_other_channels_than_at_init(layer: Layer, key: jax.Array) -> None:
    params, state = layer.init(key, X)
    with pytest.raises(ValueError, match=r"x: expected 4 channels in the last axis, got shape \(2, 5\)"):
        layer.apply(params, state, jnp.zeros((2, 5)))


OTHERS: dict[str, tuple[Layer, dict[str, tuple[int, ...]], str]] = {
    "window": (
        Conv(8, 7),
        {"kernel": (3, 3, 4, 8), "bias": (8,)},
        "expected a window of 7 and 8 features, got",
    ),
    "features": (Conv(16, 3), {"kernel": (3, 3, 4, 8), "bias": (8,)}, "expected a window of 3 and 16 features, got"),
    "transposed": (ConvTranspose(16, 3), {"kernel": (3, 3, 8, 4), "bias": (8,)}, "a window of 3 and 16 features, got"),
    "linear": (Linear(5), {"kernel": (4, 3), "bias": (3,)}, r"kernel: expected 5 features, got shape \(4, 3\)"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_arrays_of_another_layer_are_refused(name: str) -> None:
    layer, shapes, message = OTHERS[name]
    with pytest.raises(ValueError, match=message):
        layer.apply({part: jnp.zeros(shape) for part, shape in shapes.items()}, {}, jnp.zeros((2, 8, 8, 4)))


@pytest.mark.parametrize("layer", [Conv(8, 3), ConvTranspose(8, 3), Linear(8)])
def test_a_bias_is_used_where_the_description_has_one(layer: Layer, key: jax.Array) -> None:
    params, state = layer.init(key, X)
    x, with_bias = jnp.ones(X.shape), {**params, "bias": jnp.full(8, 100.0)}
    without = dataclasses.replace(cast(Conv, layer), bias=False)
    np.testing.assert_array_equal(
        without.apply(with_bias, state, x)[0], without.apply({"kernel": params["kernel"]}, state, x)[0]
    )
    with pytest.raises(KeyError, match="bias"):
        layer.apply({"kernel": params["kernel"]}, state, x)


def test_training_without_statistics_is_an_error(key: jax.Array) -> None:
    params, _ = BatchNorm().init(key, X)
    with pytest.raises(KeyError, match="mean"):
        BatchNorm().apply(params, {}, jnp.ones(X.shape), train=True)
