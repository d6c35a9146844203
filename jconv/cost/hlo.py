"""`hlo`: what each instruction of a compiled program costs, and the layer that it belongs to."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from jconv.cost.hlo_text import Computation, Instruction, Module, parse
from jconv.cost.instructions import NESTED, Run, run
from jconv.cost.op_names import Label, label_of, parameter_path, primitive_of
from jconv.cost.phases import cut

__all__ = ["PROVENANCE", "Hlo", "HloLayer", "HloRow", "hlo", "read"]

PROVENANCE = ("own name", "fusion", "users", "operands", "none")
"""How the layer of an instruction is known: by its own name, its fusion, by what uses it, or by what it uses."""
ALIASES = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", *NESTED[1:])
"""Instructions that move nothing themselves."""


class HloRow(NamedTuple):
    """One instruction."""

    name: str
    opcode: str
    shape: str
    path: str
    phase: str
    """"forward", "recompute", "backward"; empty where nothing is known."""
    provenance: str
    """One of `PROVENANCE`."""
    flops: int
    """Of one run: XLA counts the body of a loop once."""
    transcendentals: int
    bytes: int
    """Operands and results of one run; those of a fusion are in the row of the fusion."""
    times: int
    """How often it runs."""
    target: str = ""
    """What a custom call calls: XLA knows no cost of it."""
    groups: int = 1
    """Feature and batch groups of a convolution."""
    primitive: str = ""
    """What JAX made it for, if it says so."""


class HloLayer(NamedTuple):
    """The instructions of a layer, summed up."""

    path: str
    flops: int
    """As XLA counts: the body of a loop once."""
    transcendentals: int
    bytes: int
    executed: int
    """FLOPs with every iteration."""
    inferred: float
    """The share of its FLOPs whose layer is not told by their own name."""


class Hlo(NamedTuple):
    """What `hlo` found."""

    name: str
    rows: tuple[HloRow, ...]

    @property
    def flops(self) -> int:
        """As XLA counts them: the body of a loop once."""
        return sum(r.flops for r in self.rows)

    @property
    def executed(self) -> int:
        """FLOPs with every iteration of every loop whose number is known."""
        return sum(r.flops * r.times for r in self.rows)

    @property
    def transcendentals(self) -> int:
        """As XLA counts them."""
        return sum(r.transcendentals for r in self.rows)

    @property
    def attributed(self) -> float:
        """The share of FLOPs whose layer is known."""
        known = sum(r.flops for r in self.rows if r.provenance != "none")
        return known / self.flops if self.flops else 1.0

    def by_provenance(self) -> dict[str, int]:
        """FLOPs by how their layer is known."""
        return {p: sum(r.flops for r in self.rows if r.provenance == p) for p in PROVENANCE}

    def by_layer(self, depth: int | None = None) -> dict[str, HloLayer]:
        """The layers, in the order in which they first appear."""
        groups: dict[str, list[HloRow]] = {}
        for row in self.rows:
            groups.setdefault(cut(row.path, depth), []).append(row)
        return {path: _layer(path, rows) for path, rows in groups.items()}


def _layer(path: str, rows: Sequence[HloRow]) -> HloLayer:
    flops = sum(r.flops for r in rows)
    guessed = sum(r.flops for r in rows if r.provenance != "own name")
    return HloLayer(
        path,
        flops,
        sum(r.transcendentals for r in rows),
        sum(r.bytes for r in rows),
        sum(r.flops * r.times for r in rows),
        guessed / flops if flops else 0.0,
    )


def hlo(text: str) -> Hlo:
    """What each instruction of a saved HLO text costs, and its layer.

    Args:
        text: what `jax.jit(f).lower(x).compile().as_text()` prints, or what `XLA_FLAGS=--xla_dump_to=FOLDER` saves.

    Returns:
        An Hlo: rows, `.flops`, `.by_layer(depth)`, `.by_provenance()`, `.attributed`.

    Raises:
        ValueError: text that is not a module of HLO, with the line.

    Example:
        >>> found = hlo('''HloModule f
        ... ENTRY main {
        ...   x = f32[2,3] parameter(0)
        ...   w = f32[3,4] parameter(1)
        ...   y = f32[2,4] dot(x, w), lhs_contracting_dims={1}, metadata={op_name="jit(f)/fc/dot"}
        ...   ROOT z = f32[2,4] copy(y)
        ... }''')
        >>> found.flops, list(found.by_layer())
        (48, ['fc'])
    """
    return read(parse(text))


def read(module: Module, *, outputs: Sequence[str] = ()) -> Hlo:
    """The rows of a module.

    Args:
        module: the program.
        outputs: layers whose parameters' gradients the results are, by number; empty where a result is none.
    """
    reader = _Reader(module, outputs)
    return Hlo(module.name, tuple(reader.rows(module.entry, "", None, 1, inside=False)))


class _Reader:
    def __init__(self, module: Module, outputs: Sequence[str]):
        self.module, self.outputs = module, outputs
        self.paths = {label_of(i.op_name).path for c in module.computations.values() for i in c.instructions.values()
                      if i.op_name and i.opcode != "parameter"} - {""}  # fmt: skip

    def rows(
        self, computation: Computation, prefix: str, around: Label | None, times: int, *, inside: bool
    ) -> Iterator[HloRow]:
        """The rows of a computation; `around` is the label of what calls it, `inside` whether that is a fusion."""
        users = _users(computation)
        for i in computation.instructions.values():
            label, provenance = self.label(i, computation, users, prefix, around, inside)
            if i.opcode not in ALIASES and not (inside and i.opcode == "fusion"):
                yield self.row(i, computation, prefix, label, provenance, times, inside)
            if i.opcode in NESTED:
                yield from self.nested(i, computation, prefix, label, times, inside)

    def nested(
        self, i: Instruction, computation: Computation, prefix: str, label: Label | None, times: int, inside: bool
    ) -> Iterator[HloRow]:
        name = _joined(prefix, i.op_name)
        fused = inside or i.opcode == "fusion"
        blocks = [self.module.computations[c] for c in i.called]
        if i.opcode == "while":
            times *= i.trips or _counted(i, computation, self.module) or 1
        found = [list(self.rows(block, name, label, times, inside=fused)) for block in blocks]
        if i.opcode == "conditional" and found:  # XLA takes the most expensive
            found = [max(found, key=lambda rows: sum(r.flops for r in rows))]
        for rows in found:
            yield from rows

    def row(
        self,
        i: Instruction,
        computation: Computation,
        prefix: str,
        label: Label | None,
        provenance: str,
        times: int,
        inside: bool,
    ) -> HloRow:
        cost = run(i, computation, self.module) if i.opcode not in NESTED else Run()
        moved = 0 if inside else i.bytes + sum(o.bytes for o in computation.operands(i))
        groups = [int(i.attribute(f"{kind}_group_count") or 1) for kind in ("feature", "batch")]
        return HloRow(
            name=i.name,
            opcode=i.opcode,
            shape=" ".join(map(str, i.shapes)),
            path=label.path if label else "",
            phase=label.phase if label else "",
            provenance=provenance,
            flops=cost.flops,
            transcendentals=cost.transcendentals,
            bytes=moved,
            times=times,
            target=i.attribute("custom_call_target").strip('"') if i.opcode == "custom-call" else "",
            groups=max(groups) if i.opcode == "convolution" else 1,
            primitive=primitive_of(_joined(prefix, i.op_name)) if i.op_name else "",
        )

    def label(
        self,
        i: Instruction,
        computation: Computation,
        users: dict[str, list[Instruction]],
        prefix: str,
        around: Label | None,
        inside: bool,
    ) -> tuple[Label | None, str]:
        """The layer of an instruction, and how it is known."""
        if i.op_name and i.opcode != "parameter":
            return label_of(_joined(prefix, i.op_name)), "own name"
        within = self.within(i, prefix)
        if within and within.path:
            return within, "fusion"

        def named(other: Instruction) -> Label | None:
            return self.named(other, computation, prefix)

        if found := _nearest(i, lambda o: users.get(o.name, []), named):
            return found, "fusion" if inside else "users"
        if not inside and (path := self.output(i, computation, users)):
            return Label(path, "backward"), "users"
        if inside and around:
            return around, "fusion"
        if found := _nearest(i, computation.operands, named):
            return found, "fusion" if inside else "operands"
        if around or within:
            return around or within, "fusion"
        return None, "none"

    def within(self, i: Instruction, prefix: str) -> Label | None:
        """What the computations of an instruction without a name say: the last of their names, best one with a path."""
        found = None
        for name in i.called if i.opcode in NESTED else ():
            for inner in reversed(self.module.computations[name].instructions.values()):
                if inner.op_name and inner.opcode != "parameter":
                    label = label_of(_joined(prefix, inner.op_name))
                    if label.path:
                        return label
                    found = found or label
        return found

    def named(self, i: Instruction, computation: Computation, prefix: str) -> Label | None:
        """The label of a neighbour, if it tells a layer; where it has none, the parameter that it updates does."""
        if i.opcode == "parameter":
            return None
        label = label_of(_joined(prefix, i.op_name)) if i.op_name else self.within(i, prefix)
        if label and label.path:
            return label
        for operand in computation.operands(i) if label else ():
            if operand.opcode == "parameter" and (path := self.known(parameter_path(operand.op_name))):
                return Label(path, "backward")
        return None

    def known(self, path: str) -> str:
        """The layer that a path of parameters means: without what the tree has around the network."""
        parts = path.split(".")
        for start in range(len(parts)):
            rest = ".".join(parts[start:])
            found = [p for p in self.paths if p == rest or p.endswith(f".{rest}")]
            if rest and found:
                return min(found, key=len)
        return ""

    def output(self, i: Instruction, computation: Computation, users: dict[str, list[Instruction]]) -> str:
        """The layer of the parameters whose gradient this makes, if it becomes a result of the program."""
        if computation is not self.module.entry or not self.outputs:
            return ""
        root, todo, seen = computation.root, deque([i]), {i.name}
        while todo:
            at = todo.popleft()
            for user in users.get(at.name, []):
                if user is root and user.opcode == "tuple":
                    number = user.operands.index(at.name)
                    return self.known(self.outputs[number]) if number < len(self.outputs) else ""
                if user.name not in seen and not user.op_name:
                    seen.add(user.name)
                    todo.append(user)
        return ""


def _counted(loop: Instruction, computation: Computation, module: Module) -> int | None:
    """The iterations of a loop from a constant to a constant, before XLA writes them down; None for any other."""
    body, test = (module.computations[_one(loop, name)] for name in ("body", "condition"))
    compare, state = test.root, computation.instructions[loop.operands[0]]
    if compare.opcode != "compare" or compare.attribute("direction") != "LT" or state.opcode != "tuple":
        return None
    counter, limit = test.operands(compare)
    if counter.opcode != "get-tuple-element" or limit.opcode != "constant" or body.root.opcode != "tuple":
        return None
    at = int(counter.attribute("index"))
    first, step = computation.instructions[state.operands[at]], body.instructions[body.root.operands[at]]
    by = [o.literal for o in body.operands(step) if o.opcode == "constant"] if step.opcode == "add" else []
    numbers = [first.literal if first.opcode == "constant" else "", limit.literal, *by]
    if len(numbers) != 3 or not all(n.lstrip("-").isdigit() for n in numbers):
        return None
    start, end, stride = map(int, numbers)
    return max(0, -(-(end - start) // stride)) if stride > 0 else None


def _one(i: Instruction, name: str) -> str:
    return i.attribute(name).lstrip("%")


def _joined(prefix: str, op_name: str) -> str:
    """A name in a called computation continues that of the call, unless it is whole."""
    if not prefix or op_name.startswith(("jit(", "pjit(", "pmap(")):
        return op_name or prefix
    return f"{prefix}/{op_name}" if op_name else prefix


def _users(computation: Computation) -> dict[str, list[Instruction]]:
    users: dict[str, list[Instruction]] = {}
    for i in computation.instructions.values():
        for name in i.operands:
            users.setdefault(name, []).append(i)
    return users


def _nearest(
    start: Instruction,
    neighbours: Callable[[Instruction], Iterable[Instruction]],
    named: Callable[[Instruction], Label | None],
) -> Label | None:
    """The label of the nearest instruction that tells a layer, through those that tell nothing."""
    todo, seen = deque(neighbours(start)), {start.name}
    while todo:
        i = todo.popleft()
        if i.name in seen or i.opcode == "parameter":
            continue
        seen.add(i.name)
        if found := named(i):
            return found
        todo.extend(neighbours(i))
    return None
