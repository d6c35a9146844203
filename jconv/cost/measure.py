"""`measure`: the layers of a program cut out and timed on this machine, against what they cost."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jconv.cost.analyze import analyze, program_of
from jconv.cost.phases import cut, path_of
from jconv.cost.roofline import Device, devices
from jconv.cost.rules import RULES
from jconv.cost.text import quantity, seconds
from jconv.cost.trace import Block, Op, Value, trace
from jconv.cost.types import Cost

__all__ = ["Measured", "Timing", "measure", "this_device"]


class Timing(NamedTuple):
    """A layer, timed."""

    path: str
    seconds: float
    cost: Cost
    peak: float
    """FLOP/s that the device can do at most."""

    @property
    def flops_per_second(self) -> float:
        """Achieved."""
        return self.cost.flops / self.seconds if self.seconds else 0.0

    @property
    def bytes_per_second(self) -> float:
        """Achieved, of the bytes that must be moved; below what really moves."""
        return self.cost.bytes_moved / self.seconds if self.seconds else 0.0

    @property
    def mfu(self) -> float:
        """Model FLOPs utilisation: achieved FLOP/s of the device's peak."""
        return self.flops_per_second / self.peak


class Measured(NamedTuple):
    """What `measure` found."""

    layers: tuple[Timing, ...]
    """Each on its own: what XLA fuses across their borders is lost, so that they may sum to more than the whole."""
    whole: Timing
    device: Device

    def to_markdown(self) -> str:
        """As a table."""
        lines = ["| layer | time | FLOP/s | B/s | MFU |", "|---|---:|---:|---:|---:|"]
        for t in (*self.layers, self.whole):
            speed = f"{quantity(t.flops_per_second)} | {quantity(t.bytes_per_second)}"
            lines.append(f"| {t.path or '(no scope)'} | {seconds(t.seconds)} | {speed} | {100 * t.mfu:.1f} % |")
        return "\n".join(lines)


def measure(
    fn: Callable,
    *args: Any,
    mode: str = "forward",
    wrt: int | Sequence[int] | None = None,
    has_aux: bool = False,
    depth: int | None = 1,
    device: str | Device | None = None,
    repeats: int = 5,
) -> Measured:
    """Times each layer of a program on this machine: achieved FLOP/s, bytes/s and MFU.

    Every layer is cut out of the jaxpr, with all of its phases, compiled on its own and run on random arrays.

    Args:
        fn, args, mode, wrt, has_aux: as for `analyze`; of the arguments only shapes matter.
        depth: parts of a path that make a layer; each layer is compiled on its own.
        device: whose peak the MFU is of; None measures this one's, see `this_device`.
        repeats: how often each runs; the least time counts.

    Returns:
        A Measured: `.layers`, `.whole`, `.to_markdown()`.

    Raises:
        ValueError: as `analyze` does; an unknown device.

    Example:
        >>> x = jax.ShapeDtypeStruct((64, 64), "float32")
        >>> found = measure(lambda x: jax.named_call(jnp.dot, name="dot")(x, x), x, repeats=1)
        >>> found.layers[0].path, found.layers[0].cost.flops, found.whole.mfu > 0
        ('dot', 524288, True)

    References:
        Chowdhery et al. 2022, "PaLM: Scaling Language Modeling with Pathways", arXiv:2204.02311, appendix B: MFU.
    """
    result = analyze(fn, *args, mode=mode, wrt=wrt, has_aux=has_aux, platform=_platform())
    chosen = _device(device)
    dtype = (str(result.about["input"]) or "f32").partition("[")[0]
    peak = chosen.flops(dtype)
    program, _ = program_of(fn, args, mode=mode, wrt=wrt, has_aux=has_aux)
    block, _, _ = trace(program, *args, opaque=RULES, platform=_platform())
    layers = []
    for layer in result.by_layer(depth):
        ops = [op for op in block.ops if cut(path_of(op.stack), depth) == layer.path]
        if layer.cost.flops and ops:
            layers.append(Timing(layer.path, _time(*_cut(block, ops), repeats), layer.cost, peak))
    whole = Timing("the whole", _time(*_cut(block, block.ops), repeats), result.total, peak)
    return Measured(tuple(layers), whole, chosen)


def this_device(size: int = 1024, *, repeats: int = 5) -> Device:
    """The peaks of this machine, measured: a square matrix product in float32 and a copy of 64 MiB.

    Args:
        size: of the matrices.
        repeats: how often each runs; the least time counts.
    """
    x, y = jnp.ones((size, size)), jnp.ones(2**24)
    product, copy = (_least(jax.jit(f), (a,), repeats) for f, a in ((lambda x: x @ x, x), (lambda y: y + 1, y)))
    kind = jax.devices()[0].device_kind
    return Device(kind, 2 * y.nbytes / copy, {"f32": 2 * size**3 / product}, "measured: a matrix product and a copy")


def _platform() -> str:
    return {"gpu": "cuda"}.get(jax.default_backend(), jax.default_backend())


def _device(device: str | Device | None) -> Device:
    if device is None:
        return this_device()
    if isinstance(device, Device):
        return device
    known = devices()
    if device not in known:
        raise ValueError(f"device: unknown {device!r}; there are {', '.join(known)}, or None to measure this one")
    return known[device]


def _cut(block: Block, ops: Sequence[Op]) -> tuple[Callable, list[Any]]:
    """Ops as a function of what they take from outside, with arguments for it."""
    inside = set(ops)
    made = {v for op in ops for v in op.outputs}
    taken = dict.fromkeys(v for op in ops for v in op.inputs if v not in made and v.literal is None)
    leaving = {v for op in block.ops if op not in inside for v in op.inputs} | set(block.outputs)
    results = [v for op in ops for v in op.outputs if v in leaving] or list(ops[-1].outputs)

    def run(values: Sequence[Any]) -> list[Any]:
        env: dict[Value, Any] = dict(zip(taken, values, strict=True))
        for op in ops:
            env.update(zip(op.outputs, _evaluate(op, [env.get(v, v.literal) for v in op.inputs]), strict=True))
        return [env[v] for v in results if v in env]

    rng = np.random.default_rng(0)
    return run, [_random(v, rng) for v in taken]


def _evaluate(op: Op, given: Sequence[Any]) -> Sequence[Any]:
    """One equation; until jax 0.9 primitives gave their functions apart from their options."""
    primitive = op.eqn.primitive
    found = primitive.get_bind_params(op.eqn.params)
    functions, options = found if isinstance(found, tuple) else ((), found)
    out = primitive.bind(*functions, *given, **options)
    return out if primitive.multiple_results else [out]


def _random(v: Value, rng: np.random.Generator) -> Any:
    if jnp.issubdtype(v.dtype, jax.dtypes.prng_key):
        return jnp.broadcast_to(jax.random.key(0), v.shape)
    if jnp.issubdtype(v.dtype, jnp.inexact):
        return jnp.asarray(rng.uniform(0.5, 1.5, v.shape), v.dtype)
    return jnp.zeros(v.shape, v.dtype)


def _time(run: Callable, values: list[Any], repeats: int) -> float:
    return _least(jax.jit(run), (values,), repeats)


def _least(run: Callable, args: tuple, repeats: int) -> float:
    jax.block_until_ready(run(*args))
    best = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(run(*args))
        best = min(best, time.perf_counter() - began)
    return best
