"""What each scope of a program is: what it takes, returns and keeps, its window, its parameters, what it sees."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from jconv.cost.fields import Fields, Span
from jconv.cost.phases import path_of
from jconv.cost.rules import Window, Work
from jconv.cost.trace import Block, Op, Value, walk
from jconv.cost.types import Scope

__all__ = ["saved", "scopes_of", "span_of"]


def scopes_of(
    block: Block,
    works: Mapping[Op, Work | None],
    phases: Mapping[Op, str],
    *,
    params: Mapping[Value, str],
    fields: Fields | None,
) -> dict[str, Scope]:
    """Every scope and every scope around one, by path, in the order in which they run.

    Args:
        block: the program.
        works, phases: of its ops.
        params: the arguments that are parameters, each with a path of its own.
        fields: receptive fields, if there is an input to have them over.
    """
    forward = [op for op in walk(block) if phases[op] == "forward"]
    inputs, outputs = _borders(block, forward, params)
    owned = _owners(block, params)
    kept: dict[str, int] = {}
    for v in saved(block, phases):
        path = path_of(v.maker.stack) if v.maker else ""
        kept[path] = kept.get(path, 0) + v.bytes
    windows: dict[str, Window] = {}
    for op in forward:
        work = works.get(op)
        path = path_of(op.stack)
        if work is not None and work.window is not None and (path not in windows or work.macs):
            windows[path] = work.window
    order = dict.fromkeys(p for op in walk(block) for p in _around(path_of(op.stack)))
    scopes = {}
    for path in dict.fromkeys([*order, *owned]):
        out, window = outputs.get(path), windows.get(path)
        mine = owned.get(path, [])
        seen = span_of(fields, out) if fields and out else ((), (), ())
        scopes[path] = Scope(
            input=str(inputs[path]) if path in inputs else "",
            output=str(out) if out else "",
            output_bytes=out.bytes if out else 0,
            params=sum(v.size for v in mine),
            params_bytes=sum(v.bytes for v in mine),
            saved_bytes=kept.get(path, 0),
            receptive_field=seen[0],
            jump=seen[1],
            padding=seen[2],
            fan_in=window.fan_in if window else 0,
            fan_out=window.features // window.groups if window and window.features else int(window is not None),
            window=window,
        )
    return scopes


def _around(path: str) -> list[str]:
    """The path and every scope around it, outermost first."""
    parts = path.split(".") if path else []
    return [".".join(parts[:i]) for i in range(len(parts) + 1)]


def _inside(path: str, scope: str) -> bool:
    return not scope or path == scope or path.startswith(f"{scope}.")


def _borders(
    block: Block, forward: Sequence[Op], params: Mapping[Value, str]
) -> tuple[dict[str, Value], dict[str, Value]]:
    """The largest array that enters each scope, and the largest, of equals the last, that leaves it."""
    users: dict[Value, set[str | None]] = {}
    for op in forward:
        for v in op.inputs:
            users.setdefault(v, set()).add(path_of(op.stack))
        for inner in op.blocks:
            _leave(users, inner.outputs)
    _leave(users, block.outputs)
    inputs: dict[str, Value] = {}
    outputs: dict[str, Value] = {}
    for op in forward:
        path = path_of(op.stack)
        for v in op.inputs:
            if v.constant or _outermost(v) in params:
                continue
            source = path_of(v.maker.stack) if v.maker else None
            for scope in _around(path):
                if (source is None or not _inside(source, scope)) and v.size > getattr(inputs.get(scope), "size", 0):
                    inputs[scope] = v
        for v in op.outputs:
            used = users.get(v, ())
            for scope in _around(path):
                leaves = any(u is None or not _inside(u, scope) for u in used)
                if leaves and v.size >= getattr(outputs.get(scope), "size", 0):
                    outputs[scope] = v
    return inputs, outputs


def _leave(users: dict[Value, set[str | None]], values: Iterable[Value]) -> None:
    for v in values:
        users.setdefault(v, set()).add(None)


def _outermost(v: Value) -> Value:
    while v.outer is not None:
        v = v.outer
    return v


def _owners(block: Block, params: Mapping[Value, str]) -> dict[str, list[Value]]:
    """The parameters of each scope: those that it is the first to use; by their own path if no scope does."""
    alias = {v: v for v in params}
    owner: dict[Value, str] = {}
    for op in walk(block):
        path = path_of(op.stack)
        for v in op.inputs:
            param = alias.get(v) or alias.get(_outermost(v))
            if param is None or op.kind:
                continue
            if path:
                owner.setdefault(param, path)
            elif len(op.inputs) == len(op.outputs) == 1:  # cast before use
                alias[op.outputs[0]] = param
    found: dict[str, list[Value]] = {}
    for v, name in params.items():
        found.setdefault(owner.get(v, name), []).append(v)
    return found


def saved(block: Block, phases: Mapping[Op, str]) -> list[Value]:
    """The residuals: what the forward pass makes and the backward pass uses."""
    later = ("backward input", "backward kernel", "recompute")
    kept = {}
    for op in walk(block):
        if phases[op] in later:
            made = (v for v in op.inputs if v.maker is not None and phases[v.maker] == "forward")
            kept |= dict.fromkeys(made)
    return list(kept)


def span_of(fields: Fields, v: Value, axes: Collection[int] | None = None) -> tuple:
    """Receptive field, jump and effective padding of an array, along the axes that windows slide along."""
    seen = fields.seen.get(v, {})
    spans = [seen.get(axis) for axis in (fields.spatial if axes is None else axes)]
    if not spans or None in spans:
        return (), (), ()
    found: list[Span] = [s for s in spans if s is not None]
    return (
        tuple(int(s.size) if s.dim is not None else 0 for s in found),
        tuple(float(s.jump) for s in found),
        tuple(float(-s.start) if s.dim is not None else 0.0 for s in found),
    )
