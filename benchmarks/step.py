"""How long does a training step take? Forward and backward of whole networks, in jconv, in Flax and in torch.

python -m benchmarks.step                        # the table, in benchmarks/step.md
python -m benchmarks.step --match ResNet-18      # some of the networks, printed

Batch 32, 128 px, float32, BatchNorm in training; the loss is cross-entropy. torch needs torchvision for its networks.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.networks import FLAX, JCONV, TORCHVISION
from benchmarks.report import machine, optional, table, times

torch, torchvision = optional("torch"), optional("torchvision")
BATCH, SIZE = 32, 128


def data() -> tuple[np.ndarray, np.ndarray]:
    """Random images and labels."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((BATCH, SIZE, SIZE, 3), np.float32), rng.integers(0, 1000, BATCH)


def of(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The mean cross-entropy."""
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1))


def compiled(loss: Callable, params: Any, *rest: Any) -> tuple[Callable[[], Any], int, int]:
    """A step to run, its bytes, and the number of parameters."""
    x, labels = map(jnp.asarray, data())
    step = jax.jit(jax.value_and_grad(loss, has_aux=True)).lower(params, *rest, x, labels).compile()
    memory: Any = step.memory_analysis()
    used = memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes
    return partial(step, params, *rest, x, labels), used, sum(p.size for p in jax.tree.leaves(params))


def by_jconv(name: str) -> tuple[Callable[[], Any], int, int]:
    """jconv's network."""
    model = JCONV[name]()
    params, state = model.init(jax.random.key(0), jax.ShapeDtypeStruct((BATCH, SIZE, SIZE, 3), jnp.float32))

    def loss(params: Any, state: Any, x: jax.Array, labels: jax.Array) -> Any:
        logits, state = model.apply(params, state, x, train=True, key=jax.random.key(1))
        return of(logits, labels), state

    return compiled(loss, params, state)


def by_flax(name: str) -> tuple[Callable[[], Any], int, int]:
    """Linen's network."""
    model = FLAX[name]
    shapes = jax.eval_shape(partial(model.init, train=False), jax.random.key(0), jnp.ones((1, SIZE, SIZE, 3)))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda s: jnp.asarray(rng.uniform(0.01, 0.1, s.shape), s.dtype), shapes)

    def loss(params: Any, stats: Any, x: jax.Array, labels: jax.Array) -> Any:
        logits, new = model.apply({"params": params, "batch_stats": stats}, x, train=True, mutable=["batch_stats"])
        return of(logits, labels), new

    return compiled(loss, variables["params"], variables["batch_stats"])


def by_torch(name: str) -> tuple[Callable[[], Any], int | None, int] | None:
    """torchvision's network, channels last."""
    if torchvision is None:
        return None
    model = getattr(torchvision.models, TORCHVISION[name])().train().to(memory_format=torch.channels_last)
    x, labels = (torch.from_numpy(a) for a in data())
    x = x.permute(0, 3, 1, 2)

    def step() -> Any:
        model.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), labels)
        loss.backward()
        return None

    return step, None, sum(p.numel() for p in model.parameters())


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--match", default="", help="only the networks whose name has this in it")
    options = parser.parse_args()
    rows = []
    for name in JCONV:
        if options.match not in name:
            continue
        ways = {"jconv": by_jconv(name), "Flax": by_flax(name), "torch": by_torch(name)}
        found = {n: w for n, w in ways.items() if w}
        if len({w[2] for w in found.values()}) > 1:
            raise SystemExit(f"{name}: not the same network: { ({n: w[2] for n, w in found.items()}) } parameters")
        took = dict(zip(found, times(*(w[0] for w in found.values()), repeats=15, budget=60.0), strict=True))
        ours, flax, other = took["jconv"], took["Flax"], took.get("torch")
        rows.append([name, f"{ours:.3g}", f"{flax:.3g}", f"{other:.3g}" if other else "", f"{flax / ours:.2f}"])
        rows[-1] += [f"{other / ours:.2f}" if other else "", f"{ways['jconv'][1] / ways['Flax'][1]:.2f}"]
        print(*rows[-1], file=sys.stderr, flush=True)
    head = ["network", "jconv, s", "Flax, s", "torch, s", "Flax / jconv", "torch / jconv", "memory, jconv / Flax"]
    text = f"""# Training steps

`python -m benchmarks.step` wrote this. {machine()}{f", torch {torch.__version__}" if torch else ""}.
Seconds of a forward and backward pass, batch {BATCH}, {SIZE} px, float32, least of at most 15 turns and a minute for
each, in turn. Memory is XLA's: arguments, results and temporaries.

{table(head, rows)}
"""
    print(text)
    if not options.match:
        Path(__file__).with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
