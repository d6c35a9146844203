"""Starting from weights that exist: where they come from, which layers stay as they are, who learns at which rate."""

import dataclasses
import math
from typing import Any

import jax

from jconv import weights
from jconv.layers import BatchNorm, Params, State
from jconv.layers.base import matches, nearest
from jconv.models import Network
from jconv.models.shelf import CARD, folder_of
from train.config import Config
from train.errors import RunError

__all__ = ["frozen", "pretrained", "rates", "without_frozen"]


def pretrained(
    config: Config, network: Network, x: jax.ShapeDtypeStruct, key: jax.Array
) -> tuple[Config, Params, State]:
    """The config with the mean and standard deviation that its weights are used to, and these weights.

    A classifier of another number of classes starts anew. RunError with everything that differs, if they do not fit.
    """
    source = config.weights or ""
    shelved = folder_of(None) / source
    try:
        params, state, preprocessing = weights.load(
            network, shelved if (shelved / CARD).exists() else source, x=x, key=key
        )
    except (ValueError, OSError, ImportError) as error:
        raise RunError(f"--weights {source} for --model {config.model}: {error}") from error
    if preprocessing is not None and len(preprocessing.mean) == x.shape[-1]:
        mean, std = config.mean or preprocessing.mean, config.std or preprocessing.std
        config = dataclasses.replace(config, mean=mean, std=std)
    return config, params, state


def frozen(config: Config, network: Network) -> Network:
    """The network whose layers under --freeze keep their statistics: timm's `freeze`, torchvision's FrozenBatchNorm2d.

    RunError for a path that no layer has, with the nearest.
    """
    paths = [path for path, _ in network.walk()]
    for option, patterns in (("--freeze", _patterns(config.freeze)), ("--lr-by-path", list(_factors(config)))):
        for pattern in patterns:
            if not any(matches(path, [pattern]) for path in paths):
                raise RunError(f"{option} {pattern}: no layer has this path; {nearest(pattern, paths)}")
    return network.update(BatchNorm, match=_patterns(config.freeze), frozen=True)


def rates(config: Config, params: Params) -> Params:
    """For each parameter the factor of the learning rate: 0 if it is frozen, else the first of --lr-by-path, else 1."""
    freeze, factors = _patterns(config.freeze), _factors(config)

    def of(path: tuple[Any, ...], _: Any) -> float:
        name = ".".join(part.key for part in path)
        return 0.0 if matches(name, freeze) else next((f for p, f in factors.items() if matches(name, [p])), 1.0)

    return jax.tree_util.tree_map_with_path(of, params)


def without_frozen(config: Config, params: Params) -> Params:
    """The parameters, of which the frozen ones have no gradient, so that no program computes one."""
    return jax.tree.map(lambda p, rate: p if rate else jax.lax.stop_gradient(p), params, rates(config, params))


def _patterns(text: str | None) -> list[str]:
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def _factors(config: Config) -> dict[str, float]:
    """--lr-by-path as {pattern: factor}, in its order. RunError if it is written otherwise."""
    found = {}
    for part in _patterns(config.lr_by_path):
        pattern, _, text = part.partition("=")
        try:
            factor = float(text)
        except ValueError:
            factor = math.nan
        if not 0 <= factor < math.inf:
            raise RunError(f"--lr-by-path {part}: expected PATH=FACTOR with a factor of at least 0, as layer1=0.1")
        found[pattern.strip()] = factor
    return found
