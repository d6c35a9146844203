"""`load` and `save`: a network's parameters and statistics from and to files with torch's names."""

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jconv.layers import Layer, Params, State
from jconv.weights import files
from jconv.weights.names import check, from_torch, needs, to_torch
from jconv.weights.preprocessing import Preprocessing

__all__ = ["Weights", "load", "save"]


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
    by 3 / channels. A classifier of another number of classes is left out and, given a key, started anew.

    Args:
        model: the network; its paths are the names, by way of `model.renames` where it has any.
        source: a file, a folder, "hf-hub:timm/resnet50d.ra2_in1k", or {name: array}; see `jconv.weights.files.read`.
        x: an input, of which only shape and dtype are read; None is (1, 224, 224, 3).
        key: for a classifier of other classes than the source's.
        ignore: patterns of names to leave out, as "fc.*" for a model without its classifier.

    Returns:
        params, state, preprocessing.

    Raises:
        ValueError: the names and shapes that differ, all of them; see `jconv.weights.check`.
        FileNotFoundError: nothing is at the source.

    Example:
        >>> import tempfile, jconv
        >>> net, x = jconv.models.resnet(18, width=8), jax.ShapeDtypeStruct((1, 32, 32, 3), "float32")
        >>> params, state = net.init(jax.random.key(0), x)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(f"{folder}/net.npz", params, state)
        ...     again = load(net, f"{folder}/net.npz", x=x)
        >>> bool((again.params["fc"]["kernel"] == params["fc"]["kernel"]).all())
        True
    """
    tensors, preprocessing = (source, None) if isinstance(source, Mapping) else files.read(source)[:2]
    x = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32) if x is None else jax.ShapeDtypeStruct(x.shape, x.dtype)
    shapes: Any = jax.eval_shape(model.init, jax.random.key(0), x)
    params, state = shapes
    needed = needs(params, state)
    tensors = {n: np.asarray(t) for n, t in tensors.items() if not any(fnmatch(n, pattern) for pattern in ignore)}
    tensors = _renamed(tensors, needed, getattr(model, "renames", ()))
    tensors = {n: _for_channels(t, needed.get(n), x.shape[-1]) for n, t in tensors.items()}
    if heads := _other_in_features(tensors, needed):
        classes = jax.eval_shape(model.apply, params, state, x)[0].shape[-1]
        heads = [name for name in heads if needed[name][0] == classes]
    if heads:
        if key is None:
            raise ValueError(
                f"{', '.join(heads)}: the source has another number of classes; key=jax.random.key(0) starts a new "
                f"classifier, and the rest is loaded"
            )
        anew = to_torch(*model.init(key, x))
        tensors |= {name: anew[name] for name in heads}
    check(tensors, params, state)
    params, state = jax.tree.map(jnp.asarray, from_torch(tensors, params, state))
    return Weights(params, state, preprocessing)


def save(path: str | Path, params: Params, state: State, *, preprocessing: Preprocessing | None = None) -> None:
    """Write a network's weights under torch's names, as .safetensors or .npz, whole or not at all.

    Args:
        path: the file.
        params, state: as `init` makes them and training leaves them.
        preprocessing: kept in the file, and returned by `load`.

    Raises:
        ValueError: a name of another ending.
    """
    files.write(path, to_torch(params, state), preprocessing)


def _renamed(
    tensors: dict[str, np.ndarray], needed: Mapping[str, Any], renames: Sequence[Callable[[str], str]]
) -> dict[str, np.ndarray]:
    """Under the names, as they are or by one of the functions, of which the most are known."""
    ways = [tensors, *({rename(name): t for name, t in tensors.items()} for rename in renames)]
    return max(ways, key=lambda way: len(needed.keys() & way.keys()))


def _for_channels(kernel: np.ndarray, needed: tuple[int, ...] | None, channels: int) -> np.ndarray:
    """A kernel (features, 3, *window) as one for so many channels, where that is what is needed."""
    fits = needed is not None and kernel.ndim > 2 and kernel.shape[1] == 3
    if not fits or channels == 3 or needed != (kernel.shape[0], channels, *kernel.shape[2:]):
        return kernel
    if channels == 1:
        return kernel.sum(1, keepdims=True)
    return kernel[:, np.arange(channels) % 3] * np.float32(3 / channels)


def _other_in_features(tensors: Mapping[str, np.ndarray], needed: Mapping[str, tuple[int, ...]]) -> list[str]:
    """The tensors that differ from what is needed in their first axis, the features, and in no other."""
    both = ((name, t.shape, needed[name]) for name, t in tensors.items() if name in needed)
    return [name for name, got, want in both if got[:1] != want[:1] and got[1:] == want[1:]]
