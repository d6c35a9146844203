"""Where an op belongs: its layer, from the scopes that it was written in, and its phase of a training step."""

import functools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby

from jconv.cost.trace import Block, Op, Value, walk

__all__ = ["PHASES", "cut", "path_of", "phases_of", "written"]

PHASES = ("forward", "recompute", "backward input", "backward kernel", "optimiser")
OPTIMISER = ("optimiser", "optimizer")
RECOMPUTE = "rematted_computation"  # the scope that jax.checkpoint writes

Stack = tuple[tuple[str, str], ...]


@functools.lru_cache(maxsize=65536)
def path_of(stack: Stack) -> str:
    """The scopes with dots between: `layer1.0.conv1`. Those that jax.checkpoint repeats appear once."""
    path: list[str] = []
    before: list[str] = []
    differentiated = False
    for names, scopes in _segments(stack):
        if differentiated and "jvp" in names and before == scopes[: len(before)] and before:
            del path[-len(before) :]
        differentiated = differentiated or "jvp" in names
        path += scopes
        before = scopes
    return ".".join(path)


def cut(path: str, depth: int | None) -> str:
    """The first parts of a path, as many as `depth`: of `layer1.0.conv1` 1 is `layer1`, 2 is `layer1.0`, None is all.

    Raises:
        ValueError: a depth below 1.
    """
    if depth is not None and depth < 1:
        raise ValueError(f"depth: expected None or at least 1, got {depth}; 1 is the outermost scopes")
    return ".".join(path.split(".")[:depth])


def _segments(stack: Stack) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """Transforms, and the scopes that follow them."""
    names: tuple[str, ...] = ()
    for kind, group in groupby(stack, key=lambda part: part[0]):
        if kind == "transform":
            names = tuple(name for _, name in group)
        else:
            yield names, [_name(name) for _, name in group if name and name != RECOMPUTE]
            names = ()


def _name(scope: str) -> str:
    """A scope as parts of a path; Equinox's own are named after classes, as `eqx.nn.Conv2d`."""
    return scope.removeprefix("eqx.nn.").replace("/", ".")


@functools.lru_cache(maxsize=65536)
def written(stack: Stack) -> str:
    """The phase that the name stack tells: backward ops are those that were transposed."""
    names = [name for _, name in stack]
    again = max((i for i, name in enumerate(names) if name == RECOMPUTE), default=-1)
    if any(kind == "transform" and name == "transpose" for kind, name in stack[again + 1 :]):
        return "backward"
    if again >= 0:
        return "recompute"
    return "optimiser" if any(name in OPTIMISER for name in names) else "forward"


def phases_of(block: Block, *, products: Collection[Op], inputs: Iterable[Value] = ()) -> dict[Op, str]:
    """The phase of every op.

    Backward of a kernel is what leads to a parameter's gradient and to no further layer; backward of the input is the
    rest. A convolution's gradients tell by which operand is the cotangent. What uses gradients, and was itself not
    differentiated, is the optimiser.

    Args:
        block: the program.
        products: its convolutions and matrix products: what leads into one leads to a further layer.
        inputs: outputs of the program that are gradients with respect to inputs, not parameters.
    """
    ops = list(walk(block))
    phase = {op: written(op.stack) for op in ops}
    backward = [op for op in ops if phase[op] == "backward"]
    if not backward:
        return phase
    after = _after(ops, phase)
    for op in ops:
        if phase[op] == "forward" and not _differentiated(op) and any(v in after for v in op.inputs):
            phase[op] = "optimiser"
    _prepare(block, phase)
    onward = _onward(backward, phase, products, inputs)
    for op in backward:
        phase[op] = "backward input" if _to_input(op, after, onward) else "backward kernel"
    return phase


def _differentiated(op: Op) -> bool:
    return any(kind == "transform" and name == "jvp" for kind, name in op.stack)


def _prepare(block: Block, phase: dict[Op, str]) -> None:
    """What is made for the optimiser alone, as a decayed momentum or a learning rate, is its own too."""
    users: dict[Value, list[Op]] = {}
    for op in walk(block):
        for v in op.inputs:
            users.setdefault(v, []).append(op)
    for op in reversed(block.ops):
        by = [phase[user] for v in op.outputs for user in users.get(v, ())]
        if phase[op] == "forward" and not op.kind and not _differentiated(op) and by and set(by) == {"optimiser"}:
            phase[op] = "optimiser"


def _flows(op: Op) -> Sequence[tuple[Value, Value]]:
    return op.links if op.links else [(v, out) for v in op.inputs for out in op.outputs]


def _after(ops: Sequence[Op], phase: Mapping[Op, str]) -> set[Value]:
    """The cotangents and everything that is made from them. The first ones are constants, or made of constants."""
    first = (op for op in ops if phase[op] == "backward" and any(v.constant for v in op.inputs))
    after = {v for op in first for v in op.outputs}
    while True:  # once more for each loop in a loop
        before = len(after)
        for op in ops:
            for v, out in _flows(op):
                if v in after:
                    after.add(out)
        if len(after) == before:
            return after


def _onward(
    backward: Sequence[Op], phase: Mapping[Op, str], products: Collection[Op], inputs: Iterable[Value]
) -> set[Value]:
    """Values that lead into the backward of a further layer."""
    sources: dict[Value, list[Value]] = {}
    for op in backward:
        for v, out in _flows(op):
            sources.setdefault(out, []).append(v)
    todo = [*inputs, *(v for op in products if phase[op] == "backward" for v in op.inputs)]
    onward: set[Value] = set()
    while todo:
        v = todo.pop()
        if v not in onward:
            onward.add(v)
            todo += sources.get(v, ())
    return onward


def _to_input(op: Op, after: Collection[Value], onward: Collection[Value]) -> bool:
    if op.primitive == "jconv_conv":
        return op.params["slot"] != "kernel"
    if op.primitive == "conv_general_dilated":
        left, right = (v in after or v.constant for v in op.inputs[:2])  # the first cotangent is a constant
        if left != right:
            return left
    return any(v in onward for v in op.outputs)
