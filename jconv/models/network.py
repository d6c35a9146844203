"""A network of stages: a Sequential that knows which of its outputs a backbone hands on."""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

import jax

from jconv.layers import Layer, Params, Sequential, State
from jconv.layers.base import nearest

__all__ = ["Network", "known"]

Known = TypeVar("Known")


@dataclasses.dataclass(frozen=True, repr=False, init=False)
class Network(Sequential):
    """Named layers, one after another, and the names under which `features` returns the outputs of some.

    Args:
        stages: the path whose output is the feature of that name, `{"stem": "act1", "layer1": "layer1", ...}`.
        renames: functions from the name of a tensor in a published state dict to the name it has here, for networks
            whose weights are also published under other names; `jconv.weights.load` tries them.
        layers, named: the layers; in a dict if one has the name of an option, as `stages`.
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

        Args:
            params, state, x, train, key: as in `apply`.
            at: the names of the stages wanted; None is all.

        Returns:
            {name: (N, *spatial, C)}, and the state after the network.

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
