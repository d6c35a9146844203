"""LeNet-5: the paper's sizes and parameters layer by layer, its table of connections, its sub-sampling."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv import ops
from jconv.layers import Conv
from jconv.models import lenet5
from jconv.models.lenet import C3, Subsample, TableConv, scaled_tanh
from tests.catalogue import fast_jit
from tests.models.shapes import abstract, count, maps

DIGIT = (1, 32, 32, 1)


def test_parameters_of_each_layer_are_the_papers() -> None:
    params, _, _ = abstract(lenet5(), *DIGIT)
    sizes = {name: sum(p.size for p in layer.values()) for name, layer in params.items()}
    papers = {"C1": 156, "S2": 12, "C3": 1516, "S4": 32, "C5": 48_120, "F6": 10_164}
    assert sizes == papers | {"output": 850}
    assert count(lenet5(num_classes=0), *DIGIT) == 60_000
    assert count(lenet5(table=False), *DIGIT) - count(lenet5(), *DIGIT) == 2416 - 1516


def test_sizes_are_the_papers() -> None:
    expected = {"C1": (28, 28, 6), "C3": (10, 10, 16), "C5": (1, 1, 120)}
    for pool in ("learned", "avg", "max"):
        assert maps(lenet5(pool=pool), *DIGIT) == expected | {"value": (10,)}
    assert maps(lenet5(num_classes=0, width=2, table=False), 1, 48, 40, 3) == {
        "C1": (44, 36, 12), "C3": (18, 14, 32), "C5": (5, 3, 240), "value": (168,),
    }  # fmt: skip


def test_the_table_is_the_papers() -> None:
    """Table I: three neighbours, four neighbours, two pairs, all; each map of S2 feeds ten of C3."""
    assert [len(channels) for channels in C3] == [3] * 6 + [4] * 9 + [6]
    assert (set(C3[4]), set(C3[11]), set(C3[12]), set(C3[13]), set(C3[14])) == (
        {4, 5, 0}, {5, 0, 1, 2}, {0, 1, 3, 4}, {1, 2, 4, 5}, {0, 2, 3, 5},
    )  # fmt: skip
    assert len({frozenset(channels) for channels in C3}) == 16
    assert [sum(c in channels for channels in C3) for c in range(6)] == [10] * 6


def test_a_feature_sees_its_connections_alone(rng: np.random.Generator, key: jax.Array) -> None:
    layer = TableConv(3, 3, padding=0, connections=((0, 2), (1,), (0, 1, 2)))
    x = jnp.asarray(rng.normal(size=(2, 6, 5, 3)), "float32")
    params, _ = layer.init(key, x)
    params["bias"] = jnp.asarray(rng.normal(size=3), "float32")
    kernels = np.moveaxis(np.asarray(params["kernel"]), -1, 0)
    parts = np.split(kernels, [2, 3])

    @fast_jit
    def run(x: jax.Array) -> tuple:
        each = [
            ops.conv(x[..., np.array(channels)], jnp.moveaxis(part, 0, -1)[..., None], bias[None])
            for channels, part, bias in zip(layer.connections, parts, params["bias"], strict=True)
        ]
        return layer.apply(params, {}, x)[0], jnp.concatenate(each, -1)

    np.testing.assert_allclose(*run(x), rtol=1e-5, atol=1e-5)
    assert isinstance(dataclasses.replace(layer, lowering="lax"), Conv)


def test_sub_sampling_is_its_equation(rng: np.random.Generator) -> None:
    x = jnp.asarray(rng.normal(size=(2, 4, 6, 3)), "float32")
    params = {name: jnp.asarray(rng.normal(size=3), "float32") for name in ("scale", "bias")}
    right = x.reshape(2, 2, 2, 3, 2, 3).mean((2, 4)) * params["scale"] + params["bias"]
    np.testing.assert_allclose(Subsample(2).apply(params, {}, x)[0], right, rtol=1e-5, atol=1e-6)
    half = Subsample(2).apply(params, {}, x.astype("bfloat16"))[0]
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype("float32"), right, rtol=0.05, atol=0.05)


def test_the_activation_keeps_one_and_minus_one() -> None:
    x = jnp.array([-1.0, 0.0, 1.0])
    np.testing.assert_allclose(scaled_tanh(x), x, atol=1e-4)


def test_lenets_without_sense() -> None:
    for make, message in (
        (lambda: lenet5(pool="mean"), r"pool: unknown 'mean'; "),
        (lambda: lenet5(width=2), r"table: the paper's connects 6 maps with 16; for width=2 give table=False"),
        (
            lambda: abstract(lenet5().replace("C1", Conv(5, 5)), *DIGIT),
            r"connections: expected 16 .* of the 5 channels",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            make()
