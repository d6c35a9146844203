"""The count itself: every op's work, times how often it runs, as rows."""

from collections.abc import Mapping
from typing import NamedTuple

from jconv.cost.phases import path_of
from jconv.cost.rules import Rule, Work
from jconv.cost.trace import Block, Op, Value, walk
from jconv.cost.types import Cost, Coverage, Row, Unknown

__all__ = ["Count", "count", "works_of"]

Group = tuple[str, str]
"""A layer and a phase: what is taken to be fused."""


class Count(NamedTuple):
    """What `count` found."""

    rows: tuple[Row, ...]
    slack: Cost
    coverage: Coverage


def works_of(block: Block, rules: Mapping[str, Rule]) -> dict[Op, Work | None]:
    """The work of one run of each op; None where there is no rule."""
    return {op: rules[op.primitive](op) if op.primitive in rules else None for op in walk(block) if not op.kind}


def count(block: Block, works: Mapping[Op, Work | None], phases: Mapping[Op, str]) -> Count:
    """The rows of a program, in order.

    Args:
        block: the program.
        works: of `works_of`.
        phases: of `phases_of`.
    """
    counter = _Counter(works, phases, _Traffic(block, works, phases))
    rows, slack = counter.block(block, 1)
    n = len(works)
    unknown, loops, branches = (tuple(found) for found in (counter.unknown, counter.loops, counter.branches))
    return Count(tuple(rows), slack, Coverage(n, sum(w is not None for w in works.values()), unknown, loops, branches))


class _Counter:
    def __init__(self, works: Mapping[Op, Work | None], phases: Mapping[Op, str], traffic: "_Traffic"):
        self.works, self.phases, self.traffic = works, phases, traffic
        self.unknown: list[Unknown] = []
        self.loops: list[Unknown] = []
        self.branches: list[Unknown] = []

    def block(self, block: Block, times: int, *, inside: bool = False) -> tuple[list[Row], Cost]:
        """Rows, and how much the cheapest branches would save; `inside` a kernel, bytes are its own affair."""
        rows: list[Row] = []
        slack = Cost()
        for op in block.ops:
            if op.kind:
                more, less = self.structured(op, times, inside)
                rows += more
                slack += less
            else:
                rows.append(self.row(op, times, inside))
        return rows, slack

    def row(self, op: Op, times: int, inside: bool) -> Row:
        work = self.works[op]
        if work is None:
            why = "no rule; add one with @cost.register"
            self.unknown.append(Unknown(op.primitive, path_of(op.stack), times, op.where, why))
            work = Work()
        valid = work.macs if work.macs_valid is None else work.macs_valid
        read = sum(v.bytes for v in op.inputs) if work.read is None else work.read
        written = sum(v.bytes for v in op.outputs) if work.written is None else work.written
        adjoint = work.macs_adjoint if self.phases[op] == "backward input" else None
        cost = Cost(
            work.macs if adjoint is None else adjoint,
            valid,
            2 * valid + work.flops,
            work.transcendentals,
            *((0, 0, 0) if inside else (read, written, self.traffic.moved(op, work))),
        )
        return self.as_row(op, times, cost, work)

    def as_row(self, op: Op, times: int, cost: Cost, work: Work) -> Row:
        inputs, outputs = (tuple(map(str, values)) for values in (op.inputs, op.outputs))
        path, phase = path_of(op.stack), self.phases[op]
        return Row(path, phase, op.primitive, times, inputs, outputs, cost.times(times), work.window)

    def structured(self, op: Op, times: int, inside: bool) -> tuple[list[Row], Cost]:
        if op.kind == "branch":
            return self.branch(op, times, inside)
        if op.kind == "kernel":
            read, written = (sum(v.bytes for v in values) for values in (op.inputs, op.outputs))
            own = Cost(bytes_read=read, bytes_written=written, bytes_moved=read + written)
            rows, slack = self.block(op.blocks[0], times * (op.times or 1), inside=True)
            return [self.as_row(op, times, own, Work()), *rows], slack
        if op.kind == "while":
            n = 1 if op.times is None else op.times
            if op.times is None:
                why = "unknown number of iterations: one is counted; say how many with trips="
                self.loops.append(Unknown(op.primitive, path_of(op.stack), times, op.where, why))
            test, less = self.block(op.blocks[0], times * (n + (op.times is not None)), inside=inside)
            rows, slack = self.block(op.blocks[1], times * n, inside=inside)
            return [*test, *rows], slack + less
        return self.block(op.blocks[0], times * (op.times or 0), inside=inside)

    def branch(self, op: Op, times: int, inside: bool) -> tuple[list[Row], Cost]:
        """The rows of the branch with the most FLOPs."""
        found = [self.block(b, times, inside=inside) for b in op.blocks]
        totals = [sum((row.cost for row in rows), Cost()) for rows, _ in found]
        most = max(range(len(found)), key=lambda i: _weight(totals[i]))
        least = min((total - slack for total, (_, slack) in zip(totals, found, strict=True)), key=_weight)
        if len(found) > 1:
            flops = " | ".join(f"{total.flops:,}" for total in totals)
            self.branches.append(Unknown(op.primitive, path_of(op.stack), times, op.where, f"FLOPs {flops}"))
        return found[most][0], totals[most] - least


def _weight(cost: Cost) -> tuple[int, int]:
    return cost.flops + cost.transcendentals, cost.bytes_moved


class _Traffic:
    """Bytes that cross the border of a fused group: read once by each that needs them, written once if others do."""

    def __init__(self, block: Block, works: Mapping[Op, Work | None], phases: Mapping[Op, str]):
        self.works, self.phases = works, phases
        self.seen: set[tuple[Value, Group]] = set()
        self.users: dict[Value, set[Group | None]] = {}
        for op in walk(block):
            for b in op.blocks:
                self.leaves(b)
            if not op.kind and not self.free(op):
                for v in op.inputs:
                    self.users.setdefault(self.root(v), set()).add(self.group(op))
            elif op.kind:
                for v in op.inputs:
                    self.users.setdefault(self.root(v), set()).add(None)
        self.leaves(block)

    def leaves(self, block: Block) -> None:
        for v in block.outputs:
            self.users.setdefault(self.root(v), set()).add(None)

    def group(self, op: Op) -> Group:
        return path_of(op.stack), self.phases[op]

    def free(self, op: Op) -> bool:
        work = self.works.get(op)
        return work is not None and work.read == work.written == 0 and len(op.inputs) == 1

    def root(self, v: Value) -> Value:
        """The array whose memory this is."""
        while v.maker is not None and not v.maker.kind and self.free(v.maker):
            v = v.maker.inputs[0]
        return v

    def moved(self, op: Op, work: Work) -> int:
        """What this op adds to the traffic of its group."""
        if self.free(op):
            return 0
        group, read = self.group(op), 0
        for v in map(self.root, op.inputs):
            made_here = v.maker is not None and not v.maker.kind and self.group(v.maker) == group
            if not made_here and (v, group) not in self.seen:
                self.seen.add((v, group))
                read += v.bytes
        read = read if work.read is None else min(read, work.read)
        written = sum(v.bytes for v in op.outputs if self.users.get(v, set()) - {group})
        return read + (written if work.written is None else min(written, work.written))
