"""The same network in torch and here: one state dict of random numbers, and everything they compute compared.

`python -m pytest tests/models -m parity --record` keeps what torch computed, for the tests that run without it.
"""

import copy
import functools
import importlib
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv import models, weights
from jconv.weights.names import needs
from tests.catalogue import fast_jit

__all__ = [
    "HARD_SIGMOID", "Agree", "Difference", "Results", "Theirs", "compare", "imported", "noise", "ours", "randomize",
    "reference",
]  # fmt: skip

jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
"""Compiles fast, with XLA's fusion emitters: without, as in `fast_jit`, some of these gradients come out wrong."""

Agree = Callable[..., None]
"""The fixture: `compare` asserted, or what torch computed once."""

Theirs = Callable[[], Any]
"""Makes torch's network: only a test that has torch calls it."""

Results = dict[str, dict[str, np.ndarray]]
"""What was computed: names and arrays, with channels last."""

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


def reference(library: str, name: str, **options: Any) -> Theirs:
    """Makes the network of that name in timm or torchvision, without weights; skips the test where it is missing."""

    def theirs() -> Any:
        module = imported(library)
        make = module.create_model if library == "timm" else module.models.get_model
        return make(name, **({"pretrained": False} if library == "timm" else {"weights": None}), **options)

    return theirs


def noise(name: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Random float64 numbers of mean 0 and variance 1, another array for every name, the same wherever it is made.

    Uniform, which is a shift and a product away from the generator's bits: how numpy makes normal ones may change.
    """
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    return (rng.random(shape) - 0.5) * 12**0.5


def tensor(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """A random entry of a state dict, of the size that keeps activations of one size.

    An entry of another shape but the same numbers in the same order, as a matrix and its 1×1 convolution, is the same.
    """
    values, fan = noise(name, shape, seed), int(np.prod(shape[1:]))
    if fan > 1:
        values *= (2 / fan) ** 0.5
    elif name.endswith(("running_var", "weight", "gamma")):
        values = values / 12**0.5 + 1
    else:
        values *= 0.1
    return values.astype(np.float32)


def randomize(torch: Any, module: Any, seed: int, rename: Any = None) -> None:
    """Random parameters and statistics, by our name for each."""
    kept = module.state_dict()
    for name, p in (*module.named_parameters(), *module.named_buffers()):
        if p.is_floating_point() and name in kept:  # a fixed filter is no parameter
            p.data = torch.tensor(tensor(rename(name) if rename else name, tuple(p.shape), seed))


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
    net: models.Network,
    theirs: Theirs,
    shape: tuple[int, ...],
    *,
    rename: Any = None,
    train: bool = True,
    seed: int = 0,
) -> tuple[dict[str, Difference], Results]:
    """What two networks with the same weights compute, ours and torch's.

    Args:
        net: ours.
        theirs: makes torch's, of any weights; it gets random ones.
        shape: of the input, (N, *spatial, C).
        rename: from a name in theirs to one of ours.
        train: compare a training pass too; False for networks that drop at random.

    Returns:
        {"evaluation", "gradient" (of the sum of squares, by the input), "training", and "statistics" (after its one
        step) where the network has some: Difference}, and torch's results in float64, of the names that are ours.
    """
    torch = imported("torch")
    module, rename = theirs(), rename or (lambda name: name)
    randomize(torch, module, seed, rename)
    x = noise("x", shape, seed).astype(np.float32)
    tensors = {rename(name): t.numpy().copy() for name, t in module.state_dict().items()}
    wide = _of_torch(torch, copy.deepcopy(module).double(), x.astype(np.float64), rename, train)
    narrow = _of_torch(torch, module, x, rename, train)
    found = _of_jax(net, tensors, x, train)
    with jax.enable_x64(True):
        exact = _of_jax(net, tensors, x.astype(np.float64), train)
    differences = {
        what: Difference(
            _error(exact[what], wide[what]),
            _error(found[what], narrow[what]),
            _error(narrow[what], wide[what]),
            _half(found[what], narrow[what]),
        )
        for what in found
    }
    return differences, {what: {name: wide[what][name] for name in exact[what]} for what in exact}


def ours(net: models.Network, shape: tuple[int, ...], *, train: bool = True, seed: int = 0) -> Results:
    """What our network computes of the same weights in float64, as `compare` has it; no torch."""
    like = jax.eval_shape(net.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))
    tensors = {name: tensor(name, size, seed) for name, size in needs(*like).items()}
    with jax.enable_x64(True):
        return _of_jax(net, tensors, noise("x", shape, seed).astype(np.float32).astype(np.float64), train)


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

    def squares(x: jax.Array, params: Any, state: Any) -> tuple[jax.Array, jax.Array]:
        y, _ = net.apply(params, state, x)
        return (y**2).sum(), y

    @fast_jit  # of values alone
    def trained(x: jax.Array, params: Any, state: Any) -> Any:
        return net.apply(params, state, x, train=True, key=jax.random.key(0))

    arrays = jnp.asarray(x), params, state  # weights as arguments: XLA would fold constants
    dx, y = jit(jax.grad(squares, has_aux=True))(*arrays)
    found = {"evaluation": {"y": np.asarray(y)}, "gradient": {"dx": np.asarray(dx)}}
    if train:
        y, after = trained(*arrays)
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
