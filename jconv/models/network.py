"""A network of stages: a Sequential that knows which of its outputs a backbone hands on."""

import dataclasses
import math
import numbers
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

import jax

from jconv.layers import Layer, Params, Sequential, State
from jconv.layers.base import nearest

__all__ = ["Network", "known", "several", "sized"]

Known = TypeVar("Known")

FROM_0 = {"num_classes": int, "vocabulary": int, "blur": int, "sets": int, "se": float}
"""Sizes that leave something out where they are 0, and their kind of number."""


@dataclasses.dataclass(frozen=True, repr=False, init=False)
class Network(Sequential):
    """Named layers, one after another, and the names under which `features` returns the outputs of some.

    Args:
        stages: the path whose output is the feature of that name, `{"stem": "act1", "layer1": "layer1", ...}`.
        renames: functions from the name of a tensor in a published state dict to the name it has here, for networks
            whose weights are also published under other names; `jconv.weights.load` tries them.
        layers, named: the layers; in a dict if one has the name of an option, as `stages`.

    Raises:
        ValueError: a layer whose features are not a whole number above 0, as a width may leave it.
    """

    stages: tuple[tuple[str, str], ...] = dataclasses.field(repr=False, kw_only=True)
    renames: tuple[Callable[[str], str], ...] = dataclasses.field(repr=False, kw_only=True, default=())

    def __init__(
        self,
        layers: Mapping[str, Layer] | None = None,
        /,
        *,
        stages: dict[str, str],
        renames: Sequence[Callable[[str], str]] = (),
        **named: Layer,
    ):
        super().__init__(**{**(layers or {}), **named})
        object.__setattr__(self, "stages", tuple(stages.items()))
        object.__setattr__(self, "renames", tuple(renames))
        for path, layer in self.walk():
            features = getattr(layer, "features", 1)
            if not isinstance(features, numbers.Integral) or features < 1:
                raise ValueError(
                    f"{path}: expected a whole number of features above 0, got {features!r}; "
                    f"give the network another width"
                )

    def features(
        self,
        params: Params,
        state: State,
        x: jax.Array,
        *,
        at: Collection[str] | None = None,
        train: bool = False,
        key: jax.Array | None = None,
    ) -> tuple[dict[str, jax.Array], State]:
        """The outputs of the stages, fine to coarse, for detection, segmentation and the like.

        What `jax.jit` or another transformation returns of it is sorted by name, as every dict that passes through JAX:
        take the order from `stages`, `[maps[name] for name, _ in net.stages]`.

        Args:
            params, state, x, train, key: as in `apply`.
            at: the names of the stages wanted; None is all.

        Returns:
            {name: (N, *spatial, C)} in the order of `stages`, and the state after the network.

        Example:
            >>> import jconv
            >>> net = jconv.models.resnet(18, num_classes=0)
            >>> x = jax.ShapeDtypeStruct((1, 64, 64, 3), "float32")
            >>> arrays = jax.eval_shape(net.init, jax.random.key(0), x)
            >>> maps, _ = jax.eval_shape(net.features, *arrays, x)
            >>> for name in ("stem", "layer1", "layer4"):
            ...     print(name, maps[name].shape)
            stem (1, 32, 32, 64)
            layer1 (1, 16, 16, 64)
            layer4 (1, 2, 2, 512)
        """
        paths = dict(self.stages)
        for name in at or ():
            known("at", name, paths)
        wanted = {name: path for name, path in paths.items() if at is None or name in at}
        taken, state = self.outputs(params, state, x, wanted.values(), train=train, key=key)
        return {name: taken[path] for name, path in wanted.items()}, state


def known(option: str, value: Known, among: Collection[Known]) -> Known:
    """The value of an option, if it is one of these. ValueError with the nearest if it is not."""
    if value in among:
        return value
    hint = (
        nearest(value, list(map(str, among))) if isinstance(value, str) else f"there are {', '.join(map(str, among))}"
    )
    raise ValueError(f"{option}: unknown {value!r}; {hint}")


def several(**options: Any) -> None:
    """ValueError for an option that is not several values, at least one."""
    for name, value in options.items():
        if not isinstance(value, list | tuple) or not value:
            raise ValueError(f"{name}: expected several in a tuple, got {value!r}")


def sized(kind: type = float, /, **sizes: Any) -> None:
    """ValueError for an option of size that is no number of this kind above 0, alone or each of several.

    Those of `FROM_0` may be 0.

    >>> sized(int, num_classes=0, width=64, depths=(2, 2))
    """
    for name, value in sizes.items():
        of = FROM_0.get(name, kind)
        several = isinstance(value, list | tuple) and name not in FROM_0
        values: Any = value if several else (value,)
        numeric = values and all(isinstance(v, numbers.Integral if of is int else numbers.Real) for v in values)
        if not numeric or not all(0 < v < math.inf or (v == 0 and name in FROM_0) for v in values):
            right = ("whole numbers" if of is int else "numbers") if several else f"a {'whole ' * (of is int)}number"
            raise ValueError(f"{name}: expected {right}, {'0 or more' if name in FROM_0 else 'above 0'}, got {value!r}")
