"""Receptive fields through a program, op by op: which input elements each array sees, along each axis of the input.

For an array and an axis of the input, element i of some dimension sees the `size` input elements from
`start + i * jump` on. Dumoulin & Visin 2016, arXiv:1603.07285, and Araujo, Norris & Sim 2019, "Computing Receptive
Fields of Convolutional Neural Networks", Distill, section "Problem statement", have the recurrence for chains; here it
is for any program.
"""

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from fractions import Fraction
from typing import NamedTuple

from jconv.cost.rules import elementwise
from jconv.cost.rules.base import names
from jconv.cost.trace import Block, Op, Value, of_scan

__all__ = ["Fields", "Span", "propagate"]


class Span(NamedTuple):
    """What an array sees along one axis of the input; without a dimension, every element sees the same."""

    dim: int | None
    start: Fraction
    size: Fraction
    jump: Fraction

    def fixed(self, shape: Sequence[int]) -> "Span":
        """What all elements of the array see together."""
        if self.dim is None:
            return self
        reach = (shape[self.dim] - 1) * self.jump
        return Span(None, min(self.start, self.start + reach), self.size + abs(reach), Fraction(0))


Seen = dict[int, Span]
"""By axis of the input; an axis that is missing is not seen."""

LIMIT = 50_000
"""Ops at most in all iterations of a loop; beyond it an output of the loop sees everything."""


class Fields(NamedTuple):
    """What `propagate` found."""

    seen: dict[Value, Seen]
    spatial: tuple[int, ...]
    """Axes of the input along which some window slid."""


def propagate(block: Block, x: Value, *, statistics: bool = False, ops: Collection[Op] | None = None) -> Fields:
    """The receptive fields of every array of the program.

    Args:
        block: the program.
        x: the input, one of the block's.
        statistics: whether what is reduced over a whole axis and then meets a local array again counts: BatchNorm's
            moments, squeeze-and-excitation. If it does, such a network sees everything from there on.
        ops: the ops to go through; None is all.
    """
    walker = _Walker(x, statistics, ops)
    walker.block(block)
    return Fields(walker.seen, tuple(sorted(walker.spatial)))


class _Walker:
    def __init__(self, x: Value, statistics: bool, ops: Collection[Op] | None):
        one, zero = Fraction(1), Fraction(0)
        self.x, self.statistics, self.ops = x, statistics, ops
        self.seen: dict[Value, Seen] = {x: {d: Span(d, zero, one, one) for d in range(len(x.shape))}}
        self.spatial: set[int] = set()

    def block(self, block: Block) -> None:
        for op in block.ops:
            if self.ops is not None and op not in self.ops:
                continue
            if op.kind:
                self.structured(op)
            elif any(self.seen.get(v) for v in op.inputs):
                rule = RULES.get(op.primitive, _everything)
                for out, seen in zip(op.outputs, rule(self, op), strict=False):
                    self.seen[out] = seen

    def of(self, value: Value) -> Seen:
        return self.seen.get(value, {})

    def join(self, shape: Sequence[int], many: Iterable[Seen]) -> Seen:
        """What an array of this shape sees that is made, element by element, of arrays that see this."""
        joined: Seen = {}
        for seen in many:
            for axis, span in seen.items():
                joined[axis] = self.union(joined[axis], span, shape) if axis in joined else span
        return joined

    def union(self, a: Span, b: Span, shape: Sequence[int]) -> Span:
        if a == b:
            return a
        if (a.dim, a.jump) != (b.dim, b.jump):
            if not self.statistics and (a.dim is None) != (b.dim is None):
                return b if a.dim is None else a
            a, b = a.fixed(shape), b.fixed(shape)
        start = min(a.start, b.start)
        return a._replace(start=start, size=max(a.start + a.size, b.start + b.size) - start)

    def everything(self, op: Op) -> Seen:
        return _fixed(self.join((), (_fixed(self.of(v), v.shape) for v in op.inputs)), ())

    def slide(self, span: Span, kernel: int, stride: int, dilation: int, lo: int, hole: int = 1) -> Span:
        step = span.jump / hole
        reach = step * (kernel - 1) * dilation
        return span._replace(
            start=span.start - lo * step + min(0, reach), size=span.size + abs(reach), jump=step * stride
        )

    # Loops and branches

    def structured(self, op: Op) -> None:
        if op.kind == "branch":
            for inner in op.blocks:
                self.block(inner)
            for i, out in enumerate(op.outputs):
                self.seen[out] = self.join(out.shape, (self.of(b.outputs[i]) for b in op.blocks))
        elif op.kind == "mesh":
            self.hand_on(op.links[: len(op.inputs)])
            self.block(op.blocks[0])
            self.hand_on(op.links[len(op.inputs) :])
        elif op.primitive == "scan" and len(op.blocks[0].ops) * (op.times or 0) <= LIMIT:
            self.scan(op)
        else:
            seen = self.everything(op)
            for v in (*op.outputs, *(v for b in op.blocks for v in b.inputs)):
                self.seen.setdefault(v, seen)

    def hand_on(self, links: Iterable[tuple[Value, Value]]) -> None:
        for v, out in links:
            if v in self.seen:
                self.seen[out] = self.seen[v]

    def scan(self, op: Op) -> None:
        fixed, carried = of_scan(op)
        body = op.blocks[0]
        for v, inside in zip(op.inputs[fixed + carried :], body.inputs[fixed + carried :], strict=True):
            if v in self.seen:
                self.seen[inside] = _shifted(_fixed_dim(self.of(v), 0, v.shape), -1)
        state = [self.of(v) for v in op.inputs[fixed : fixed + carried]]
        for _ in range(op.times or 0):
            for v, seen in zip(body.inputs[fixed : fixed + carried], state, strict=True):
                self.seen[v] = seen
            self.block(body)
            state = [self.of(v) for v in body.outputs[:carried]]
        for out, seen in zip(op.outputs, state, strict=False):
            self.seen[out] = seen
        for out, v in zip(op.outputs[carried:], body.outputs[carried:], strict=True):
            self.seen[out] = _shifted(self.of(v), 1)


def _fixed(seen: Seen, shape: Sequence[int]) -> Seen:
    return {axis: span.fixed(shape) for axis, span in seen.items()}


def _fixed_dim(seen: Seen, dim: int, shape: Sequence[int]) -> Seen:
    return {axis: span.fixed(shape) if span.dim == dim else span for axis, span in seen.items()}


def _shifted(seen: Seen, by: int) -> Seen:
    return {a: s if s.dim is None else s._replace(dim=s.dim + by) for a, s in seen.items()}


def _moved(seen: Seen, shape: Sequence[int], to: Callable[[int], int | None]) -> Seen:
    """With dimension d of the array at `to(d)`; None is where it has gone."""

    def move(span: Span) -> Span:
        if span.dim is None:
            return span
        dim = to(span.dim)
        return span.fixed(shape) if dim is None else span._replace(dim=dim)

    return {axis: move(span) for axis, span in seen.items()}


# Rules: what the outputs of an op see

Rule = Callable[[_Walker, Op], Sequence[Seen]]


def _everything(w: _Walker, op: Op) -> Sequence[Seen]:
    return [w.everything(op)] * len(op.outputs)


def _elementwise(w: _Walker, op: Op) -> Sequence[Seen]:
    return [w.join(op.outputs[0].shape, map(w.of, op.inputs))] * len(op.outputs)


def _conv(w: _Walker, op: Op) -> Sequence[Seen]:
    x, kernel = op.inputs
    p = op.params
    lhs, rhs, out = p["dimension_numbers"]
    place = {lhs[0]: out[0], **dict(zip(lhs[2:], out[2:], strict=True))}
    if p["feature_group_count"] == x.shape[lhs[1]] == op.outputs[0].shape[out[1]]:  # depthwise
        place[lhs[1]] = out[1]

    def slid(axis: int, span: Span) -> Span:
        if span.dim not in lhs[2:]:
            return span
        i = lhs[2:].index(span.dim)
        w.spatial.add(axis)
        stride, dilation, hole = (p[name][i] for name in ("window_strides", "rhs_dilation", "lhs_dilation"))
        return w.slide(span, kernel.shape[rhs[2 + i]], stride, dilation, p["padding"][i][0], hole)

    seen = {axis: slid(axis, span) for axis, span in w.of(x).items()}
    return [w.join((), [_moved(seen, x.shape, place.get), _fixed(w.of(kernel), kernel.shape)])]


def _jconv(w: _Walker, op: Op) -> Sequence[Seen]:
    """jconv's own convolution, or its transpose, where the input is y with holes; a kernel gradient sees everything."""
    slot, form = op.params["slot"], op.params["form"]
    if slot == "kernel":
        return _everything(w, op)
    image, kernel = op.inputs if slot == "y" else reversed(op.inputs)
    last = len(form.sizes) + 1
    place = {d: d for d in range(last)}
    if form.groups == image.shape[-1] == op.outputs[0].shape[-1]:  # depthwise
        place[last] = last

    def slid(axis: int, span: Span) -> Span:
        if span.dim is None or not 0 < span.dim < last:
            return span
        w.spatial.add(axis)
        a = form.window[span.dim - 1]
        if slot == "y":
            return w.slide(span, a.kernel, a.stride, a.dilation, a.lo)
        return w.slide(span, a.kernel, 1, a.dilation, (a.kernel - 1) * a.dilation - a.lo, a.stride)

    seen = {axis: slid(axis, span) for axis, span in w.of(image).items()}
    return [w.join((), [_moved(seen, image.shape, place.get), _fixed(w.of(kernel), kernel.shape)])]


def _window(w: _Walker, op: Op) -> Sequence[Seen]:
    p, x = op.params, op.inputs[0]
    n = len(x.shape)
    dilation, hole = (p.get(k) or (1,) * n for k in ("window_dilation", "base_dilation"))

    def slid(axis: int, span: Span) -> Span:
        d = span.dim
        if d is None:
            return span
        kernel, stride = p["window_dimensions"][d], p["window_strides"][d]
        if kernel > 1 or stride > 1:
            w.spatial.add(axis)
        return w.slide(span, kernel, stride, dilation[d], p["padding"][d][0], hole[d])

    return [{axis: slid(axis, span) for axis, span in w.of(x).items()}] * len(op.outputs)


def _slice(w: _Walker, op: Op) -> Sequence[Seen]:
    starts = op.params["start_indices"]
    strides = op.params["strides"] or (1,) * len(starts)

    def cut(span: Span) -> Span:
        if span.dim is None:
            return span
        return w.slide(span, 1, strides[span.dim], 1, -starts[span.dim])

    seen = w.of(op.inputs[0])
    w.spatial.update(axis for axis, span in seen.items() if span.dim is not None and strides[span.dim] > 1)
    return [{axis: cut(span) for axis, span in seen.items()}]


def _split(w: _Walker, op: Op) -> Sequence[Seen]:
    dim, offset, made = op.params["axis"], 0, []
    for n in op.params["sizes"]:
        seen = w.of(op.inputs[0])
        made.append({a: w.slide(s, 1, 1, 1, -offset) if s.dim == dim else s for a, s in seen.items()})
        offset += n
    return made


def _pad(w: _Walker, op: Op) -> Sequence[Seen]:
    config = op.params["padding_config"]
    seen = w.of(op.inputs[0])
    return [{a: s if s.dim is None else w.slide(s, 1, 1, 1, config[s.dim][0], config[s.dim][2] + 1)
             for a, s in seen.items()}]  # fmt: skip


def _rev(w: _Walker, op: Op) -> Sequence[Seen]:
    shape, dims = op.inputs[0].shape, op.params["dimensions"]

    def turn(span: Span) -> Span:
        if span.dim is None or span.dim not in dims:
            return span
        return span._replace(start=span.start + (shape[span.dim] - 1) * span.jump, jump=-span.jump)

    return [{axis: turn(span) for axis, span in w.of(op.inputs[0]).items()}]


def _concatenate(w: _Walker, op: Op) -> Sequence[Seen]:
    """Along the dimension itself the longest piece speaks for all: a wrapped or reflected border is padding."""
    dim, shape = op.params["dimension"], op.outputs[0].shape
    sizes = [v.shape[dim] for v in op.inputs]
    offsets = [0, *itertools.accumulate(sizes)]
    longest = max(range(len(sizes)), key=sizes.__getitem__)
    border = 2 * sizes[longest] > shape[dim] and not w.statistics
    pieces = []
    for i, (v, offset) in enumerate(zip(op.inputs, offsets, strict=False)):
        seen = w.of(v)
        if border and i != longest:
            seen = {a: s for a, s in seen.items() if s.dim != dim}
        pieces.append({a: w.slide(s, 1, 1, 1, offset) if s.dim == dim else s for a, s in seen.items()})
    return [w.join(shape, pieces)]


def _broadcast(w: _Walker, op: Op) -> Sequence[Seen]:
    x, out, dims = op.inputs[0], op.outputs[0], op.params["broadcast_dimensions"]
    return [_moved(w.of(x), x.shape, lambda d: dims[d] if x.shape[d] == out.shape[dims[d]] else None)]


def _transpose(w: _Walker, op: Op) -> Sequence[Seen]:
    return [_moved(w.of(op.inputs[0]), op.inputs[0].shape, op.params["permutation"].index)]


def _reduce(w: _Walker, op: Op) -> Sequence[Seen]:
    gone = op.params.get("axes", op.params.get("dimensions", ()))
    kept = [d for d in range(len(op.inputs[0].shape)) if d not in gone]
    seen = w.join((), (w.of(v) for v in op.inputs))
    return [_moved(seen, op.inputs[0].shape, lambda d: kept.index(d) if d in kept else None)] * len(op.outputs)


def _expand(w: _Walker, op: Op) -> Sequence[Seen]:
    new = set(op.params["dimensions"])
    kept = [d for d in range(len(op.outputs[0].shape)) if d not in new]
    return [_moved(w.of(op.inputs[0]), op.inputs[0].shape, kept.__getitem__)]


def _stack(w: _Walker, op: Op) -> Sequence[Seen]:
    new, shape = op.params["axis"], op.inputs[0].shape
    seen = w.join(shape, map(w.of, op.inputs))
    return [_moved(seen, shape, lambda d: d + (d >= new))]


def _unstack(w: _Walker, op: Op) -> Sequence[Seen]:
    gone, shape = op.params["axis"], op.inputs[0].shape
    return [_moved(w.of(op.inputs[0]), shape, lambda d: None if d == gone else d - (d > gone))] * len(op.outputs)


def _whole_dim(w: _Walker, op: Op) -> Sequence[Seen]:
    dim = op.params.get("axis", op.params.get("dimension", 0))
    seen = [_fixed_dim(w.of(v), dim, v.shape) for v in op.inputs]
    return [w.join(op.outputs[0].shape, seen)] * len(op.outputs)


def _dot(w: _Walker, op: Op) -> Sequence[Seen]:
    contract, batch = op.params["dimension_numbers"]
    made, at = [], len(batch[0])
    for v, summed, shared in zip(op.inputs[:2], contract, batch, strict=True):
        free = [d for d in range(len(v.shape)) if d not in summed and d not in shared]
        place = {d: i for i, d in enumerate(shared)} | {d: at + i for i, d in enumerate(free)}
        at += len(free)
        made.append(_moved(w.of(v), v.shape, place.get))
    return [w.join(op.outputs[0].shape, made)]


def _dynamic_slice(w: _Walker, op: Op) -> Sequence[Seen]:
    x, out = op.inputs[0], op.outputs[0]
    return [_moved(w.of(x), x.shape, lambda d: d if x.shape[d] == out.shape[d] else None)]


def _reshape(w: _Walker, op: Op) -> Sequence[Seen]:
    x, out = op.inputs[0], op.outputs[0]
    seen = {}
    for axis, span in w.of(x).items():
        seen[axis] = span if span.dim is None else _regrouped(span, x.shape, out.shape)
    return [seen]


def _regrouped(span: Span, old: Sequence[int], new: Sequence[int]) -> Span:
    """A dimension that is kept, split (space to depth) or joined with an inner one (depth to space)."""
    dim = span.dim or 0
    before, n = math.prod(old[:dim]), old[dim]
    if n == 1:  # of axes of one element, side by side, the first stays the first
        ones = [[i for i, m in enumerate(sizes) if m == 1 and math.prod(sizes[:i]) == before] for sizes in (old, new)]
        which = ones[0].index(dim)
        return span._replace(dim=ones[1][which]) if which < len(ones[1]) else span.fixed(old)
    at = 0
    for i, m in enumerate(new):
        if math.prod(new[:i]) == before and m > 1:
            at = i
            break
    else:
        return span.fixed(old)
    m = new[at]
    if m == n:
        return span._replace(dim=at)
    if n % m == 0:
        inner = n // m
        return Span(at, span.start, span.size + (inner - 1) * abs(span.jump), span.jump * inner)
    if m % n == 0:
        inner = m // n
        back = span.jump * Fraction(inner - 1, inner)
        return Span(at, span.start - back, span.size + abs(back), span.jump / inner)
    return span.fixed(old)


ELEMENTWISE = names("""
    bitcast_convert_type convert_element_type copy copy_p custom_lin name optimization_barrier pbroadcast psum pvary
    reduce_precision reduced_vary_cast_p sharding_constraint stop_gradient layout_constraint
""")


RULES: dict[str, Rule] = {
    **dict.fromkeys((*elementwise.RULES, *ELEMENTWISE), _elementwise),
    **dict.fromkeys([f"reduce_{n}" for n in ("sum", "max", "min", "prod", "and", "or", "xor")], _reduce),
    **dict.fromkeys(("argmax", "argmin", "squeeze", "reduce"), _reduce),
    **dict.fromkeys([f"reduce_window{n}" for n in ("", "_sum", "_max", "_min")], _window),
    **dict.fromkeys([f"cum{n}" for n in ("sum", "prod", "max", "min", "logsumexp")], _whole_dim),
    "sort": _whole_dim,
    "broadcast_in_dim": _broadcast,
    "concatenate": _concatenate,
    "conv_general_dilated": _conv,
    "dot_general": _dot,
    "dynamic_slice": _dynamic_slice,
    "expand_dims": _expand,
    "jconv_conv": _jconv,
    "pad": _pad,
    "reshape": _reshape,
    "rev": _rev,
    "slice": _slice,
    "split": _split,
    "stack": _stack,
    "transpose": _transpose,
    "unstack": _unstack,
}
