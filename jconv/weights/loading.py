"""`load` and `save`: a network's parameters and statistics from and to files with torch's names."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jconv.layers import Layer, Params, State
from jconv.layers.base import matches
from jconv.weights import files
from jconv.weights.heads import heads, left_over
from jconv.weights.inputs import fit
from jconv.weights.names import (
    COUNTER,
    Differences,
    Shape,
    compare,
    from_torch,
    needs,
    renamed,
    same_numbers,
    to_torch,
)
from jconv.weights.preprocessing import Preprocessing

__all__ = ["Weights", "load", "save"]

AUXILIARY = ("aux*", "AuxLogits*")
"""What heads are called that act on the loss of a training alone."""


class Weights(NamedTuple):
    """What `load` returns."""

    params: Params
    state: State
    preprocessing: Preprocessing | None
    """What was done to the images that the network was trained on, if the source says so."""


def load(
    model: Layer,
    source: str | Path | Mapping[str, Any],
    *,
    x: jax.Array | jax.ShapeDtypeStruct | None = None,
    key: jax.Array | None = None,
    ignore: Sequence[str] = (),
) -> Weights:
    """A network's weights from a state dict that torchvision, timm or jconv has named.

    A kernel for images of 3 channels is made one for x's channels as timm does: summed for 1, else repeated and scaled
    by 3 / channels; `preprocessing` follows. A classifier, the last layer that decides how many features the network's
    value has, is started anew, given a key, where the source has one of another number of classes or none; and left out
    where the network has none. So are auxiliary heads, named `aux*` or `AuxLogits*`, that it does not have.

    Args:
        model: the network; its paths are the names, by way of `model.renames` where it has any.
        source: a file, a folder, "hf-hub:timm/resnet50d.ra2_in1k", or {name: array}; see `jconv.weights.files.read`.
        x: an input, of which only shape and dtype are read; None is one with the channels that the first kernel has.
        key: for a classifier of other classes than the source's.
        ignore: patterns of names to leave out, the source's or the network's, as "fc" or "layer4.*.bias"; see
            `jconv.layers.base.matches`.

    Returns:
        params, state, preprocessing.

    Raises:
        ValueError: the names and shapes that differ, all of them; see `jconv.weights.check`.
        FileNotFoundError: nothing is at the source.
        ImportError: a file of torch's own format, and torch is not installed.

    Example:
        >>> import tempfile, jconv
        >>> net, x = jconv.models.resnet(18, width=8), jax.ShapeDtypeStruct((1, 32, 32, 3), "float32")
        >>> params, state = net.init(jax.random.key(0), x)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(f"{folder}/net.npz", params, state)
        ...     again = load(net, f"{folder}/net.npz")
        >>> bool((again.params["fc"]["kernel"] == params["fc"]["kernel"]).all())
        True
    """
    found, preprocessing, _ = files.read(source)
    x, params, state, names = fit(model, found, None if x is None else jax.ShapeDtypeStruct(x.shape, x.dtype))
    needed = needs(params, state)
    out = [ignore] if isinstance(ignore, str) else ignore
    tensors = {names[n]: t for n, t in found.items() if not matches(n, out) and not matches(names[n], out)}
    modules = {name.partition(".")[0] for name in needed}
    tensors = {n: t for n, t in tensors.items() if n.partition(".")[0] in modules or not matches(n, AUXILIARY)}
    others = {n: _for_channels(t, x.shape[-1]) for n, t in tensors.items() if _other_channels(t, needed.get(n), x)}
    if others and preprocessing is not None:
        preprocessing = preprocessing.for_channels(x.shape[-1])
    tensors |= others

    differ = compare(tensors, needed)
    anew = sorted(_anew(differ, heads(model, x))) if differ.missing or differ.shapes else []
    if key is not None:
        differ = differ.without(anew)
    if differ.unexpected and not differ.missing and not differ.shapes and left_over(model, x, differ.unexpected):
        differ = differ.without(differ.unexpected)
    if differ:
        classes = (
            f"{', '.join(anew)}: the source has another number of classes, or none; key=jax.random.key(0) starts a new "
            f"classifier, and the rest is loaded"
        )
        raise ValueError(f"{differ}\n{classes}" if anew and key is None else str(differ))
    if anew and key is not None:
        fresh = to_torch(*model.init(key, x))
        tensors |= {name: fresh[name] for name in anew}
    tensors = {name: t for name, t in tensors.items() if name in needed}
    params, state = jax.tree.map(jnp.asarray, from_torch(tensors, params, state))
    return Weights(params, state, preprocessing)


def save(
    path: str | Path,
    params: Params,
    state: State,
    *,
    preprocessing: Preprocessing | None = None,
    like: str | Path | Mapping[str, Any] | None = None,
    model: Layer | None = None,
) -> None:
    """Write a network's weights under torch's names, as .safetensors or .npz, whole or not at all.

    Args:
        path: the file.
        params, state: as `init` makes them and training leaves them.
        preprocessing: kept in the file, and returned by `load`.
        like: what the weights were loaded from, to call them as they are called there: its names and their order, its
            shapes, its counters `num_batches_tracked`, and its dtype wherever that holds the same numbers; so weights
            that did not change are written bit for bit. What the network does not have, as a head, is left out, and
            what `like` does not have keeps jconv's name. None is jconv's names, which are timm's in most families.
        model: the network, for `like` with names that it knows by `model.renames`.

    Raises:
        ValueError: a name of another ending; nothing in `like` is of these weights.

    Example:
        >>> import tempfile, jconv
        >>> net = jconv.layers.Linear(2)
        >>> source = {"module.weight": np.ones((2, 3), np.float16), "module.bias": np.zeros(2, np.float16)}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(f"{folder}/net.npz", *load(net, source)[:2], like=source)
        ...     {name: str(a.dtype) for name, a in np.load(f"{folder}/net.npz").items()}
        {'module.weight': 'float16', 'module.bias': 'float16'}
    """
    tensors = to_torch(params, state)
    if like is not None:
        tensors = _called(tensors, files.read(like).tensors, model)
    files.write(path, tensors, preprocessing)


def _anew(differ: Differences, classifiers: Iterable[set[str]]) -> set[str]:
    """Of the classifiers' tensors those that the source lacks altogether, or has for other classes."""

    def of_other_classes(name: str) -> bool:
        if name not in differ.shapes:
            return name in differ.missing
        expected, got = differ.shapes[name]
        return got[:1] != expected[:1] and same_numbers((*expected[:1], *got[1:]), expected)

    return {name for names in classifiers if all(map(of_other_classes, names)) for name in names}


def _called(tensors: dict[str, np.ndarray], like: Mapping[str, np.ndarray], model: Layer | None) -> dict[str, Any]:
    """These tensors with the names, order, shapes, counters and, where nothing is lost, dtypes of others."""
    names = renamed(like, tensors, getattr(model, "renames", ()))
    if not set(names.values()) & set(tensors):
        raise ValueError(
            f"like: none of its names is known, as {next(iter(like), 'none at all')!r}; give the network as "
            f"model=, for the names that it is published under"
        )
    known = {name: ours for name, ours in names.items() if ours in tensors}
    there = {name.rpartition(".")[0] for name in known.values()}
    rest = {n: t for n, t in tensors.items() if n not in known.values()}
    counters = {n for n in rest if n.endswith(COUNTER) and n.rpartition(".")[0] in there}
    found = {n: like[n] if n.endswith(COUNTER) else _as(tensors[ours], like[n]) for n, ours in known.items()}
    return found | {name: t for name, t in rest.items() if name not in counters}


def _as(a: np.ndarray, like: np.ndarray) -> np.ndarray:
    """`a` in another's shape, if that is the same numbers, and in its dtype, if that loses nothing."""
    a = a.reshape(like.shape) if same_numbers(like.shape, a.shape) else a
    if jnp.issubdtype(like.dtype, jnp.floating):
        narrow = a.astype(like.dtype)
        return narrow if np.array_equal(narrow.astype(a.dtype), a, equal_nan=True) else a
    return a


def _other_channels(kernel: np.ndarray, needed: Shape | None, x: jax.ShapeDtypeStruct) -> bool:
    """Whether this is a kernel (features, 3, *window) where one for x's channels is needed."""
    wanted = (*kernel.shape[:1], x.shape[-1], *kernel.shape[2:])
    return kernel.ndim > 2 and kernel.shape[1] == 3 != x.shape[-1] and needed == wanted


def _for_channels(kernel: np.ndarray, channels: int) -> np.ndarray:
    """A kernel (features, 3, *window) as one for so many channels."""
    kernel = kernel.astype(np.float32)
    if channels == 1:
        return kernel.sum(1, keepdims=True)
    return kernel[:, np.arange(channels) % 3] * np.float32(3 / channels)
