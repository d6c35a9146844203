"""One step of training and one of evaluation, as pure functions, and how they are split over devices."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import jax_utils, struct
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jconv.layers import BatchNorm, Params, State
from jconv.models import Network
from train import augment
from train.config import Config
from train.errors import RunError
from train.finetune import without_frozen

__all__ = ["Steps", "TrainState", "new_state", "steps"]

AXIS = "data"

Batch = Mapping[str, Any]
Metrics = dict[str, jax.Array]


@struct.dataclass
class TrainState:
    """Everything that changes from step to step."""

    step: jax.Array
    params: dict[str, Any]
    state: dict[str, Any]
    opt_state: Any


class Steps(NamedTuple):
    """A program for some devices.

    `place_state` and `place_batch` put what is on the host where `train` and `evaluate` want it; `fetch` brings a
    TrainState back.
    """

    train: Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
    evaluate: Callable[[TrainState, Batch], Metrics]
    place_state: Callable[[TrainState], TrainState]
    place_batch: Callable[[Batch], Batch]
    fetch: Callable[[TrainState], TrainState]


def new_state(tx: optax.GradientTransformation, params: Params, state: State) -> TrainState:
    """The state before the first step."""
    return TrainState(jnp.zeros((), jnp.int32), params, state, tx.init(params))  # pyright: ignore[reportCallIssue]


def steps(
    config: Config,
    network: Network,
    tx: optax.GradientTransformation,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> Steps:
    """The step functions for all local devices.

    A batch holds image (N, H, W, C) uint8, label (N,), size (N, 2); for evaluation also weight (N,), 0 for padding. The
    metrics are sums over the batch: loss, correct, count. Under jit and under pmap, on one device and on many, the
    numbers are the same up to rounding: every image has its own key, and BatchNorm takes the whole batch. (Only
    what Dropout and stochastic depth leave out is another choice under pmap on many devices.)
    """
    size, min_scale = config.size or 0, config.min_scale or 0.0
    root = jax.random.key(config.seed)
    count = jax.local_device_count()
    if (config.batch_size or 0) % count:
        near = max(1, round((config.batch_size or 0) / count)) * count
        raise RunError(f"--batch-size: expected a multiple of the {count} devices, got {config.batch_size}; try {near}")

    def train_step(ts: TrainState, batch: Batch, *, axis: str | None) -> tuple[TrainState, Metrics]:
        n = batch["label"].shape[0]
        k_image, k_network = jax.random.split(jax.random.fold_in(root, ts.step))
        keys = jax.random.split(k_image, n * (lax.axis_size(axis) if axis else 1))
        if axis:
            keys = lax.dynamic_slice_in_dim(keys, lax.axis_index(axis) * n, n)
            k_network = jax.random.fold_in(k_network, lax.axis_index(axis))
        x = augment.random_resized(
            keys, batch["image"], batch["size"], out=size, min_scale=min_scale, flip=bool(config.flip)
        )
        x = augment.normalise(x, mean, std).astype(config.dtype)

        def loss_of(params: dict[str, Any]) -> tuple[jax.Array, tuple[dict[str, Any], jax.Array]]:
            params = without_frozen(config, params)
            logits, state = network.apply(params, ts.state, x, train=True, key=k_network)
            logits = logits.astype(jnp.float32)
            targets = optax.smooth_labels(jax.nn.one_hot(batch["label"], logits.shape[-1]), config.label_smoothing)
            return optax.softmax_cross_entropy(logits, targets).mean(), (state, logits)

        (loss, (state, logits)), grads = jax.value_and_grad(loss_of, has_aux=True)(ts.params)
        metrics = {"loss": loss * n, "correct": (logits.argmax(-1) == batch["label"]).sum(), "count": jnp.array(n)}
        if axis:
            grads, metrics = lax.pmean(grads, axis), lax.psum(metrics, axis)
        updates, opt_state = tx.update(grads, ts.opt_state, ts.params)
        params: Any = optax.apply_updates(ts.params, updates)
        return TrainState(ts.step + 1, params, state, opt_state), metrics  # pyright: ignore[reportCallIssue]

    def eval_step(ts: TrainState, batch: Batch, *, axis: str | None) -> Metrics:
        x = augment.central(batch["image"], batch["size"], out=size, crop=config.crop or 1.0)
        x = augment.normalise(x, mean, std).astype(config.dtype)
        logits = network.apply(ts.params, ts.state, x)[0].astype(jnp.float32)
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
        right = logits.argmax(-1) == batch["label"]
        weight = batch["weight"]
        metrics = {"loss": (loss * weight).sum(), "correct": (right * weight).sum(), "count": weight.sum()}
        return lax.psum(metrics, axis) if axis else metrics

    if config.parallel == "pmap":
        network = network.update(BatchNorm, axis_name=AXIS)
        return Steps(
            train=jax.pmap(lambda ts, b: train_step(ts, b, axis=AXIS), AXIS, donate_argnums=0),
            evaluate=jax.pmap(lambda ts, b: eval_step(ts, b, axis=AXIS), AXIS),
            place_state=jax_utils.replicate,
            place_batch=lambda batch: {k: v.reshape(count, -1, *v.shape[1:]) for k, v in batch.items()},
            fetch=lambda ts: jax.device_get(jax_utils.unreplicate(ts)),
        )
    mesh = Mesh(np.array(jax.local_devices()), (AXIS,))
    whole, split = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec(AXIS))
    return Steps(
        train=jax.jit(
            lambda ts, b: train_step(ts, b, axis=None),
            in_shardings=(whole, split),
            out_shardings=(whole, whole),
            donate_argnums=0,
        ),
        evaluate=jax.jit(lambda ts, b: eval_step(ts, b, axis=None), in_shardings=(whole, split), out_shardings=whole),
        place_state=lambda ts: jax.device_put(ts, whole),
        place_batch=lambda batch: jax.device_put(dict(batch), split),
        fetch=lambda ts: jax.tree.map(np.asarray, ts),
    )
