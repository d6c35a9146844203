"""Highway networks: sizes, counts, and that gates carry from the first step on, however deep."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv.layers import Conv, Highway, Sequential
from jconv.models import highway
from jconv.models.highway import DEPTHS
from tests.catalogue import fast_jit
from tests.models.shapes import count, maps


def test_sizes() -> None:
    sizes = {"stage1": (32, 32, 16), "stage2": (16, 16, 32), "stage3": (8, 8, 64)}
    assert maps(highway(), 1, 32, 32, 3) == sizes | {"value": (10,)}
    assert maps(highway(num_classes=0, width=8), 1, 33, 47, 3)["value"] == (32,)
    assert maps(highway(11), 1, 32, 2)["value"] == (10,)


@pytest.mark.parametrize("depth", DEPTHS)
def test_a_depth_counts_the_weighted_layers(depth: int) -> None:
    net = highway(depth)
    convs = [path for path, layer in net.walk() if isinstance(layer, Conv) and not path.endswith("gate")]
    assert len(convs) + 1 == depth
    plain = sum(9 * c * f + f for c, f in ((3, 16), (16, 32), (32, 64)))
    blocks = sum((n - 1) * 2 * (9 * f * f + f) for n, f in zip(DEPTHS[depth], (16, 32, 64), strict=True))
    assert count(net, 1, 32, 32, 3) == plain + blocks + 64 * 10 + 10


def test_gates_start_where_they_are_told(key: jax.Array) -> None:
    net = highway(11, width=4, gate_bias=-3.0)
    params, _ = net.init(key, jax.ShapeDtypeStruct((1, 8, 8, 3), "float32"))
    gates = [path for path, layer in net.walk() if isinstance(layer, Highway)]
    assert len(gates) == 7
    for path in gates:
        stage, i = path.split(".")
        block = params[stage][i]
        np.testing.assert_array_equal(block["gate"]["bias"], np.full_like(block["gate"]["bias"], -3.0))
        assert not np.any(block["transform"]["conv"]["bias"])


def test_a_gradient_passes_closed_gates_whole(rng: np.random.Generator, key: jax.Array) -> None:
    """With the gates shut a stage is its first convolution, and hands back the gradient of that alone."""
    net = highway(32, width=4, gate_bias=-100.0)
    stage = net["stage1"]
    assert isinstance(stage, Sequential)
    x, dy = (jnp.asarray(rng.normal(size=(2, 6, 5, c)), "float32") for c in (3, 4))
    params, _ = stage.init(key, x)
    first = stage["0"]

    @fast_jit
    def run(x: jax.Array) -> list:
        found = []
        for f in (lambda x: stage.apply(params, {}, x)[0], lambda x: first.apply(params["0"], {}, x)[0]):
            y, back = jax.vjp(f, x)
            found.append((y, *back(dy)))
        return found

    for got, right in zip(*run(x), strict=True):
        np.testing.assert_allclose(got, right, rtol=1e-4, atol=1e-5)


def test_dropout_follows_each_stage() -> None:
    assert [name for name in highway(dropout=0.3).children() if "drop" in name] == ["drop1", "drop2", "drop3"]
    assert not [name for name in highway().children() if "drop" in name]


def test_an_unknown_depth() -> None:
    with pytest.raises(ValueError, match=r"depth: unknown 19; there are 11, 20, 32"):
        highway(19)
