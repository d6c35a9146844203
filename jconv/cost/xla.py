"""`xla`: the same program as XLA counts it, before and after it is compiled, each instruction with its layer."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jconv.cost.analyze import layers_of_parameters, program_of
from jconv.cost.hlo import Hlo, read
from jconv.cost.hlo_text import parse
from jconv.cost.trace import untraceable

__all__ = ["Memory", "Totals", "Xla", "xla"]


class Totals(NamedTuple):
    """What XLA itself reports of a whole program, in float32: compare with a tolerance of 1e-6."""

    flops: float
    transcendentals: float
    bytes: float


class Memory(NamedTuple):
    """Bytes that a compiled program holds on a device."""

    argument: int
    output: int
    temporary: int
    alias: int
    """Of the outputs, those that lie in the memory of a donated argument."""

    @property
    def peak(self) -> int:
        """All together; on a CPU the peak that XLA reports leaves the temporaries out."""
        return self.argument + self.output + self.temporary - self.alias


class Xla(NamedTuple):
    """What `xla` found."""

    lowered: Hlo
    """The instructions before any optimisation."""
    lowered_total: Totals | None
    """None where this backend does not say."""
    compiled: Hlo
    """The instructions that run."""
    compiled_total: Totals | None
    memory: Memory | None
    platform: str


def xla(
    fn: Callable,
    *args: Any,
    mode: str = "forward",
    wrt: int | Sequence[int] | None = None,
    has_aux: bool = False,
) -> Xla:
    """Compiles a function and reads what XLA makes of it: totals, memory, and the cost of every instruction by layer.

    Args:
        fn, args, mode, wrt, has_aux: as for `analyze`; nothing is allocated here either.

    Returns:
        An Xla: `.lowered` and `.compiled` have rows, `.by_layer(depth)`, `.attributed`; `.memory.peak` is in bytes.

    Raises:
        ValueError: as `analyze` does.

    Example:
        >>> x, w = jax.ShapeDtypeStruct((2, 3), "float32"), jax.ShapeDtypeStruct((3, 4), "float32")
        >>> found = xla(lambda x, w: x @ w, x, w)
        >>> found.compiled.flops, found.memory.argument
        (48, 72)
    """
    program, numbers = program_of(fn, args, mode=mode, wrt=wrt, has_aux=has_aux)
    try:
        lowered = jax.jit(program).lower(*args)
    except Exception as error:
        raise untraceable(fn, error) from error
    outputs = _gradients(lowered.out_info, args, numbers) if mode == "train" else []
    compiled = lowered.compile()
    return Xla(
        read(parse(_text(lowered)), outputs=outputs),
        _totals(lowered),
        read(parse(compiled.as_text() or ""), outputs=outputs),
        _totals(compiled),
        _memory(compiled),
        jax.default_backend(),
    )


def _text(lowered: Any) -> str:
    try:
        return lowered.as_text("hlo", debug_info=True)
    except TypeError:  # before there was debug_info, HLO had it
        return lowered.as_text("hlo")


def _gradients(outputs: Any, args: Sequence[Any], numbers: tuple[int, ...]) -> list[str]:
    """The layer of each output that is a gradient of a parameter; empty for the others."""
    first, gradients = outputs
    leaves = jax.tree.leaves(args[numbers[0]])
    names = layers_of_parameters(args[numbers[0]])
    inexact = [n for n, a in zip(names, leaves, strict=True) if jnp.issubdtype(jnp.result_type(a), jnp.inexact)]
    others = len(jax.tree.leaves(gradients)) - len(inexact)
    return [*[""] * len(jax.tree.leaves(first)), *inexact, *[""] * others]


def _totals(stage: Any) -> Totals | None:
    """XLA's properties: a dict, a list of one, or nothing."""
    try:
        found = _only(stage.cost_analysis())
    except NotImplementedError:  # a backend that does not tell
        return None
    if not found:
        return None
    return Totals(*(float(found.get(name, 0.0)) for name in ("flops", "transcendentals", "bytes accessed")))


def _only(found: Any) -> Any:
    """The one of a list of one, as some versions have it for each device."""
    return found[0] if isinstance(found, list | tuple) and found else found


def _memory(compiled: Any) -> Memory | None:
    try:
        found = _only(compiled.memory_analysis())
    except NotImplementedError:  # a backend that does not tell
        return None
    if found is None:
        return None
    return Memory(*(int(getattr(found, f"{n}_size_in_bytes")) for n in ("argument", "output", "temp", "alias")))
