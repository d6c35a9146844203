"""GoogLeNet: the paper's sizes, auxiliary heads that leave the network's value alone, and torchvision's numbers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv.models import googlenet
from tests.catalogue import fast_jit
from tests.models.parity import Agree, reference
from tests.models.shapes import count, maps


def test_sizes_are_the_papers() -> None:
    """Table 1."""
    assert maps(googlenet(aux=True), 1, 224, 224, 3) == {
        "conv1": (112, 112, 64), "conv3": (56, 56, 192), "inception3b": (28, 28, 480), "inception4e": (14, 14, 832),
        "inception5b": (7, 7, 1024), "value": (1000,),
    }  # fmt: skip
    assert maps(googlenet(num_classes=0), 1, 64, 48, 3)["value"] == (1024,)


def test_a_window_of_five_has_the_papers_kernels() -> None:
    """25 instead of 9 taps in the nine third branches."""
    third = 16 * 32 + 32 * 96 + 16 * 48 + 2 * 24 * 64 + 32 * 64 + 2 * 32 * 128 + 48 * 128
    size = (1, 64, 64, 3)
    assert count(googlenet(window=5), *size) - count(googlenet(), *size) == 16 * third


def test_auxiliary_heads_leave_the_networks_value_alone(rng: np.random.Generator, key: jax.Array) -> None:
    size: Any = {"width": 1 / 16, "num_classes": 3}
    with_heads, without = googlenet(aux=True, **size), googlenet(**size)
    x = jnp.asarray(rng.normal(size=(2, 32, 32, 3)), "float32")
    params, state = with_heads.init(key, x)
    body = [{k: v for k, v in tree.items() if "aux" not in k} for tree in (params, state)]
    y, right = fast_jit(lambda x: (with_heads.apply(params, state, x)[0], without.apply(body[0], body[1], x)[0]))(x)
    np.testing.assert_allclose(y, right, rtol=1e-5, atol=1e-6)


def test_a_loss_on_a_head_reaches_the_layers_below_it(rng: np.random.Generator, key: jax.Array) -> None:
    net = googlenet(aux=True, width=1 / 16, num_classes=3, dropout_aux=0.0)
    x = jnp.asarray(rng.normal(size=(2, 32, 32, 3)), "float32")
    params, state = net.init(key, x)

    def loss(params: dict) -> jax.Array:
        taken, _ = net.outputs(params, state, x, ["aux1", "aux2"], train=True, key=key)
        assert taken["aux1"].shape == taken["aux2"].shape == (2, 3)
        return jnp.sum(taken["aux1"] ** 2)

    grads = fast_jit(jax.grad(loss))(params)
    reached = {name for name, tree in grads.items() if any(np.any(g) for g in jax.tree.leaves(tree))}
    assert reached == {"conv1", "conv2", "conv3", "inception3a", "inception3b", "inception4a", "aux1"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 7}, r"window: unknown 7; there are 3, 5"),
        ({"aux": True, "num_classes": 0}, r"aux: auxiliary heads classify, and num_classes=0 has no classes; give"),
    ],
)
def test_options_that_make_no_sense(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        googlenet(**options)


def test_it_is_torchvisions(agree: Agree) -> None:
    """With auxiliary heads, whose statistics move in training too."""
    options = {"init_weights": False, "dropout": 0.0, "dropout_aux": 0.0}
    theirs = reference("torchvision", "googlenet", num_classes=10, aux_logits=True, **options)
    net = googlenet(aux=True, num_classes=10, dropout=0.0, dropout_aux=0.0)
    agree(net, theirs, (4, 96, 64, 3))


@pytest.mark.parity
def test_auxiliary_logits_are_torchvisions() -> None:
    torch = pytest.importorskip("torch")
    options = {"init_weights": False, "dropout": 0.0, "dropout_aux": 0.0}
    theirs = reference("torchvision", "googlenet", num_classes=10, aux_logits=True, **options)()
    net = googlenet(aux=True, num_classes=10, dropout=0.0, dropout_aux=0.0)
    compare_outputs(torch, theirs, net, (4, 64, 64, 3), {"fc": "logits", "aux1": "aux_logits1", "aux2": "aux_logits2"})


def compare_outputs(torch: Any, theirs: Any, net: Any, shape: tuple[int, ...], names: dict[str, str]) -> None:
    """What torchvision returns in training against the outputs of these layers."""
    from jconv import weights
    from tests.models.parity import randomize

    randomize(torch, theirs, 0)
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    tensors = {name: t.detach().numpy().copy() for name, t in theirs.state_dict().items()}
    like = jax.eval_shape(net.init, jax.random.key(0), x)
    params, state = weights.from_torch(tensors, *like)
    right = theirs.train()(torch.tensor(np.moveaxis(x, -1, 1)))
    run = fast_jit(lambda x: net.outputs(params, state, x, list(names), train=True, key=jax.random.key(0))[0])
    for path, y in run(x).items():
        expected = getattr(right, names[path]).detach().numpy()
        np.testing.assert_allclose(y, expected, atol=1e-4 * np.abs(expected).max(), rtol=0)
