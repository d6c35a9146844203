"""The step: equal on one device and on eight, under jit and under pmap; its loss, evaluation and dtypes against numpy.

As a program, `python test_step.py OUT.npz`, it writes what three steps leave on the devices that XLA_FLAGS simulates.
"""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv.layers import Activation, BatchNorm, Conv, DropPath, GlobalAvgPool, Linear
from jconv.models import Network
from train import augment, step
from train.config import Config
from train.data import Dataset
from train.errors import RunError
from train.loop import evaluate
from train.schedule import optimizer
from train.step import Steps, TrainState, new_state, steps

ROOT = Path(step.__file__).parents[1]
IMAGE = jax.ShapeDtypeStruct((1, 8, 8, 3), "float32")


def program_of(config: Config, network: Network, data: Dataset | None = None) -> tuple[Steps, TrainState]:
    tx = optimizer(config, 10)
    mean, std = (data.mean, data.std) if data else ((0.5,) * 3, (0.2,) * 3)
    return steps(config, network, tx, mean=mean, std=std), new_state(tx, *network.init(jax.random.key(0), IMAGE))


def batch_of(data: Dataset, n: int) -> dict[str, np.ndarray]:
    split = data.train
    return {"image": split.images[:n], "label": split.labels[:n], "size": split.sizes[:n]}


# One device and eight


def three_steps(parallel: Any) -> dict[str, np.ndarray]:
    """Everything after three steps, by name. A device's images differ in brightness from its neighbours'."""
    rng = np.random.default_rng(0)
    network = Network(
        stages={},
        conv1=Conv(4, 3, bias=False),
        bn1=BatchNorm(),
        act1=Activation("relu"),
        conv2=Conv(6, 3, stride=2),
        bn2=BatchNorm(),
        act2=Activation("relu"),
        global_pool=GlobalAvgPool(),
        fc=Linear(4),
    )
    config = Config(size=8, batch_size=16, lr=0.1, min_scale=0.5, flip=True, schedule="onecycle", parallel=parallel)
    config = config.complete("imagenette")
    program, ts = program_of(config, network)
    ts, found = program.place_state(ts), {}
    weight = (np.arange(16) < 11).astype(np.float32)
    for i in range(3):
        image = rng.integers(0, 40, (16, 8, 8, 3)) + 14 * np.arange(16)[:, None, None, None]
        batch = {
            "image": image.astype(np.uint8),
            "label": rng.integers(0, 4, 16).astype(np.int32),
            "size": rng.integers(5, 20, (16, 2)).astype(np.int32),
        }
        ts, metrics = program.train(ts, program.place_batch(batch))
        found |= {f"train {k} {i}": np.ravel(v)[0] for k, v in metrics.items()}
        metrics = program.evaluate(ts, program.place_batch(batch | {"weight": weight}))
        found |= {f"val {k} {i}": np.ravel(v)[0] for k, v in metrics.items()}
    leaves = jax.tree_util.tree_leaves_with_path(program.fetch(ts))
    return found | {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def main(out: str) -> None:
    arrays = {f"{parallel}: {k}": v for parallel in ("jit", "pmap") for k, v in three_steps(parallel).items()}
    if jax.local_device_count() > 1:
        step.BatchNorm = DropPath  # pyright: ignore[reportPrivateImportUsage]  # no BatchNorm is told of the axis
        arrays |= {f"pmap, BatchNorm alone: {k}": v for k, v in three_steps("pmap").items()}
    np.savez(out, devices=jax.local_device_count(), **arrays)  # pyright: ignore[reportArgumentType]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, np.ndarray]]:
    """`three_steps` by number of devices and kind."""
    found = {}
    for devices in (1, 8):
        out = tmp_path_factory.mktemp("devices") / "steps.npz"
        flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}", "JAX_PLATFORMS": "cpu"}
        environment = os.environ | flags | {"PYTHONPATH": str(ROOT), "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
        subprocess.run([sys.executable, "-W", "error", __file__, str(out)], env=environment, check=True)
        with np.load(out) as arrays:
            assert arrays["devices"] == devices
            for name in set(arrays) - {"devices"}:
                kind, _, leaf = name.partition(": ")
                found.setdefault(f"{devices}, {kind}", {})[leaf] = arrays[name]
    return found


def furthest(got: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> float:
    """The largest difference, as a part of 1e-5 + 1e-4 of the expected; 1 and less is agreement."""
    assert got.keys() == expected.keys()
    return max(float(np.max(np.abs(got[k] - v) / (1e-5 + 1e-4 * np.abs(v)))) for k, v in expected.items())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["1, pmap", "8, jit", "8, pmap"])
def test_devices_and_programs_agree(programs: dict[str, dict[str, np.ndarray]], kind: str) -> None:
    names = " ".join(programs["1, jit"])
    assert all(name in names for name in ("kernel", "scale", "mean", "var", "trace", "train loss", "val correct"))
    assert furthest(programs[kind], programs["1, jit"]) <= 1


@pytest.mark.slow
def test_batch_norm_is_over_the_global_batch(programs: dict[str, dict[str, np.ndarray]]) -> None:
    alone = programs["8, pmap, BatchNorm alone"]
    statistics = {k: v for k, v in programs["1, jit"].items() if "'var'" in k}
    assert len(statistics) == 2
    assert furthest({k: alone[k] for k in statistics}, statistics) > 100, "the comparison must notice local statistics"


def test_the_seed_and_the_step_decide_the_crops(tiny_network: Network, tiny_data: Dataset, tiny_config: Config) -> None:
    def losses(seed: int) -> list[float]:
        program, ts = program_of(dataclasses.replace(tiny_config, seed=seed, lr=0.0), tiny_network, tiny_data)
        ts, found = program.place_state(ts), []
        for _ in range(2):
            ts, metrics = program.train(ts, program.place_batch(batch_of(tiny_data, 8)))
            found.append(float(metrics["loss"]))
        return found

    first = losses(0)
    assert losses(0) == first
    assert first[0] != first[1]
    assert losses(1)[0] != first[0]


@pytest.mark.parametrize(("devices", "batch_size", "near"), [(8, 12, 16), (8, 3, 8), (3, 32, 33)])
def test_batch_that_devices_cannot_share(
    tiny_network: Network, tiny_config: Config, monkeypatch, devices: int, batch_size: int, near: int
) -> None:
    monkeypatch.setattr(jax, "local_device_count", lambda: devices)
    config = dataclasses.replace(tiny_config, batch_size=batch_size)
    text = rf"^--batch-size: expected a multiple of the {devices} devices, got {batch_size}; try {near}$"
    with pytest.raises(RunError, match=text):
        steps(config, tiny_network, optimizer(config, 10), mean=(0.5,), std=(0.2,))


# Numbers


def cross_entropy(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    logits = logits.astype(float)
    shifted = logits - logits.max(-1, keepdims=True)
    return -(targets * (shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))).sum(-1)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_loss_and_accuracy(tiny_network: Network, tiny_data: Dataset, tiny_config: Config, smoothing: float) -> None:
    config = dataclasses.replace(tiny_config, min_scale=1.0, flip=False, label_smoothing=smoothing)
    batch = batch_of(tiny_data, 8) | {"size": np.full((8, 2), 8, np.int32)}  # so that an image's crop is itself
    program, ts = program_of(config, tiny_network, tiny_data)
    x = augment.normalise(jnp.array(batch["image"], jnp.float32), tiny_data.mean, tiny_data.std)
    logits = np.asarray(tiny_network.apply(ts.params, ts.state, x, train=True)[0])
    targets = np.eye(4)[batch["label"]] * (1 - smoothing) + smoothing / 4
    metrics = program.train(program.place_state(ts), program.place_batch(batch))[1]
    np.testing.assert_allclose(metrics["loss"], cross_entropy(logits, targets).sum(), rtol=1e-4)
    assert metrics["correct"] == (logits.argmax(-1) == batch["label"]).sum()
    assert metrics["count"] == 8


@pytest.mark.parametrize("batch_size", [3, 10, 16])
def test_padded_evaluation_counts_each_image_once(
    tiny_network: Network, tiny_data: Dataset, tiny_config: Config, batch_size: int
) -> None:
    config = dataclasses.replace(tiny_config, batch_size=batch_size, crop=0.8)
    program, ts = program_of(config, tiny_network, tiny_data)
    val = tiny_data.val
    x = augment.central(jnp.array(val.images), jnp.array(val.sizes), out=8, crop=0.8)
    x = augment.normalise(x, tiny_data.mean, tiny_data.std)
    logits = np.asarray(tiny_network.apply(ts.params, ts.state, x)[0])
    loss, accuracy = evaluate(program, program.place_state(ts), val, batch_size)
    np.testing.assert_allclose(loss, cross_entropy(logits, np.eye(4)[val.labels]).mean(), rtol=1e-4)
    assert accuracy == (logits.argmax(-1) == val.labels).mean()


def test_bfloat16_is_close_and_keeps_float32_parameters(
    tiny_network: Network, tiny_data: Dataset, tiny_config: Config
) -> None:
    seen = {}
    for dtype in ("float32", "bfloat16"):
        program, ts = program_of(dataclasses.replace(tiny_config, dtype=dtype), tiny_network, tiny_data)
        ts, metrics = program.train(program.place_state(ts), program.place_batch(batch_of(tiny_data, 8)))
        seen[dtype] = float(metrics["loss"])
        leaves = jax.tree.leaves((ts.params, ts.state))
        assert all(leaf.dtype == jnp.float32 and jnp.isfinite(leaf).all() for leaf in leaves)
    assert seen["bfloat16"] == pytest.approx(seen["float32"], rel=0.02)
    assert seen["bfloat16"] != seen["float32"]


if __name__ == "__main__":
    main(sys.argv[1])
