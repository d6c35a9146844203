"""The optimiser: SGD with Nesterov momentum, its learning rate and momentum as functions of the step."""

import operator
from functools import partial
from typing import Any

import jax
import optax

from train.config import Config
from train.finetune import rates

__all__ = ["decayed", "optimizer", "schedules"]


def schedules(config: Config, steps: int) -> tuple[optax.Schedule, optax.Schedule]:
    """Learning rate and momentum at each of `steps` steps.

    cosine: linear warm-up to `lr`, then half a cosine to 0; momentum constant. Loshchilov & Hutter 2016,
    arXiv:1608.03983.
    onecycle: half a cosine up from `lr / 25`, half a cosine down to 0; momentum mirrors it. Smith 2018,
    arXiv:1803.09820.
    """
    lr, momentum = config.lr or 0.0, config.momentum
    rise = min(max(1, round(config.warmup * steps)), steps - 1) if steps > 1 and config.warmup else 0
    if config.schedule == "cosine":
        rate = optax.warmup_cosine_decay_schedule(0.0 if rise else lr, lr, rise, steps)
        return rate, optax.constant_schedule(momentum)
    high, low = min(momentum + 0.05, 0.99), max(momentum - 0.05, 0.0)
    return _there_and_back(lr / 25, lr, 0.0, rise, steps), _there_and_back(high, low, high, rise, steps)


def _there_and_back(start: float, peak: float, end: float, rise: int, steps: int) -> optax.Schedule:
    def half_cosine(a: float, b: float, length: int) -> optax.Schedule:
        wave = optax.cosine_decay_schedule(1.0, max(1, length))
        return lambda step: b + (a - b) * wave(step)

    return optax.join_schedules([half_cosine(start, peak, rise), half_cosine(peak, end, steps - rise)], [rise])


def decayed(params: Any) -> Any:
    """Which parameters weight decay is for: kernels, not biases and not the scales of normalisation.

    He et al. 2018, "Bag of Tricks", arXiv:1812.01187, section 3.1.
    """
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


def _by_path(config: Config, updates: Any, _: Any) -> Any:
    return jax.tree.map(operator.mul, updates, rates(config, updates))


def optimizer(config: Config, steps: int) -> optax.GradientTransformation:
    """SGD on `loss + weight_decay / 2 * |kernels|^2`, with Nesterov momentum; its rates are in its state.

    A parameter's learning rate is multiplied by its factor in `train.finetune.rates`; Howard & Ruder 2018,
    arXiv:1801.06146, section 3.2.
    """
    lr, momentum = schedules(config, steps)
    sgd = optax.inject_hyperparams(optax.sgd, static_args="nesterov")
    sgd = sgd(learning_rate=lr, momentum=momentum, nesterov=True)
    by_path = optax.stateless(partial(_by_path, config))
    return optax.chain(optax.add_decayed_weights(config.weight_decay or 0.0, decayed), sgd, by_path)
