"""`peak`: the memory that a program needs at its fullest moment, predicted from its jaxpr before it is compiled."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from jconv.cost.analyze import program_of
from jconv.cost.phases import path_of
from jconv.cost.rules import RULES
from jconv.cost.rules.base import free, names
from jconv.cost.rules.elementwise import RULES as ELEMENTWISE
from jconv.cost.trace import Block, Op, Value, trace

__all__ = ["Peak", "peak"]

MOVES = names("broadcast_in_dim convert_element_type copy iota pad reduce_precision rev slice transpose dynamic_slice")
REDUCTIONS = names("reduce_sum reduce_max reduce_min reduce_prod reduce_and reduce_or reduce_xor argmax argmin")
REPEATED = ("broadcast_in_dim", "iota")
PRODUCERS = frozenset([*ELEMENTWISE, *MOVES])
"""Ops that a compiler computes again in whatever elementwise op uses them."""

Values = frozenset[Value]


class Peak(NamedTuple):
    """What `peak` found, in bytes."""

    argument: int
    """Of the arguments that are used."""
    output: int
    temporary: int
    """The most that is alive at once beside them."""
    path: str
    """The layer that runs at that moment."""
    held: Mapping[str, int]
    """What is alive then, by the layer that made it: it adds up to `temporary`."""

    @property
    def bytes(self) -> int:
        """All together."""
        return self.argument + self.output + self.temporary


def peak(
    fn: Callable,
    *args: Any,
    mode: str = "forward",
    wrt: int | Sequence[int] | None = None,
    has_aux: bool = False,
    platform: str = "cpu",
    trips: int | Mapping[str, int] | None = None,
) -> Peak:
    """The memory that a function needs, from its jaxpr: nothing is allocated or compiled.

        peak = arguments + outputs + max over t of the bytes of temporaries that are made by t and used at t or later

    Ops run in the order of the jaxpr, dead code removed. An elementwise op, a broadcast, a slice, a transpose is not
    stored if all that use it are such ops, which compute it again, or if one reduction alone uses it; what it was made
    of must then live until they ran. Everything else is stored: results of convolutions, products, reductions and
    loops, and what they take. An elementwise result takes the memory of an operand of its size that is not used again.
    A convolution whose operands or result are not in the order NHWC, HWIO stores them in that order as well while it
    runs.

    Args:
        fn, args, mode, wrt, has_aux, platform, trips: as for `analyze`.

    Returns:
        A Peak: `.bytes`, and what it is made of.

    Raises:
        ValueError: as `analyze` does.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> x, w = jax.ShapeDtypeStruct((2, 3), "float32"), jax.ShapeDtypeStruct((3, 3), "float32")
        >>> found = peak(lambda x, w: jnp.tanh(x @ w + 1) @ w, x, w)  # the first product, and tanh in its place
        >>> found.argument, found.output, found.temporary
        (60, 24, 24)
    """
    program, _ = program_of(fn, args, mode=mode, wrt=wrt, has_aux=has_aux)
    block, _, _ = trace(program, *args, opaque=RULES, platform=platform, trips=trips)
    used = {v for op in block.ops for v in op.inputs} | set(block.outputs)
    path, held = _fullest(block, apart=map(_root, block.outputs))
    return Peak(
        sum(v.bytes for v in block.inputs if v in used),
        sum(v.bytes for v in block.outputs),
        sum(held.values()),
        path,
        held,
    )


def _free(op: Op) -> bool:
    return RULES.get(op.primitive) is free and len(op.inputs) == len(op.outputs)


def _root(v: Value) -> Value:
    """The array whose memory this is."""
    while v.maker is not None and _free(v.maker):
        v = v.maker.inputs[v.maker.outputs.index(v)]
    return v


def _fullest(block: Block, apart: Iterable[Value] = ()) -> tuple[str, dict[str, int]]:
    """The layer that runs while most is alive, and what is, by layer; without what lies `apart`."""
    ops = [op for op in block.ops if not _free(op)]
    stored = _stored(block, ops)
    touched, last = _lifetimes(ops, stored, block.outputs)
    elsewhere = frozenset(apart)
    alive: dict[Value, None] = {}
    size, most, at, best = 0, -1, "", {}
    for t, op in enumerate(ops):
        made = [v for v in op.outputs if v in stored and v not in elsewhere]
        alive |= dict.fromkeys(made)
        size += sum(v.bytes for v in made)
        ending = [v for v in touched[t] if v in alive and last[v] == t]
        beside, reused = _beside(op), _reused(op, made, ending)
        if size + sum(beside.values()) - reused > most:
            most, at = size + sum(beside.values()) - reused, path_of(op.stack)
            best = _summed([*((v.maker, v.bytes) for v in alive), (op, -reused)], beside)
        for v in [*ending, *(v for v in made if last[v] == t)]:
            del alive[v]
            size -= v.bytes
    return at, best


def _stored(block: Block, ops: Sequence[Op]) -> Values:
    """The values that have memory: all but those that everything that uses them computes again."""
    users: dict[Value, list[Op | None]] = {}
    for op in ops:
        for v in set(map(_root, op.inputs)):
            users.setdefault(v, []).append(op)
    for v in block.outputs:
        users.setdefault(_root(v), []).append(None)
    reducing = {op for op in ops if op.primitive in REDUCTIONS}  # and what is computed inside a reduction alone
    for op in reversed(ops):
        if op.primitive in PRODUCERS and len(used := users.get(op.outputs[0], [])) == 1 and used[0] in reducing:
            reducing.add(op)

    def computed(op: Op, user: Op | None) -> bool:
        inside = op in reducing or op.primitive in REPEATED
        return user is not None and (inside if user in reducing else user.primitive in PRODUCERS)

    return frozenset(
        v for op in ops for v in op.outputs
        if op.primitive not in PRODUCERS or not all(computed(op, user) for user in users.get(v, ()))
    )  # fmt: skip


def _lifetimes(ops: Sequence[Op], stored: Values, outputs: Iterable[Value]) -> tuple[list[Values], dict[Value, int]]:
    """The stored values that each op reads, directly or to compute others again, and the last op to do so."""
    made_of: dict[Value, Values] = {}
    touched: list[Values] = []
    last: dict[Value, int] = {}
    for t, op in enumerate(ops):
        reads = frozenset().union(*(made_of.get(_root(v), ()) for v in op.inputs))
        again = op.primitive in PRODUCERS and not any(v in stored for v in op.outputs)
        for v in op.outputs:
            made_of[v] = reads if again else frozenset([v])
            last[v] = t
        last |= dict.fromkeys(() if again else reads, t)
        touched.append(frozenset() if again else reads)
    last |= dict.fromkeys(map(_root, outputs), len(ops))
    return touched, last


def _reused(op: Op, made: Iterable[Value], ending: Iterable[Value]) -> int:
    """Bytes that an elementwise op need not take, since an operand of its size ends with it."""
    if op.primitive not in ELEMENTWISE:
        return 0
    sizes = {v.bytes for v in ending}
    return sum(v.bytes for v in made if v.bytes in sizes)


def _beside(op: Op) -> dict[str, int]:
    """What an op needs while it runs, beside what it takes and makes, by layer: copies, and what is alive inside it."""
    if op.kind == "kernel":
        return {}
    if op.kind:
        inside = [_fullest(b, map(_root, b.outputs) if op.kind in ("branch", "mesh") else ())[1] for b in op.blocks]
        return max(inside, key=lambda held: sum(held.values()), default={})
    if op.primitive == "conv_general_dilated":
        return {path_of(op.stack): _reordered(op)}
    return {}


def _reordered(op: Op) -> int:
    """Bytes of the operands and the result of a convolution that are not in the order of NHWC and HWIO."""
    of = op.params["dimension_numbers"]
    rank = len(of.lhs_spec)
    images, kernels = (0, rank - 1, *range(1, rank - 1)), (rank - 1, rank - 2, *range(rank - 2))
    orders = (
        (op.inputs[0], of.lhs_spec, images),
        (op.inputs[1], of.rhs_spec, kernels),
        (op.outputs[0], of.out_spec, images),
    )
    return sum(v.bytes for v, spec, order in orders if tuple(spec) != order)


def _summed(parts: Iterable[tuple[Op | None, int]], more: Mapping[str, int]) -> dict[str, int]:
    """Bytes by layer."""
    held = dict(more)
    for op, n in parts:
        path = path_of(op.stack) if op is not None else ""
        held[path] = held.get(path, 0) + n
    return {path: n for path, n in held.items() if n}
