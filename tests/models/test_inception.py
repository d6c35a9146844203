"""Inception-v3: the paper's sizes, its auxiliary head, and the numbers of timm and torchvision."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv.models import inception_v3
from tests.catalogue import fast_jit
from tests.models.parity import Agree, reference
from tests.models.shapes import abstract, count, maps


def test_sizes_are_the_papers() -> None:
    """Table 1, whose 71×71 has 80 features because it lists the 3×3 convolutions by what enters them."""
    sizes = {
        "Conv2d_2b_3x3": (147, 147, 64), "Conv2d_4a_3x3": (71, 71, 192), "Mixed_5d": (35, 35, 288),
        "Mixed_6e": (17, 17, 768), "Mixed_7c": (8, 8, 2048),
    }  # fmt: skip
    assert maps(inception_v3(aux=True), 1, 299, 299, 3) == sizes | {"value": (1000,)}
    assert maps(inception_v3(num_classes=0), 1, 75, 91, 3)["value"] == (2048,)


def test_parameters_with_and_without_the_head() -> None:
    """torchvision's metadata counts it."""
    assert count(inception_v3(aux=True), 1, 299, 299, 3) == 27_161_264
    assert count(inception_v3(), 1, 75, 75, 3) == 23_834_568


def test_a_factorised_window_sees_what_the_whole_one_sees() -> None:
    """17×17 blocks: from the middle a 7×7 in one branch and a 13×13 in the other."""
    net = inception_v3(width=1 / 32)
    block = net["Mixed_6b"]
    x = jnp.ones((1, 17, 17, 24))
    params, state = jax.eval_shape(block.init, jax.random.key(0), x)
    params, state = jax.tree.map(lambda a: jnp.ones(a.shape), (params, state))
    dx = fast_jit(jax.grad(lambda x: block.apply(params, state, x)[0][0, 8, 8].sum()))(x)
    rows, columns = (np.flatnonzero(np.any(np.asarray(dx), axis)) for axis in ((0, 2, 3), (0, 1, 3)))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (2, 14, 2, 14)


def test_the_head_is_beside_the_network() -> None:
    net = inception_v3(aux=True, width=1 / 16, num_classes=5)
    arrays = abstract(net, 2, 299, 299, 3)
    taken, _ = jax.eval_shape(lambda *a: net.outputs(*a, at=["AuxLogits", "fc"]), *arrays)
    assert {path: y.shape for path, y in taken.items()} == {"AuxLogits": (2, 5), "fc": (2, 5)}


def test_a_head_without_classes() -> None:
    with pytest.raises(ValueError, match=r"aux: auxiliary heads classify, and num_classes=0 has no classes; give"):
        inception_v3(aux=True, num_classes=0)


@pytest.mark.parametrize(("library", "shape"), [("torchvision", (2, 299, 299, 3)), ("timm", (2, 91, 75, 3))])
def test_it_is_theirs(library: str, shape: tuple[int, ...], agree: Agree) -> None:
    """torchvision's has its auxiliary head, which needs the paper's size."""
    aux = library == "torchvision"
    options: Any = {"aux_logits": True, "init_weights": False, "dropout": 0.0} if aux else {}
    theirs = reference(library, "inception_v3", num_classes=10, **options)
    agree(inception_v3(aux=aux, num_classes=10, dropout=0.0), theirs, shape)
