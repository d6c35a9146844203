"""HLO as text, `compiled.as_text()`: read into computations of instructions, with no entry point of jaxlib."""

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping

__all__ = ["Array", "Computation", "Instruction", "Module", "parse"]

HEAD = re.compile(r"(ENTRY\s+)?%?([\w.\-]+)\s*(?:\(.*\)\s*->.*)?\{\s*(?:/\*.*\*/)?")
LINE = re.compile(r"\s+(ROOT\s+)?%?([\w.\-]+)\s*=\s*(.*)")
SHAPE = re.compile(r"([a-z]\w*)\[([\d,<= ]*)\]")
OPCODE = re.compile(r"\s*([a-z][\w\-]*)\(")
CALLED = re.compile(
    r"\b(?:calls|to_apply|body|condition|select|scatter|true_computation|false_computation)=%?([\w.\-]+)"
)
BRANCHES = re.compile(r"\b(?:branch_computations|called_computations)=\{([^}]*)\}")
NAME = re.compile(r'op_name="((?:[^"\\]|\\.)*)"')
TRIPS = re.compile(r'known_trip_count"?\s*[:=]\s*\{\s*"?n"?\s*[:=]\s*"?(\d+)')
BITS = {"pred": 8, "token": 0, "opaque": 0}


class Array(tuple[int, ...]):
    """A shape with a dtype; its dimensions are its elements."""

    dtype: str

    def __new__(cls, dtype: str, dims: tuple[int, ...]) -> "Array":
        made = super().__new__(cls, dims)
        made.dtype = dtype
        return made

    @property
    def size(self) -> int:
        """How many elements."""
        return math.prod(self)

    @property
    def bytes(self) -> int:
        """How many bytes; tokens have none."""
        return (self.size * _bits(self.dtype) + 7) // 8

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self))}]"


@dataclasses.dataclass(eq=False, slots=True)
class Instruction:
    """One line of HLO."""

    name: str
    opcode: str
    shapes: tuple[Array, ...]
    """Of its result; several if it is a tuple."""
    operands: tuple[str, ...]
    rest: str
    """What follows the operands: attributes and metadata."""
    root: bool = False
    literal: str = ""
    """What a constant or a parameter has between its parentheses."""

    @property
    def size(self) -> int:
        """Elements of the first result."""
        return self.shapes[0].size if self.shapes else 0

    @property
    def bytes(self) -> int:
        """Bytes of all results."""
        return sum(s.bytes for s in self.shapes)

    @property
    def op_name(self) -> str:
        """What JAX calls it: `jit(f)/jvp(layer1)/0/conv1/conv_general_dilated`."""
        found = NAME.search(self.rest)
        return re.sub(r"\\(.)", r"\1", found[1]) if found else ""

    @property
    def called(self) -> tuple[str, ...]:
        """The computations that it runs, in the order in which they are written."""
        names = [(m.start(), [m[1]]) for m in CALLED.finditer(self.rest)]
        names += [(m.start(), re.findall(r"[\w.\-]+", m[1])) for m in BRANCHES.finditer(self.rest)]
        return tuple(name for _, group in sorted(names) for name in group)

    @property
    def trips(self) -> int | None:
        """Iterations of a while-loop, where XLA knows them."""
        found = TRIPS.search(self.rest)
        return int(found[1]) if found else None

    def attribute(self, name: str) -> str:
        """The text of an attribute between braces, `dims` of `dimensions={dims}`, or its one word; empty without it."""
        found = re.search(rf"\b{name}=(?:\{{([^{{}}]*)\}}|([^\s,]+))", self.rest)
        return (found[1] if found[1] is not None else found[2]) if found else ""

    def numbers(self, name: str) -> tuple[int, ...]:
        """An attribute of whole numbers."""
        return tuple(map(int, re.findall(r"-?\d+", self.attribute(name))))


@dataclasses.dataclass(eq=False, slots=True)
class Computation:
    """Instructions in order; operands come before what uses them."""

    name: str
    instructions: dict[str, Instruction]

    @property
    def root(self) -> Instruction:
        """Its result."""
        last = list(self.instructions.values())
        return next((i for i in last if i.root), last[-1])

    def operands(self, instruction: Instruction) -> list[Instruction]:
        """The instructions that make the operands."""
        return [self.instructions[name] for name in instruction.operands if name in self.instructions]


@dataclasses.dataclass(eq=False, slots=True)
class Module:
    """A program."""

    name: str
    computations: Mapping[str, Computation]
    entry: Computation


def parse(text: str) -> Module:
    """Reads a module.

    Args:
        text: what `jax.jit(f).lower(x).compile().as_text()` prints, or `--xla_dump_to` writes.

    Raises:
        ValueError: text that is not a module of HLO, with the line.
    """
    lines = text.splitlines()
    start = next((n for n, line in enumerate(lines) if line.startswith("HloModule")), None)
    if start is None:
        raise ValueError(
            "hlo: expected text that has a line `HloModule name, ...`; "
            "jax.jit(f).lower(x).compile().as_text() prints it, and so does XLA_FLAGS=--xla_dump_to=FOLDER"
        )
    computations: dict[str, Computation] = {}
    entry, open_ = None, None
    for number, line in enumerate(lines[start + 1 :], start + 2):
        if open_ is None:
            head = HEAD.fullmatch(line.rstrip()) if line.rstrip().endswith("{") else None
            if head is not None:
                open_ = computations[head[2]] = Computation(head[2], {})
                entry = open_ if head[1] else entry
        elif line.startswith("}"):
            open_ = None
        elif line.strip():
            read = _instruction(line, number)
            open_.instructions[read.name] = read
    if open_ is not None:
        raise ValueError(f"hlo: computation {open_.name} is not closed: expected a line `}}`, got the end of the text")
    if entry is None or not entry.instructions:
        raise ValueError("hlo: expected a computation that begins with ENTRY, got none; is the text cut off?")
    module = Module(lines[start].split()[1].rstrip(","), computations, entry)
    for missing in _missing(module):
        raise ValueError(f"hlo: {missing}; is the text cut off?")
    return module


def _missing(module: Module) -> Iterator[str]:
    for computation in module.computations.values():
        for i in computation.instructions.values():
            for name in i.called:
                if name not in module.computations:
                    yield f"{i.name} calls the computation {name}, which is not there"
            for name in i.operands:
                if name not in computation.instructions:
                    yield f"{i.name} takes {name}, which computation {computation.name} does not have"


def _instruction(line: str, number: int) -> Instruction:
    found = LINE.fullmatch(line.rstrip())
    if found is None:
        raise ValueError(f"hlo: line {number}: expected `name = shape opcode(operands)`, got {line.strip()[:80]!r}")
    text = re.sub(r"/\*.*?\*/", "", found[3])
    end = _close(text, 0) + 1 if text.startswith("(") else text.find(" ")
    opcode = OPCODE.match(text, end) if end > 0 else None
    if opcode is None or (stop := _close(text, opcode.end() - 1)) < 0:
        raise ValueError(f"hlo: line {number}: expected `name = shape opcode(operands)`, got {line.strip()[:80]!r}")
    inside = text[opcode.end() : stop]
    literal = opcode[1] in ("constant", "parameter", "iota")
    operands = () if literal else tuple(part.split()[-1].lstrip("%") for part in _parts(inside) if part.strip())
    shapes = tuple(_array(*m.groups()) for m in SHAPE.finditer(text[:end]))
    return Instruction(
        found[2], opcode[1], shapes, operands, text[stop + 1 :], bool(found[1]), inside if literal else ""
    )


def _array(dtype: str, dims: str) -> Array:
    return Array(dtype, tuple(int(n) for n in re.findall(r"\d+", dims)))


def _close(text: str, start: int) -> int:
    """Where the parenthesis that opens at `start` closes; -1 if it does not."""
    depth = 0
    for at in range(start, len(text)):
        depth += (text[at] == "(") - (text[at] == ")")
        if depth == 0:
            return at
    return -1


def _parts(text: str) -> Iterator[str]:
    """The operands: commas inside brackets separate nothing."""
    depth, start = 0, 0
    for at, char in enumerate(text):
        depth += (char in "([{") - (char in ")]}")
        if char == "," and depth == 0:
            yield text[start:at]
            start = at + 1
    yield text[start:]


def _bits(dtype: str) -> int:
    """Of an element: the first number in the name, as in bf16, s4, f8e4m3fn, c64."""
    if dtype in BITS:
        return BITS[dtype]
    digits = re.search(r"\d+", dtype)
    return int(digits[0]) if digits else 0
