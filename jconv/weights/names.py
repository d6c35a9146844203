"""A tree of jconv's and a state dict of torch's hold the same numbers: the path joined, the axes in another order."""

import difflib
import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np

from jconv.layers import Params, State

__all__ = [
    "COUNTER",
    "Differences",
    "Shape",
    "check",
    "compare",
    "from_torch",
    "needs",
    "renamed",
    "same_numbers",
    "to_torch",
    "ways",
]

WORDS = {
    "kernel": "weight",
    "scale": "weight",
    "embedding": "weight",
    "mean": "running_mean",
    "var": "running_var",
}
"""What torch calls a leaf, where it has another word for it."""

COUNTER = "num_batches_tracked"
"""What torch keeps beside the statistics of a norm, and jconv does not."""
PREFIXES = re.compile(r"^(?:module\.|_orig_mod\.)+")
"""What torch puts before every name of a network that runs in parallel, or compiled."""
LISTED = 20
"""How many names of a kind an error lists."""

Rename = Callable[[str], str]
Shape = tuple[int, ...]


def to_torch(params: Params, state: State) -> dict[str, np.ndarray]:
    """The state dict of a network: torch's names, kernels as (features, C / groups, *window), matrices transposed.

    Where there is a running mean there is a `num_batches_tracked` of 0 as well, which torch keeps and jconv does not.

    Args:
        params, state: trees, as `init` makes them.

    Returns:
        {name: array}, in the order of the trees.

    Example:
        >>> import jax, jconv
        >>> x = jax.ShapeDtypeStruct((1, 32, 32, 3), "float32")
        >>> arrays = jconv.models.resnet(18).init(jax.random.key(0), x)
        >>> list(to_torch(*arrays))[-2:], to_torch(*arrays)["layer2.0.conv1.weight"].shape
        (['layer4.1.bn2.running_var', 'layer4.1.bn2.num_batches_tracked'], (128, 64, 3, 3))
    """
    found = {}
    for path, key, leaf in (*_leaves(params), *_leaves(state)):
        found[_name(path, key)] = np.ascontiguousarray(_turned(key, np.asarray(leaf), back=False))
        if key == "var":
            found[".".join([*path, COUNTER])] = np.zeros((), np.int64)
    return found


def from_torch(tensors: Mapping[str, Any], params: Params, state: State) -> tuple[Params, State]:
    """Trees like these, of a state dict's numbers.

    Args:
        tensors: {name: array}; `num_batches_tracked` is left out. A shape may differ where the numbers and their order
            are the same: trailing axes of length 1, as in a 1×1 convolution that is a matrix here or there; a matrix on
            flattened images, which is a convolution over the whole of them, as VGG's first classifier.
        params, state: trees of arrays or shapes, for the structure alone.

    Returns:
        params, state: float32.

    Raises:
        ValueError: names that are missing, names that are unexpected with the nearest missing one, and shapes that
            differ, all at once; see `check`.
    """
    check(tensors, params, state)
    shapes = needs(params, state)

    def filled(tree: Any, path: tuple[str, ...]) -> Any:
        return {
            key: filled(leaf, (*path, key))
            if isinstance(leaf, dict)
            else np.asarray(_turned(key, tensor(_name(path, key)), back=True), np.float32)
            for key, leaf in tree.items()
        }

    def tensor(name: str) -> np.ndarray:
        return np.asarray(tensors[name]).reshape(shapes[name])

    return filled(params, ()), filled(state, ())


def check(tensors: Mapping[str, Any], params: Params, state: State) -> None:
    """ValueError with every difference between a state dict and what these trees need; see `Differences`."""
    if differ := compare(tensors, needs(params, state)):
        raise ValueError(str(differ))


class Differences(NamedTuple):
    """Between the tensors that there are and those that are needed; false if there are none.

    As text it names the first twenty of each kind, with the nearest missing name for those that are unexpected, and
    counts the others by the module that their names begin with.
    """

    missing: dict[str, Shape]
    unexpected: dict[str, Shape]
    shapes: dict[str, tuple[Shape, Shape]]
    """Expected, got."""
    needed: int
    """How many tensors are needed."""

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.shapes)

    def without(self, names: Collection[str]) -> Self:
        """The others."""
        missing, unexpected, shapes = ({n: v for n, v in kind.items() if n not in names} for kind in self[:3])
        return self._replace(missing=missing, unexpected=unexpected, shapes=shapes)

    def __str__(self) -> str:
        missing, unexpected, shapes = (list(names) for names in self[:3])
        lines = [f"missing: {name} {self.missing[name]}" for name in missing[:LISTED]]
        lines += _others("missing", missing)
        for name in unexpected[:LISTED]:
            near = "".join(f", nearest missing {n}" for n in difflib.get_close_matches(name, missing, n=1))
            lines.append(f"unexpected: {name} {self.unexpected[name]}{near}")
        lines += _others("unexpected", unexpected)
        for name in shapes[:LISTED]:
            expected, got = self.shapes[name]
            lines.append(f"shape: {name}: expected {expected}, got {got}")
        lines += _others("of another shape", shapes)
        return (
            f"these weights are of another network: {len(missing)} missing, {len(unexpected)} unexpected, "
            f"{len(shapes)} of another shape, out of {self.needed}\n" + "\n".join(lines)
        )


def compare(tensors: Mapping[str, Any], needed: Mapping[str, Shape]) -> Differences:
    """What differs between a state dict and the names and shapes that `needs` returns."""
    has = {name: tuple(t.shape) for name, t in tensors.items() if not name.endswith(COUNTER)}
    return Differences(
        {name: shape for name, shape in needed.items() if name not in has},
        {name: shape for name, shape in has.items() if name not in needed},
        {
            name: (shape, has[name])
            for name, shape in needed.items()
            if name in has and not same_numbers(has[name], shape)
        },
        len(needed),
    )


def needs(params: Params, state: State) -> dict[str, Shape]:
    """The names and shapes of the state dict of a network, in torch's order of axes."""
    leaves = (*_leaves(params), *_leaves(state))
    return {_name(path, key): _turned_shape(key, leaf.shape) for path, key, leaf in leaves}


def same_numbers(got: Shape, needed: Shape) -> bool:
    """Whether to reshape is right: trailing axes of length 1 apart, or a matrix for a kernel over its whole input."""
    rank = min(len(got), len(needed))
    ones = got[:rank] == needed[:rank] and {*got[rank:], *needed[rank:]} <= {1}
    return ones or (len(got) == 2 < len(needed) and got == (needed[0], math.prod(needed[1:])))


def renamed(names: Collection[str], needed: Collection[str], renames: Sequence[Rename]) -> dict[str, str]:
    """For each name the name here, in the way by which the most are known."""
    return max(ways(names, renames), key=lambda way: len(set(way.values()) & set(needed)))


def ways(names: Collection[str], renames: Sequence[Rename]) -> list[dict[str, str]]:
    """What each name may be here: itself, itself without PREFIXES, and that by each of the functions."""
    bare = {name: PREFIXES.sub("", name) for name in names}
    others = ({name: rename(plain) for name, plain in bare.items()} for rename in renames)
    return [dict(zip(names, names, strict=True)), bare, *others]


def _others(kind: str, names: Sequence[str]) -> list[str]:
    """A line that counts the names past those listed, by their first part."""
    rest = Counter(name.partition(".")[0] for name in names[LISTED:])
    groups = ", ".join(f"{count} in {part}" for part, count in rest.most_common(LISTED))
    return [f"and {rest.total()} more {kind}: {groups}"] if rest else []


def _leaves(tree: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*path, key))
        else:
            yield path, key, value


def _name(path: tuple[str, ...], key: str) -> str:
    return ".".join([*path, WORDS.get(key, key)])


def _turned(key: str, a: np.ndarray, *, back: bool) -> np.ndarray:
    """A kernel (*window, C, features) as torch's (features, C, *window), or back; a matrix has no window."""
    if key != "kernel":
        return a
    rank = a.ndim - 2
    return a.transpose(*range(2, a.ndim), 1, 0) if back else a.transpose(rank + 1, rank, *range(rank))


def _turned_shape(key: str, shape: Shape) -> Shape:
    return (shape[-1], shape[-2], *shape[:-2]) if key == "kernel" else tuple(shape)
