"""The same network in torch and here: one state dict of random numbers, and everything they compute compared."""

import importlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv import models, weights

__all__ = ["compare", "imported", "reference"]


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


def compare(
    net: models.Network, theirs: Any, shape: tuple[int, ...], *, rename: Any = None, train: bool = True, seed: int = 0
) -> dict[str, float]:
    """The largest difference between two networks with the same weights, over the largest value, of each result.

    Args:
        net: ours.
        theirs: torch's, of any weights; it gets random ones.
        shape: of the input, (N, *spatial, C).
        rename: from a name in theirs to one of ours.
        train: compare a training pass too; False for networks that drop at random.

    Returns:
        {"eval", "gradient" (of the sum of squares, by the input), "train", "statistics" (after one step): error}
    """
    import torch  # pyright: ignore[reportMissingImports]

    randomize(torch, theirs, seed)
    x = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    tensors = {name: t.detach().numpy().copy() for name, t in theirs.state_dict().items()}
    tensors = {(rename or (lambda n: n))(name): a for name, a in tensors.items()}
    like = jax.eval_shape(net.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))
    params, state = weights.from_torch(tensors, *like)

    def ours(x: Any, *, train: bool) -> Any:
        f = jax.jit(lambda params, state, x: net.apply(params, state, x, train=train, key=jax.random.key(0)))
        return f(params, state, x)  # as arguments: XLA would fold constants for minutes

    first = torch.tensor(np.moveaxis(x, -1, 1), requires_grad=True)
    y = theirs.eval()(first)
    (y**2).sum().backward()
    dx: Any = jax.jit(jax.grad(lambda x, p, s: (net.apply(p, s, x)[0] ** 2).sum()))(x, params, state)
    found = {
        "eval": _error(ours(x, train=False)[0], y),
        "gradient": _error(dx, np.moveaxis(np.asarray(first.grad), 1, -1)),
    }
    if train:
        y = theirs.train()(first.detach())
        z, after = ours(x, train=True)
        found["train"] = _error(z, getattr(y, "logits", y))
        own = weights.to_torch({}, after)
        new = {(rename or (lambda n: n))(name): t for name, t in theirs.state_dict().items()}
        pairs = [(own[n], new[n]) for n in own if not n.endswith("num_batches_tracked")]
        found["statistics"] = max((_error(a, b) for a, b in pairs), default=0.0)
    return found


def _error(ours: Any, theirs: Any) -> float:
    a, b = (
        np.asarray(ours, np.float64),
        np.asarray(theirs.detach() if hasattr(theirs, "detach") else theirs, np.float64),
    )
    if a.shape != b.shape and a.ndim > 2:
        b = np.moveaxis(b, 1, -1)
    assert a.shape == b.shape, (a.shape, b.shape)
    return float(np.abs(a - b).max() / np.abs(b).max())
