"""A program as the laboratory reads it: traced, freed of dead code, calls opened, loops and branches kept as blocks.

Tracing needs shapes only: nothing is allocated, compiled or run. What is private in JAX is looked for, not relied on.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

__all__ = ["Block", "Op", "Value", "elements_of_text", "of_scan", "trace", "untraceable", "walk"]

CALLS = {  # primitives that stand for their body, and the parameter that holds it
    **dict.fromkeys(("jit", "pjit", "remat", "remat2", "checkpoint", "composite", "eval_jaxpr"), "jaxpr"),
    **dict.fromkeys(("call", "core_call", "closed_call", "custom_jvp_call", "custom_vjp_call"), "call_jaxpr"),
    "custom_vjp_call_jaxpr": "fun_jaxpr",
    "linear_call": "callee",
}
SUB_BYTE = {"int2": 2, "uint2": 2, "int4": 4, "uint4": 4, "float4_e2m1fn": 4}


@dataclasses.dataclass(eq=False, slots=True)
class Value:
    """An array of the program: an argument, a constant, or what an op makes."""

    shape: tuple[int, ...]
    dtype: Any
    maker: "Op | None" = None
    argument: int | None = None
    """The number of the program's argument that this is, after flattening."""
    known: int | None = None
    """Its value, where that is a whole number that tracing knows."""
    constant: bool = False
    literal: Any = None
    """What a constant holds."""
    outer: "Value | None" = None
    """The value outside a loop that this one is a slice or the first state of."""

    @property
    def size(self) -> int:
        """How many elements."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """How many bytes; a scalar constant is part of the program and has none."""
        if self.constant and not self.shape:
            return 0
        return (self.size * _kind(self.dtype)[1] + 7) // 8

    def __str__(self) -> str:
        return f"{_kind(self.dtype)[0]}[{','.join(map(str, self.shape))}]"


@dataclasses.dataclass(eq=False, slots=True)
class Op:
    """One equation: a primitive, its parameters, what it takes and makes, and where it was written."""

    primitive: str
    params: Mapping[str, Any]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    stack: tuple[tuple[str, str], ...]
    """("scope" or "transform", name), outermost first."""
    eqn: Any = None
    """The equation itself."""
    kind: str = ""
    """"loop" (body), "while" (condition, body), "branch", "mesh" or "kernel" where it has blocks."""
    blocks: "tuple[Block, ...]" = ()
    times: int | None = 1
    """How often its blocks run for each time that it runs; None if tracing cannot know."""
    links: tuple[tuple[Value, Value], ...] = ()
    """Which values outside and inside its blocks are one another's, (from, to)."""

    @property
    def where(self) -> str:
        """The line of the user's program."""
        return _where(self.eqn.source_info)


@dataclasses.dataclass(eq=False, slots=True)
class Block:
    """Ops in order, between inputs and outputs."""

    ops: list[Op]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]


def walk(block: Block) -> Iterator[Op]:
    """Every op, those inside loops, branches and kernels right after the op that runs them."""
    for op in block.ops:
        yield op
        for inner in op.blocks:
            yield from walk(inner)


def trace(
    fn: Callable,
    *args: Any,
    opaque: Collection[str] = (),
    platform: str = "cpu",
    trips: int | Mapping[str, int] | None = None,
) -> tuple[Block, Any, Any]:
    """The program of `fn(*args)`.

    Args:
        fn: any function that JAX can trace.
        args: arrays, or anything with shape and dtype, in any pytree.
        opaque: primitives that are never opened, though they have a body: there is a rule for them.
        platform: the one that `lax.platform_dependent` is resolved for.
        trips: iterations of while-loops that tracing cannot know, for all of them or by path.

    Returns:
        The block; its inputs and its outputs as pytrees of Values, like args and the function's result.

    Raises:
        ValueError: the function does not trace.
    """
    try:
        closed, shapes = jax.make_jaxpr(fn, return_shape=True)(*args)
    except Exception as error:
        raise untraceable(fn, error) from error
    jaxpr = _dce(closed.jaxpr)
    reader = _Reader(frozenset(opaque), platform, trips)
    inputs = tuple(_value(v.aval, argument=i) for i, v in enumerate(jaxpr.invars))
    block = reader.block(jaxpr, closed.consts, inputs, ())
    unflatten = jax.tree.unflatten
    return (
        block,
        unflatten(jax.tree.structure(args), block.inputs),
        unflatten(jax.tree.structure(shapes), block.outputs),
    )


def untraceable(fn: Callable, error: Exception) -> ValueError:
    """What to say where a function does not trace."""
    name = getattr(fn, "__name__", None) or getattr(getattr(fn, "func", None), "__name__", None) or str(fn)
    return ValueError(
        f"fn: expected a function that JAX can trace with these arguments, but {name} raised "
        f"{type(error).__name__}: {error}; give arrays or jax.ShapeDtypeStruct, "
        f"and fix everything else before: functools.partial(fn, train=True)"
    )


@functools.cache
def _kind(dtype: Any) -> tuple[str, int]:
    """A dtype in short, `f32`, and the bits of an element."""
    name = str(dtype)
    short = re.sub(r"^(b)?(float|u?int|complex)(?=\d)", lambda m: (m[1] or "") + m[2][0], name)
    return short, SUB_BYTE.get(name, 8 * getattr(dtype, "itemsize", 4))


def _value(aval: Any, **options: Any) -> Value:
    aval = getattr(aval, "inner_aval", aval)  # of a Ref
    return Value(tuple(getattr(aval, "shape", ())), getattr(aval, "dtype", np.dtype(np.uint8)), **options)


class _Reader:
    """Turns jaxprs into blocks. Every call is opened in its place, so a value has one identity throughout."""

    def __init__(self, opaque: frozenset[str], platform: str, trips: int | Mapping[str, int] | None):
        self.opaque, self.platform, self.trips = opaque, platform, trips

    def block(self, jaxpr: Any, consts: Sequence[Any], inputs: tuple[Value, ...], stack: tuple) -> Block:
        env: dict[Any, Value] = dict(zip(jaxpr.invars, inputs, strict=True))
        for var, const in zip(jaxpr.constvars, consts, strict=False):
            env[var] = _value(var.aval, constant=True, known=_known(const), literal=const)
        ops: list[Op] = []

        def read(atom: Any) -> Value:
            if hasattr(atom, "val"):
                return _value(atom.aval, constant=True, known=_known(atom.val), literal=atom.val)
            if atom not in env:
                env[atom] = _value(atom.aval, constant=True)
            return env[atom]

        for eqn in jaxpr.eqns:
            outputs = self.equation(eqn, tuple(map(read, eqn.invars)), stack, ops)
            env.update(zip(eqn.outvars, outputs, strict=True))
        return Block(ops, inputs, tuple(map(read, jaxpr.outvars)))

    def equation(self, eqn: Any, inputs: tuple[Value, ...], stack: tuple, ops: list[Op]) -> tuple[Value, ...]:
        name, params = eqn.primitive.name, eqn.params
        stack = stack + _elements(eqn.source_info.name_stack)
        if name not in self.opaque and (body := _body(name, params, eqn)) is not None:
            block = self.inner(body, inputs, stack)
            ops.extend(block.ops)
            return block.outputs
        made = tuple(_value(v.aval) for v in eqn.outvars)
        op = Op(name, params, inputs, made, stack, eqn)
        for value in made:
            value.maker = op
        ops.append(op)
        if name == "platform_index":
            made[0].known = _branch(params["platforms"], self.platform)
        if name not in self.opaque:
            match name:
                case "scan":
                    self.scan(op)
                case "while":
                    self.loop(op)
                case "cond":
                    self.cond(op)
                case "shard_map":
                    self.mesh(op)
                case "pallas_call":
                    self.kernel(op)
        return made

    def inner(self, body: Any, inputs: tuple[Value, ...], stack: tuple) -> Block:
        jaxpr, consts = _open(body)
        if len(jaxpr.invars) != len(inputs):
            inputs = tuple(_value(v.aval) for v in jaxpr.invars)
        return self.block(jaxpr, consts, inputs, stack)

    def scan(self, op: Op) -> None:
        fixed, carried = of_scan(op)
        jaxpr, _ = _open(op.params["jaxpr"])
        inside = tuple(_value(v.aval, outer=o) for v, o in zip(jaxpr.invars, op.inputs, strict=True))
        body = self.inner(op.params["jaxpr"], (*op.inputs[:fixed], *inside[fixed:]), op.stack)
        back = zip(body.outputs[:carried], inside[fixed : fixed + carried], strict=True)
        op.kind, op.blocks, op.times = "loop", (body,), int(op.params["length"])
        op.links = (
            *zip(op.inputs[fixed:], inside[fixed:], strict=True),
            *back,
            *zip(body.outputs, op.outputs, strict=True),
        )

    def loop(self, op: Op) -> None:
        n, m = op.params["cond_nconsts"], op.params["body_nconsts"]
        start = op.inputs[n + m :]
        state = tuple(Value(v.shape, v.dtype, outer=v) for v in start)
        test = self.inner(op.params["cond_jaxpr"], (*op.inputs[:n], *state), op.stack)
        body = self.inner(op.params["body_jaxpr"], (*op.inputs[n : n + m], *state), op.stack)
        ends = body.outputs
        op.kind, op.blocks = "while", (test, body)
        op.times = _trip_count(test, body, start, state)
        if op.times is None:
            op.times = self.hint(op)
        op.links = tuple(
            pair for v, s, e, out in zip(start, state, ends, op.outputs, strict=True)
            for pair in ((v, s), (e, s), (e, out), (v, out))
        )  # fmt: skip

    def hint(self, op: Op) -> int | None:
        if not isinstance(self.trips, Mapping):
            return self.trips
        scopes = ".".join(name for kind, name in op.stack if kind == "scope")
        return next((n for path, n in self.trips.items() if scopes == path or scopes.endswith(f".{path}")), None)

    def cond(self, op: Op) -> None:
        index, *operands = op.inputs
        branches = op.params["branches"]
        if index.known is not None:
            branches = (branches[min(max(index.known, 0), len(branches) - 1)],)
        op.kind = "branch"
        op.blocks = tuple(self.inner(b, tuple(operands), op.stack) for b in branches)
        op.links = tuple(pair for b in op.blocks for pair in zip(b.outputs, op.outputs, strict=True))

    def mesh(self, op: Op) -> None:
        mesh = op.params["mesh"]
        axes = next((op.params[k] for k in ("manual_axes", "newly_manual_axes") if k in op.params), mesh.axis_names)
        jaxpr, _ = _open(op.params["jaxpr"])
        inside = tuple(_value(v.aval, outer=o) for v, o in zip(jaxpr.invars, op.inputs, strict=True))
        body = self.inner(op.params["jaxpr"], inside, op.stack)
        op.kind, op.blocks = "mesh", (body,)
        op.times = int(np.prod([mesh.shape[a] for a in axes], dtype=int))
        op.links = (*zip(op.inputs, inside, strict=True), *zip(body.outputs, op.outputs, strict=True))

    def kernel(self, op: Op) -> None:
        jaxpr, _ = _open(op.params["jaxpr"])
        body = self.inner(op.params["jaxpr"], tuple(_value(v.aval) for v in jaxpr.invars), op.stack)
        grid = [g for g in op.params["grid_mapping"].grid if isinstance(g, int)]
        op.kind, op.blocks, op.times = "kernel", (body,), int(np.prod(grid, dtype=object)) if grid else 1
        op.links = tuple((v, out) for v in op.inputs for out in op.outputs)


def _body(name: str, params: Mapping[str, Any], eqn: Any) -> Any:
    """The body of a primitive that stands for it, or None."""
    if name in CALLS and CALLS[name] in params:
        return params[CALLS[name]]
    if name == "custom_linear_solve":
        return params["jaxprs"].solve if len(_open(params["jaxprs"].solve)[0].outvars) == len(eqn.outvars) else None
    if name in ("scan", "while", "cond", "shard_map", "pallas_call"):
        return None
    bodies = [p for p in params.values() if hasattr(p, "eqns")]
    if len(bodies) == 1:  # a primitive that was not heard of: a call, if everything fits
        jaxpr, _ = _open(bodies[0])
        if len(jaxpr.invars) == len(eqn.invars) and len(jaxpr.outvars) == len(eqn.outvars):
            return bodies[0]
    return None


def _open(jaxpr: Any) -> tuple[Any, Sequence[Any]]:
    """A jaxpr and its constants, of a closed one or an open one."""
    return (jaxpr.jaxpr, jaxpr.consts) if hasattr(jaxpr, "consts") else (jaxpr, ())


def of_scan(op: Op) -> tuple[int, int]:
    """How many inputs of a scan are the same in every turn, and how many are its state; slices are the others."""
    if "num_consts" in op.params:
        return op.params["num_consts"], op.params["num_carry"]
    fixed, carried, _ = op.params["ft_in"].unpack()  # from jax 0.11 on
    return len(fixed), len(carried)


def _known(value: Any) -> int | None:
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    if isinstance(value, int | np.integer) or (kind in "iu" and kind and np.ndim(value) == 0):
        try:
            return int(value)
        except (TypeError, ValueError):
            return None
    return None


def _branch(platforms: Sequence[Sequence[str] | None], platform: str) -> int | None:
    names = {platform, "cuda"} if platform == "gpu" else {platform}
    for i, listed in enumerate(platforms):
        if listed is None or names & set(listed):
            return i
    return None


def _trip_count(test: Block, body: Block, start: Sequence[Value], state: Sequence[Value]) -> int | None:
    """The iterations of `while i < n: i += step`, where the bounds are known; None for any other loop."""
    if len(test.ops) != 1 or test.ops[0].primitive != "lt":
        return None
    i, n = test.ops[0].inputs
    if i not in state:
        return None
    at = state.index(i)
    bound = start[state.index(n)].known if n in state and body.outputs[state.index(n)] is n else n.known
    first, step = start[at].known, body.outputs[at].maker
    if step is None or step.primitive != "add" or i not in step.inputs or first is None or bound is None:
        return None
    by = next((v.known for v in step.inputs if v is not i), None)
    return max(0, -(-(bound - first) // by)) if by and by > 0 else None


@functools.lru_cache(maxsize=65536)
def _elements(name_stack: Any) -> tuple[tuple[str, str], ...]:
    """A name stack as ("scope" or "transform", name), outermost first; from its text if its parts have moved."""
    parts = getattr(name_stack, "stack", None)
    if parts is not None:
        return tuple(("transform" if type(p).__name__ == "Transform" else "scope", p.name) for p in parts)
    return tuple(elements_of_text(str(name_stack)))


def elements_of_text(text: str) -> Iterator[tuple[str, str]]:
    """`transpose(jvp(layer1))/0`: transform transpose, transform jvp, scope layer1, scope 0."""
    for part in filter(None, text.split("/")):
        scope = part
        while match := re.fullmatch(r"(transpose|jvp|vmap)\((.*)\)", scope):
            yield "transform", match[1]
            scope = match[2]
        if scope:
            yield "scope", scope


def _where(source: Any) -> str:
    try:
        from jax._src.source_info_util import summarize
    except ImportError:
        return "unknown place"
    return summarize(source)


def _dce(jaxpr: Any) -> Any:
    """The jaxpr without equations that nothing uses: the VJP's dead forward convolution, for one."""
    try:
        from jax._src.interpreters.partial_eval import dce_jaxpr
    except ImportError:
        return _sweep(jaxpr)
    return dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars), True)[0]


def _sweep(jaxpr: Any) -> Any:
    """Dead code elimination of our own, of the outermost equations."""
    live = {v for v in jaxpr.outvars if not hasattr(v, "val")}
    kept = []
    for eqn in reversed(jaxpr.eqns):
        if eqn.effects or live.intersection(eqn.outvars):
            kept.append(eqn)
            live.update(v for v in eqn.invars if not hasattr(v, "val"))
    return jaxpr.replace(eqns=kept[::-1])
