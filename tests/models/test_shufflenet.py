"""ShuffleNet v1 and v2: the papers' sizes and costs, units written out once more, the same numbers as torch."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv import cost, weights
from jconv.layers import ChannelShuffle, Conv
from jconv.models import Network, shufflenet_v1, shufflenet_v2
from jconv.models.shufflenet import FEATURES, STAGE2
from tests.catalogue import fast_jit
from tests.models.parity import Agree, reference
from tests.models.shapes import abstract, maps


@pytest.mark.parametrize("groups", STAGE2)
def test_v1_has_the_papers_sizes_and_costs(groups: int) -> None:
    """Table 1; its last row, in 1e6 multiply-adds, is without the classifier."""
    net, last = shufflenet_v1(groups=groups, num_classes=0), 4 * STAGE2[groups]
    assert maps(net, 1, 224, 224, 3) == {
        "conv1": (112, 112, 24), "maxpool": (56, 56, 24), "stage2": (28, 28, last // 4), "stage3": (14, 14, last // 2),
        "stage4": (7, 7, last), "value": (last,),
    }  # fmt: skip
    params, state, x = abstract(net, 1, 224, 224, 3)
    macs = cost.analyze(net.apply, params, state, x, has_aux=True).total.macs
    assert round(macs / 1e6) == {1: 143, 2: 140, 3: 137, 4: 133, 8: 137}[groups]


@pytest.mark.parametrize("groups", STAGE2)
def test_v1_groups_and_shuffles_all_but_the_first_1x1(groups: int) -> None:
    net = shufflenet_v1(groups=groups)
    convs = {p: layer for p, layer in net.walk() if isinstance(layer, Conv) and p.endswith(("conv1", "conv3"))}
    assert len(convs) == 32
    assert {path for path, conv in convs.items() if conv.groups != groups} == (
        {"stage2.0.conv1"} if groups > 1 else set()
    )
    shuffles = {path: layer for path, layer in net.walk() if isinstance(layer, ChannelShuffle)}
    assert shuffles.pop("stage2.0.shuffle") == ChannelShuffle(1)
    assert set(shuffles.values()) == {ChannelShuffle(groups)}


def test_v2_has_the_papers_sizes() -> None:
    for width, (stem, *features, head) in FEATURES.items():
        sizes = maps(shufflenet_v2(width=width, num_classes=5), 1, 64, 96, 3)
        assert sizes == {
            "conv1": (32, 48, stem), "maxpool": (16, 24, stem), "stage2": (8, 12, features[0]),
            "stage3": (4, 6, features[1]), "conv5": (2, 3, head), "value": (5,),
        }  # fmt: skip


def test_any_width() -> None:
    assert maps(shufflenet_v2(width=1 / 8, num_classes=0), 1, 32, 32, 1)["value"] == (128,)
    assert maps(shufflenet_v1(groups=3, width=1 / 4, num_classes=0), 1, 32, 32, 1)["value"] == (240,)


def run(net: Network, x: jax.Array, at: str) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """Random arrays under torch's names, and what goes into a unit and comes out."""
    rng = np.random.default_rng(1)
    made = jax.eval_shape(net.init, jax.random.key(0), x)
    params, state = jax.tree.map(lambda a: jnp.float32(rng.uniform(0.2, 1, a.shape) - 0.5 * (a.ndim > 1)), made)
    stage, i = at.split(".")
    before = "maxpool" if stage == "stage2" and i == "0" else f"{stage}.{int(i) - 1}"
    taken, _ = fast_jit(lambda p, s, x: net.outputs(p, s, x, [before, at]))(params, state, x)
    tensors = {
        n.removeprefix(f"{at}."): t for n, t in weights.to_torch(params, state).items() if n.startswith(f"{at}.")
    }
    first, second = (np.moveaxis(np.asarray(taken[path]), -1, 1) for path in (before, at))
    return tensors, first, second


@pytest.mark.parametrize("at", ["stage2.0", "stage2.1"])
def test_a_unit_of_v1_is_figure_2(at: str, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    net = shufflenet_v1(groups=3, width=1 / 4, num_classes=0)
    tensors, x, y = run(net, jnp.asarray(rng.normal(size=(2, 20, 24, 3)), "float32"), at)
    t = {name: torch.tensor(a) for name, a in tensors.items()}
    f, strides = torch.nn.functional, at.endswith("0")

    def norm(z: Any, name: str) -> Any:
        mean, var, scale, bias = (t[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return f.batch_norm(z, mean, var, scale, bias)

    z = torch.tensor(x)
    h = f.relu(norm(f.conv2d(z, t["conv1.weight"], groups=1 if strides else 3), "bn1"))
    if not strides:
        h = h.unflatten(1, (3, -1)).transpose(1, 2).flatten(1, 2)
    h = norm(f.conv2d(h, t["conv2.weight"], stride=2 if strides else 1, padding=1, groups=h.shape[1]), "bn2")
    h = norm(f.conv2d(h, t["conv3.weight"], groups=3), "bn3")
    right = f.relu(torch.cat((f.avg_pool2d(z, 3, 2, 1), h), 1) if strides else z + h)
    np.testing.assert_allclose(y, right.numpy(), rtol=1e-4, atol=1e-4)


def test_a_unit_of_v2_leaves_half_of_the_channels_alone(rng: np.random.Generator) -> None:
    _, x, y = run(shufflenet_v2(width=1 / 4), jnp.asarray(rng.normal(size=(2, 20, 24, 3)), "float32"), "stage2.1")
    half = x.shape[1] // 2
    np.testing.assert_array_equal(y[:, ::2], x[:, :half])  # dealt out among the others
    assert not np.isclose(y[:, 1::2], x[:, half:]).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: shufflenet_v1(groups=5), r"groups: unknown 5; there are 1, 2, 3, 4, 8"),
        (lambda: shufflenet_v1(groups=4, width=0.3), r"width: expected features .* 4 groups divide .* got 7 and 82"),
        (lambda: shufflenet_v1(groups=1, width=0.01), r"width: expected features of the stem .* got 0 and 1"),
        (lambda: shufflenet_v2(width=0.01), r"width: expected at least 2 features .* got width=0.01"),
    ],
)
def test_widths_and_groups_that_do_not_go(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("width", [0.5, 1.0])
def test_v2_is_torchvisions(width: float, agree: Agree) -> None:
    theirs = reference("torchvision", f"shufflenet_v2_x{str(width).replace('.', '_')}", num_classes=10)
    agree(shufflenet_v2(width=width, num_classes=10), theirs, (2, 47, 64, 3))
