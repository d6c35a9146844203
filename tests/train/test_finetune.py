"""Starting from weights: what stays, what learns and how fast; and a run goes on without the file it began with."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from jconv import cost, weights
from jconv.layers import BatchNorm, Linear
from jconv.models import Network
from tests.train.conftest import Fit
from train import finetune, loop
from train.checkpoint import load
from train.config import Config
from train.errors import RunError
from train.schedule import optimizer
from train.step import new_state, steps

IMAGE = jax.ShapeDtypeStruct((1, 8, 8, 3), "float32")
MEAN, STD = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)


@pytest.fixture
def start(tmp_path: Path, tiny_network: Network) -> Path:
    """Weights of the tiny network, whose statistics are not the first ones."""
    params, state = tiny_network.init(jax.random.key(7), IMAGE)
    state = jax.tree.map(lambda a: a + 0.5, state)
    weights.save(tmp_path / "start.npz", params, state, preprocessing=weights.Preprocessing(MEAN, STD, 8))
    return tmp_path / "start.npz"


def end_of(config: Config, network: Network, out: Path) -> Any:
    """The state in a run's folder."""
    return load(out / "checkpoint.msgpack", new_state(optimizer(config, 1), *network.init(jax.random.key(0), IMAGE)))[0]


def test_frozen_layers_are_bit_for_bit_what_they_were(
    fit: Fit, start: Path, tiny_network: Network, tiny_config: Config, screen: Console
) -> None:
    fit(weights=str(start), freeze="conv1, bn1", epochs=1, weight_decay=0.1)
    before, after = weights.load(tiny_network, start, x=IMAGE), end_of(tiny_config, tiny_network, tiny_config.out)  # pyright: ignore[reportArgumentType]
    for name in ("conv1", "bn1"):
        jax.tree.map(np.testing.assert_array_equal, after.params[name], before.params[name])
    jax.tree.map(np.testing.assert_array_equal, after.state, before.state)
    assert not np.array_equal(after.params["fc"]["kernel"], before.params["fc"]["kernel"])
    assert "20 parameters learn, the others stay" in screen.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]


def test_what_is_not_frozen_moves(fit: Fit, start: Path, tiny_network: Network, tiny_config: Config) -> None:
    fit(weights=str(start), freeze="fc", epochs=1)
    before, after = weights.load(tiny_network, start, x=IMAGE), end_of(tiny_config, tiny_network, tiny_config.out)  # pyright: ignore[reportArgumentType]
    jax.tree.map(np.testing.assert_array_equal, after.params["fc"], before.params["fc"])
    for a, b in zip(
        jax.tree.leaves((after.params["conv1"], after.params["bn1"], after.state)),
        jax.tree.leaves((before.params["conv1"], before.params["bn1"], before.state)),
        strict=True,
    ):
        assert not np.array_equal(a, b)


def test_nothing_computes_a_gradient_for_frozen_layers(tiny_config: Config, tiny_network: Network) -> None:
    """conv1's kernel gradient is one of two convolutions; x has none."""

    def macs(freeze: str | None) -> int:
        config = dataclasses.replace(tiny_config, freeze=freeze)
        network, tx = finetune.frozen(config, tiny_network), optimizer(config, 1)
        ts = jax.eval_shape(lambda: new_state(tx, *network.init(jax.random.key(0), IMAGE)))
        program = steps(config, network, tx, mean=MEAN, std=STD)
        shapes = {"image": (8, 8, 8, 3), "label": (8,), "size": (8, 2)}
        batch = {k: jax.ShapeDtypeStruct(v, "uint8" if k == "image" else "int32") for k, v in shapes.items()}
        rows = cost.analyze(program.train, ts, batch).rows
        return sum(row.cost.macs for row in rows if "conv1" in row.path)

    assert macs("conv1,bn1") * 2 == macs(None) > 0


@pytest.mark.parametrize("factor", [0.0, 0.25, 3.0])
def test_a_factor_is_one_of_the_learning_rate(
    factor: float, tiny_config: Config, tiny_network: Network, rng: np.random.Generator
) -> None:
    params, _ = tiny_network.init(jax.random.key(0), IMAGE)
    grads = jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), "float32"), params)

    def moved(by_path: str | None) -> dict[str, Any]:
        tx = optimizer(dataclasses.replace(tiny_config, lr_by_path=by_path), 10)
        opt_state, p = tx.init(params), params
        for _ in range(1 if factor else 3):  # weight decay sees what the step before has done
            updates, opt_state = tx.update(grads, opt_state, p)
            p = jax.tree.map(jnp.add, p, updates)
        return jax.tree.map(jnp.subtract, p, params)

    whole, part = moved(None), moved(f"conv1={factor},*=1")
    np.testing.assert_allclose(part["conv1"]["kernel"], factor * whole["conv1"]["kernel"], rtol=1e-4, atol=1e-7)
    for name in ("bn1", "fc"):
        jax.tree.map(np.testing.assert_array_equal, part[name], whole[name])


def test_the_first_pattern_counts_and_freezing_comes_before(tiny_config: Config, tiny_network: Network) -> None:
    params, _ = tiny_network.init(jax.random.key(0), IMAGE)
    config = dataclasses.replace(tiny_config, freeze="bn*", lr_by_path="*.bias=2, *1=0.5")
    assert finetune.rates(config, params) == {
        "conv1": {"kernel": 0.5}, "bn1": {"scale": 0.0, "bias": 0.0}, "fc": {"kernel": 1.0, "bias": 2.0},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"freeze": "conv1,layer1"}, r"--freeze layer1: no layer has this path; there are 'conv1'"),
        ({"freeze": "con1"}, r"--freeze con1: no layer has this path; did you mean 'conv1'"),
        ({"lr_by_path": "fd=0.1"}, r"--lr-by-path fd: no layer has this path"),
        ({"lr_by_path": "fc"}, r"--lr-by-path fc: expected PATH=FACTOR with a factor of at least 0, as layer1=0.1"),
        ({"lr_by_path": "fc=-1"}, r"--lr-by-path fc=-1: expected PATH=FACTOR"),
        ({"weights": "nowhere.npz"}, r"--weights nowhere.npz for --model tiny: nowhere.npz: no such file"),
        ({"mean": (0.5,)}, r"--mean: expected a number for each of the 3 channels, got 1"),
    ],
)
def test_what_does_not_fit(fit: Fit, options: dict[str, Any], message: str, tiny_config: Config) -> None:
    with pytest.raises(RunError, match=message):
        fit(**options)
    assert not (tiny_config.out or Path()).exists(), "it was no run yet"


def test_other_classes_start_a_classifier(start: Path, tiny_config: Config, tiny_network: Network) -> None:
    other, key = tiny_network.replace("fc", Linear(9)), jax.random.key(3)
    config = dataclasses.replace(tiny_config, weights=str(start))
    config, params, state = finetune.pretrained(config, other, IMAGE, key)
    assert (config.mean, config.std) == (MEAN, STD)
    before = weights.load(tiny_network, start, x=IMAGE)
    jax.tree.map(np.testing.assert_array_equal, params["fc"], other.init(key, IMAGE)[0]["fc"])
    jax.tree.map(np.testing.assert_array_equal, params["conv1"], before.params["conv1"])
    jax.tree.map(np.testing.assert_array_equal, state, before.state)


def test_grey_images_are_not_normalised_in_colour(start: Path, tiny_config: Config, tiny_network: Network) -> None:
    grey = jax.ShapeDtypeStruct((1, 8, 8, 1), "float32")
    config = dataclasses.replace(tiny_config, weights=str(start))
    config, params, _ = finetune.pretrained(config, tiny_network, grey, jax.random.key(0))
    assert (config.mean, params["conv1"]["kernel"].shape) == (pytest.approx((sum(MEAN) / 3,)), (3, 3, 1, 4))


def test_a_run_goes_on_without_its_weights(fit: Fit, start: Path, tmp_path: Path, monkeypatch) -> None:
    """Everything it needs of them is in its folder: the numbers, the mean and the standard deviation."""
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    options = {"weights": str(start), "freeze": "conv1,bn1", "lr_by_path": "fc=0.5", "epochs": 2}
    assert fit(out=straight, **options)["mean"] == list(MEAN)
    original = loop.evaluate
    with monkeypatch.context() as patch:
        patch.setattr(loop, "evaluate", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            fit(out=stopped, **options)
    assert loop.evaluate is original
    start.unlink()
    from train.config import read_config

    saved = read_config(stopped / "config.json")
    fit(**{**dataclasses.asdict(saved), "resume": True})
    assert (stopped / "checkpoint.msgpack").read_bytes() == (straight / "checkpoint.msgpack").read_bytes()


def test_a_frozen_batch_norm_is_the_one_of_evaluation(rng: np.random.Generator) -> None:
    layer, x = BatchNorm(frozen=True), jnp.asarray(rng.normal(size=(4, 5, 6)), "float32")
    params, state = layer.init(jax.random.key(0), x)
    state = jax.tree.map(lambda a: a + 0.5, state)
    (y, after), (right, _) = (layer.apply(params, state, x, train=train) for train in (True, False))
    np.testing.assert_array_equal(y, right)
    jax.tree.map(np.testing.assert_array_equal, after, state)
