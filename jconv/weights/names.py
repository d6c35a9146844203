"""A tree of jconv's and a state dict of torch's hold the same numbers: the path joined, the axes in another order."""

import difflib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from jconv.layers import Params, State

__all__ = ["check", "from_torch", "needs", "to_torch"]

WORDS = {
    "kernel": "weight",
    "scale": "weight",
    "embedding": "weight",
    "mean": "running_mean",
    "var": "running_var",
}
"""What torch calls a leaf, where it has another word for it."""

Rename = Callable[[str], str]


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
            found[".".join([*path, "num_batches_tracked"])] = np.zeros((), np.int64)
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
    """ValueError with every difference between a state dict and what these trees need."""
    needed = needs(params, state)
    has = {name: tuple(a.shape) for name, a in tensors.items() if not name.endswith("num_batches_tracked")}
    missing, extra = [n for n in needed if n not in has], [n for n in has if n not in needed]
    lines = [f"missing: {name} {needed[name]}" for name in missing]
    for name in extra:
        near = difflib.get_close_matches(name, missing, n=1)
        lines.append(f"unexpected: {name} {has[name]}" + (f", nearest missing {near[0]}" if near else ""))
    both = {name: has[name] for name in needed if name in has}
    differ = {n: got for n, got in both.items() if not _same_numbers(got, needed[n])}
    lines += [f"shape: {n}: expected {needed[n]}, got {got}" for n, got in differ.items()]
    if lines:
        raise ValueError(
            f"these weights are of another network: {len(missing)} missing, {len(extra)} unexpected, "
            f"{len(lines) - len(missing) - len(extra)} of another shape, out of {len(needed)}\n" + "\n".join(lines)
        )


def needs(params: Params, state: State) -> dict[str, tuple[int, ...]]:
    """The names and shapes of the state dict of a network, in torch's order of axes."""
    leaves = (*_leaves(params), *_leaves(state))
    return {_name(path, key): _turned_shape(key, leaf.shape) for path, key, leaf in leaves}


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


def _same_numbers(got: tuple[int, ...], needed: tuple[int, ...]) -> bool:
    """Whether to reshape is right: trailing axes of length 1 apart, or a matrix for a kernel over its whole input."""
    rank = min(len(got), len(needed))
    ones = got[:rank] == needed[:rank] and {*got[rank:], *needed[rank:]} <= {1}
    return ones or (len(got) == 2 < len(needed) and got == (needed[0], math.prod(needed[1:])))


def _turned_shape(key: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[-1], shape[-2], *shape[:-2]) if key == "kernel" else tuple(shape)
