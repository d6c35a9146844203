"""Exported programs compute what the network computes, at any batch, on any platform that they are for."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export as jax_export

from jconv import export, models

KEY = jax.random.key(0)
NET = models.resnet(18, width=4, stem="cifar", num_classes=5)
X = jax.ShapeDtypeStruct((1, 16, 16, 3), "float32")


def test_stablehlo_at_any_batch_and_for_every_platform(rng: np.random.Generator) -> None:
    params, state = NET.init(KEY, X)
    program = export.to_stablehlo(NET, params, state, X)
    assert program.platforms == ("cpu", "cuda", "tpu")
    again = jax_export.deserialize(program.serialize())
    for n in (1, 3):
        x = jnp.asarray(rng.normal(size=(n, 16, 16, 3)), jnp.float32)
        np.testing.assert_allclose(again.call(x), NET.apply(params, state, x)[0], rtol=1e-4, atol=1e-5)


def test_a_fixed_batch_keeps_its_own() -> None:
    params, state = jax.eval_shape(NET.init, KEY, X)
    params, state = jax.tree.map(lambda a: jnp.zeros(a.shape), (params, state))
    assert export.to_stablehlo(NET, params, state, X, platforms=["cpu"], batch=None).in_avals[0].shape == X.shape


@pytest.mark.filterwarnings("ignore")  # the converter's own
def test_onnx(tmp_path: Path, rng: np.random.Generator) -> None:
    pytest.importorskip("jax2onnx")
    runtime = pytest.importorskip("onnxruntime")
    params, state = NET.init(KEY, X)
    path = export.to_onnx(NET, params, state, X, tmp_path / "net.onnx")
    session = runtime.InferenceSession(path)
    x = rng.normal(size=(3, 16, 16, 3)).astype(np.float32)
    (y,) = session.run(None, {session.get_inputs()[0].name: x})
    np.testing.assert_allclose(y, NET.apply(params, state, jnp.asarray(x))[0], rtol=1e-4, atol=1e-4)
