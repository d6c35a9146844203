"""TextCNN against a naive oracle, tokens and vectors; the TCN's memory: causal, and as long as it says."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv import weights
from jconv.layers import Identity
from jconv.models import tcn, textcnn
from jconv.models.text import Embed
from tests.catalogue import fast_jit
from tests.models.parity import Agree
from tests.models.shapes import count, maps

# TextCNN


def naive(params: Any, x: np.ndarray) -> np.ndarray:
    """Every phrase of every length by every kernel, one at a time, in float64."""
    found = []
    for conv in params["convs"].values():
        kernel, bias = np.asarray(conv["kernel"], float), np.asarray(conv["bias"], float)
        phrases = [x[:, t : t + len(kernel)] for t in range(x.shape[1] - len(kernel) + 1)]
        responses = [np.einsum("ntd,tdf->nf", phrase, kernel) + bias for phrase in phrases]
        found.append(np.maximum(responses, 0).max(0))
    return np.concatenate(found, -1) @ np.asarray(params["fc"]["kernel"], float) + np.asarray(params["fc"]["bias"])


def test_textcnn_is_a_naive_one(rng: np.random.Generator, key: jax.Array) -> None:
    net, x = textcnn(width=6, num_classes=3), rng.normal(size=(4, 9, 5))
    params, _ = net.init(key, jnp.asarray(x, "float32"))
    params = jax.tree.map(lambda a: jnp.asarray(a + rng.normal(size=a.shape, scale=0.1), "float32"), params)
    y, _ = fast_jit(net.apply)(params, {}, jnp.asarray(x, "float32"))
    np.testing.assert_allclose(y, naive(params, x), rtol=1e-4, atol=1e-5)
    wrong = {**params, "convs": dict(reversed(params["convs"].items()))}
    assert not np.allclose(y, naive(wrong, x), atol=1e-3)


def test_tokens_are_rows_of_a_table(rng: np.random.Generator, key: jax.Array) -> None:
    net = textcnn(vocabulary=11, embedding=5, width=6, widths=(2, 3), num_classes=3)
    tokens = jnp.asarray(rng.integers(0, 11, size=(4, 9)))
    params, _ = net.init(key, tokens)
    table = params["embed"]["embedding"]
    assert table.shape == (11, 5)
    assert weights.to_torch(params, {})["embed.weight"].shape == (11, 5)
    y, _ = net.apply(params, {}, tokens)
    rest = {name: tree for name, tree in params.items() if name != "embed"}
    right, _ = textcnn(width=6, widths=(2, 3), num_classes=3).apply(rest, {}, table[tokens])
    np.testing.assert_allclose(y, right, rtol=1e-5, atol=1e-6)


def test_embed_has_the_dtype_it_is_told_and_takes_whole_numbers(key: jax.Array) -> None:
    embed, tokens = Embed(7, 3, dtype="bfloat16"), jnp.array([[0, 6, 9]])
    params, _ = embed.init(key, tokens)
    y, _ = embed.apply(params, {}, tokens)
    assert (y.dtype, y.shape, params["embedding"].dtype) == (jnp.bfloat16, (1, 3, 3), jnp.float32)
    np.testing.assert_array_equal(y[0, 1], y[0, 2])  # 9 is beyond the vocabulary
    with pytest.raises(ValueError, match=r"x: expected whole numbers, one for each token, got float32 of shape \(2, 3"):
        embed.apply(params, {}, jnp.ones((2, 3)))


def test_textcnn_sizes() -> None:
    assert maps(textcnn(), 1, 40, 300) == {"convs": (300,), "value": (2,)}
    assert maps(textcnn(num_classes=0, width=7), 1, 5, 4) == {"convs": (21,), "value": (21,)}
    assert count(textcnn(), 1, 40, 300) == 100 * (12 * 300 + 3) + 2 * 301
    for widths in ((), 3):
        with pytest.raises(ValueError, match=rf"widths: expected several in a tuple, got {re.escape(str(widths))}"):
            textcnn(widths=widths)  # pyright: ignore[reportArgumentType]


# TCN


def influence(levels: int, kernel: int, steps: int, key: jax.Array) -> np.ndarray:
    """(outputs, inputs): whether the output at one time depends on the input at another."""
    net = tcn(levels=levels, width=4, kernel=kernel, dropout=0.0, act="softplus", num_classes=1)
    x = jax.random.normal(key, (1, steps, 1))
    params, _ = net.init(key, x)
    jacobian = fast_jit(jax.jacrev(lambda x: net.apply(params, {}, x)[0][0, :, 0]))(x)
    return np.asarray(jacobian[:, 0, :, 0] != 0)


@pytest.mark.parametrize(("levels", "kernel"), [(1, 2), (2, 3), (3, 2)])
def test_a_tcn_remembers_as_much_as_it_says_and_nothing_of_the_future(levels: int, kernel: int, key: jax.Array) -> None:
    steps, memory = 24, 2 * (kernel - 1) * (2**levels - 1)
    t, s = np.mgrid[:steps, :steps]
    np.testing.assert_array_equal(influence(levels, kernel, steps, key), (s <= t) & (t - s <= memory))


def test_tcn_sizes() -> None:
    assert maps(tcn(), 1, 784, 1) == {"network": (784, 25), "value": (784, 10)}
    assert maps(tcn(num_classes=0, levels=2, channels=25), 1, 30, 25)["value"] == (30, 25)
    assert tcn(channels=25)["network.0.downsample"] == tcn()["network.1.downsample"] == Identity()
    with pytest.raises(ValueError, match="levels: expected a whole number, above 0, got 0"):
        tcn(levels=0)


# Parity


def torchs(name: str) -> Any:
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class TextCNN(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convs = nn.ModuleList(nn.Conv1d(6, 8, width) for width in (3, 4, 5))
            self.fc = nn.Linear(24, 10)

        def forward(self, x: Any) -> Any:
            return self.fc(torch.cat([torch.relu(conv(x)).amax(-1) for conv in self.convs], -1))

    class Block(nn.Module):
        def __init__(self, channels: int, dilation: int):
            super().__init__()
            self.pad = nn.ConstantPad1d((2 * dilation, 0), 0.0)
            self.conv1, self.conv2 = (nn.Conv1d(c, 8, 3, dilation=dilation) for c in (channels, 8))
            self.downsample = nn.Conv1d(channels, 8, 1) if channels != 8 else nn.Identity()

        def forward(self, x: Any) -> Any:
            y = torch.relu(self.conv2(self.pad(torch.relu(self.conv1(self.pad(x))))))
            return torch.relu(y + self.downsample(x))

    class TCN(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = nn.Sequential(Block(6, 1), Block(8, 2), Block(8, 4))
            self.linear = nn.Linear(8, 10)

        def forward(self, x: Any) -> Any:
            return self.linear(self.network(x).transpose(1, 2)).transpose(1, 2)

    return TextCNN() if name == "textcnn" else TCN()


@pytest.mark.parametrize("name", ["textcnn", "tcn"])
def test_they_are_torchs(name: str, agree: Agree) -> None:
    small: dict[str, Any] = {"width": 8, "dropout": 0.0, "num_classes": 10}
    net = textcnn(**small) if name == "textcnn" else tcn(levels=3, kernel=3, channels=6, **small)
    agree(net, lambda: torchs(name), (4, 21, 6))
