"""The same network in torch and here: one state dict of random numbers, and everything they compute compared."""

import copy
import functools
import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv import models, weights

__all__ = ["HARD_SIGMOID", "Agree", "Difference", "compare", "imported", "randomize", "reference"]

Agree = Callable[..., None]
"""The fixture: `compare`, asserted."""

EXACT = 1e-8  # in float64: some 1e7 roundings
ASKED = 1e-4  # in float32
HARD_SIGMOID = 3e-7
"""torch's derivative of the hard sigmoid is 1/6 rounded to float32, in float64 too: 3e-8 off in each such layer."""


def imported(library: str) -> Any:
    """timm or torchvision; the test is skipped where it is missing."""
    try:
        return importlib.import_module(library)
    except (ImportError, RuntimeError) as error:  # a torchvision that is made for another torch raises the second
        pytest.skip(f"{library} cannot be imported: {error}")


def reference(library: str, name: str, **options: Any) -> Any:
    """The network of that name in timm or torchvision, without weights; the test is skipped where it is missing."""
    module = imported(library)
    make = module.create_model if library == "timm" else module.models.get_model
    return make(name, **({"pretrained": False} if library == "timm" else {"weights": None}), **options)


def randomize(torch: Any, module: Any, seed: int) -> None:
    """Random parameters, of the size that keeps activations of one size, and random statistics."""
    rng, kept = torch.Generator().manual_seed(seed), module.state_dict()
    for name, p in (*module.named_parameters(), *module.named_buffers()):
        if not p.is_floating_point() or name not in kept:  # a fixed filter is no parameter
            continue
        if p.ndim > 1:
            p.data = torch.randn(p.shape, generator=rng) * (2 / p[0].numel()) ** 0.5
        elif name.endswith(("running_var", "weight", "gamma")):
            p.data = torch.rand(p.shape, generator=rng) + 0.5
        else:
            p.data = torch.randn(p.shape, generator=rng) * 0.1


class Difference(NamedTuple):
    """The largest difference of two results over the largest value.

    Args:
        float64, float32: between ours and theirs, both computed so.
        rounding: between theirs in float32 and theirs in float64: what float32 leaves of their own definition.
        half: as float32, for the half of the examples that agree best.
    """

    float64: float
    float32: float
    rounding: float
    half: float

    def wrong(self, *, exact: float = EXACT, of_gradient: bool = False) -> str:
        """Why they are not the same function, or "".

        In float32 it is within 1e-4, or as near to theirs as float32 comes to itself. In a network of a million ReLUs
        rounding decides one or another otherwise, which moves the gradient of that example by far more than any sum of
        roundings: for a gradient half of the examples count, and float64 for all.
        """
        limit = max(ASKED, 4 * self.rounding)
        if self.float64 > exact:
            return f"in float64 it differs by {self.float64:.1e}"
        found = self.half if of_gradient else self.float32
        return f"in float32 it differs by {found:.1e}, expected {limit:.1e}" if found > limit else ""


def compare(
    net: models.Network, theirs: Any, shape: tuple[int, ...], *, rename: Any = None, train: bool = True, seed: int = 0
) -> dict[str, Difference]:
    """What two networks with the same weights compute, ours and torch's.

    Args:
        net: ours.
        theirs: torch's, of any weights; it gets random ones.
        shape: of the input, (N, *spatial, C).
        rename: from a name in theirs to one of ours.
        train: compare a training pass too; False for networks that drop at random.

    Returns:
        {"evaluation", "gradient" (of the sum of squares, by the input), "training", and "statistics" (after its one
        step) where the network has some: Difference}
    """
    torch = imported("torch")
    randomize(torch, theirs, seed)
    rename = rename or (lambda name: name)
    x = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    tensors = {rename(name): t.numpy().copy() for name, t in theirs.state_dict().items()}
    wide = _of_torch(torch, copy.deepcopy(theirs).double(), x.astype(np.float64), rename, train)
    narrow = _of_torch(torch, theirs, x, rename, train)
    found = _of_jax(net, tensors, x, train)
    with jax.enable_x64(True):
        exact = _of_jax(net, tensors, x.astype(np.float64), train)
    return {
        what: Difference(
            _error(exact[what], wide[what]),
            _error(found[what], narrow[what]),
            _error(narrow[what], wide[what]),
            _half(found[what], narrow[what]),
        )
        for what in found
    }


Results = dict[str, dict[str, np.ndarray]]
"""What was computed: names and arrays, with channels last."""


def _of_torch(torch: Any, module: Any, x: np.ndarray, rename: Any, train: bool) -> Results:
    first = torch.tensor(np.moveaxis(x, -1, 1), requires_grad=True)
    y = module.eval()(first)
    (y**2).sum().backward()
    found = {"evaluation": {"y": _channels_last(y.detach())}, "gradient": {"dx": _channels_last(first.grad)}}
    if train:
        y = module.train()(first.detach())
        found["training"] = {"y": _channels_last(getattr(y, "logits", y).detach())}  # GoogLeNet's has auxiliary ones
        found["statistics"] = {rename(name): t.numpy() for name, t in module.named_buffers()}
    return found


def _of_jax(net: models.Network, tensors: dict[str, np.ndarray], x: np.ndarray, train: bool) -> Results:
    like = jax.eval_shape(net.init, jax.random.key(0), jax.ShapeDtypeStruct(x.shape, jnp.float32))
    params, state = jax.tree.map(lambda a: jnp.asarray(a, x.dtype), weights.from_torch(tensors, *like))

    @functools.partial(jax.jit, static_argnames="train")
    def run(params: Any, state: Any, x: Any, train: bool) -> Any:  # weights as arguments: XLA would fold constants
        return net.apply(params, state, x, train=train, key=jax.random.key(0))

    dx: Any = jax.jit(jax.grad(lambda x, p, s: (net.apply(p, s, x)[0] ** 2).sum()))(jnp.asarray(x), params, state)
    found = {"evaluation": {"y": np.asarray(run(params, state, x, False)[0])}, "gradient": {"dx": np.asarray(dx)}}
    if train:
        y, after = run(params, state, x, True)
        found["training"] = {"y": np.asarray(y)}
        statistics = weights.to_torch({}, after)
        kept = {n: a for n, a in statistics.items() if not n.endswith("num_batches_tracked")}
        found |= {"statistics": kept} if kept else {}
    return found


def _channels_last(t: Any) -> np.ndarray:
    return np.moveaxis(t.numpy(), 1, -1)


def _error(found: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> float:
    """The largest of the arrays' largest differences, each over its largest value."""
    for name, a in found.items():
        assert a.shape == right[name].shape, (name, a.shape, right[name].shape)
    return max(float(np.abs(a - right[name]).max() / np.abs(right[name]).max()) for name, a in found.items())


def _half(found: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> float:
    """As `_error`, for the better half of the examples along the first axis."""
    each = [np.abs(a - right[n]).reshape(len(a), -1).max(-1) / np.abs(right[n]).max() for n, a in found.items()]
    return max(float(np.sort(errors)[(len(errors) - 1) // 2]) for errors in each)
