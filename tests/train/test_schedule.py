"""Learning rate and momentum where their formulas fix them, and the optimiser against SGD written out in numpy."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jconv.models import Network
from train.config import Config
from train.schedule import decayed, optimizer, schedules


def rates(steps: int, at: int | None = None, **options: object) -> tuple[np.ndarray, np.ndarray]:
    """Learning rate and momentum at 0..steps, from the schedules as the optimiser asks them."""
    lr, momentum = schedules(Config(**{"lr": 0.4, **options}), steps)  # pyright: ignore[reportArgumentType]
    times = range(steps + 1) if at is None else [at]
    return np.array([lr(t) for t in times], float), np.array([momentum(t) for t in times], float)


@pytest.mark.parametrize(("steps", "warmup"), [(8, 0.25), (40, 0.25), (100, 0.3), (10, 0.5)])
def test_cosine(steps: int, warmup: float) -> None:
    lr, momentum = rates(steps, schedule="cosine", warmup=warmup)
    rise = round(warmup * steps)
    t = np.arange(steps + 1)
    down = 0.2 * (1 + np.cos(np.pi * (t - rise) / (steps - rise)))
    np.testing.assert_allclose(lr, np.where(t < rise, 0.4 * t / rise, down), atol=1e-6)
    assert lr[0] == 0
    assert lr.argmax() == rise
    np.testing.assert_allclose(momentum, 0.9, rtol=1e-6)


@pytest.mark.parametrize("schedule", ["cosine", "onecycle"])
def test_without_a_rise_it_begins_at_the_peak(schedule: str) -> None:
    lr, _ = rates(10, schedule=schedule, warmup=0.0)
    np.testing.assert_allclose(lr, 0.2 * (1 + np.cos(np.pi * np.arange(11) / 10)), atol=1e-6)


@pytest.mark.parametrize(("steps", "warmup"), [(8, 0.25), (40, 0.25), (100, 0.3), (10, 0.5)])
def test_onecycle(steps: int, warmup: float) -> None:
    lr, momentum = rates(steps, schedule="onecycle", warmup=warmup)
    rise = round(warmup * steps)
    np.testing.assert_allclose(lr[[0, rise, steps]], [0.4 / 25, 0.4, 0], atol=1e-6)
    np.testing.assert_allclose(momentum[[0, rise, steps]], [0.95, 0.85, 0.95], atol=1e-6)
    assert (np.diff(lr[: rise + 1]) > 0).all()
    assert (np.diff(lr[rise:]) < 0).all()
    t = np.arange(steps + 1)
    wave = np.where(t < rise, (1 - np.cos(np.pi * t / rise)) / 2, (1 + np.cos(np.pi * (t - rise) / (steps - rise))) / 2)
    np.testing.assert_allclose(momentum, 0.95 - 0.1 * wave, atol=1e-6)
    np.testing.assert_allclose(lr, np.where(t < rise, 0.016, 0) + np.where(t < rise, 0.384, 0.4) * wave, atol=1e-6)


@pytest.mark.parametrize(("momentum", "high", "low"), [(0.98, 0.99, 0.93), (0.02, 0.07, 0.0)])
def test_onecycle_keeps_momentum_below_one_and_above_zero(momentum: float, high: float, low: float) -> None:
    got = rates(20, schedule="onecycle", momentum=momentum)[1]
    np.testing.assert_allclose([got.max(), got.min()], [high, low], atol=1e-6)


@pytest.mark.parametrize("schedule", ["cosine", "onecycle"])
@pytest.mark.parametrize("warmup", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_shortest_runs(schedule: str, warmup: float, steps: int) -> None:
    lr, momentum = rates(steps, schedule=schedule, warmup=warmup)
    assert np.isfinite(lr).all()
    assert np.isfinite(momentum).all()
    np.testing.assert_allclose(lr[:steps].max(), 0.4, rtol=1e-6)
    assert abs(lr[-1]) < 1e-6


def test_decayed_are_the_kernels(tiny_network: Network, key: jax.Array) -> None:
    params, _ = tiny_network.init(key, jax.ShapeDtypeStruct((1, 8, 8, 3), "float32"))
    assert decayed(params) == {
        "conv1": {"kernel": True},
        "bn1": {"scale": False, "bias": False},
        "fc": {"kernel": True, "bias": False},
    }


@pytest.mark.parametrize("schedule", ["cosine", "onecycle"])
def test_optimizer_is_torchs_sgd(rng: np.random.Generator, schedule: str) -> None:
    """torch: `g += wd * p; buf = momentum * buf + g; p -= lr * (g + momentum * buf)`. optax.trace is the same, with the
    learning rate outside of the buffer; both multiply by today's momentum twice, where Nesterov's own look-ahead would
    take tomorrow's."""
    steps, decay = 7, 0.1
    config = Config(lr=0.3, schedule=schedule, weight_decay=decay)  # pyright: ignore[reportArgumentType]
    tx = optimizer(config, steps)
    shapes = {"conv": {"kernel": (3, 2), "bias": (2,)}, "bn": {"scale": (2,), "bias": (2,)}}

    def random() -> dict:
        return {p: {k: rng.normal(size=s).astype(np.float32) for k, s in leaf.items()} for p, leaf in shapes.items()}

    start = random()
    expected = {(p, k): v.astype(float) for p, leaf in start.items() for k, v in leaf.items()}
    buffers = dict.fromkeys(expected, 0.0)
    params: Any = jax.tree.map(jnp.array, start)
    opt_state = tx.init(params)
    lr, momentum = rates(steps, schedule=schedule, lr=0.3)
    for t in range(steps):
        grads = random()
        updates, opt_state = tx.update(jax.tree.map(jnp.array, grads), opt_state, params)
        params = optax.apply_updates(params, updates)
        for p, k in expected:
            g = grads[p][k] + (decay * expected[p, k] if k == "kernel" else 0.0)
            buffers[p, k] = momentum[t] * buffers[p, k] + g
            expected[p, k] = expected[p, k] - lr[t] * (g + momentum[t] * buffers[p, k])
        for (p, k), value in expected.items():
            np.testing.assert_allclose(params[p][k], value, rtol=1e-4, atol=1e-5, err_msg=f"step {t}, {p}.{k}")
