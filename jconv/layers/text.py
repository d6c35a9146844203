"""A layer as text: `Conv(64, 7, stride=2)`, a network as an indented tree with equal neighbours on one line."""

import dataclasses
from typing import Any

__all__ = ["describe"]


def describe(layer: Any) -> str:
    """The call that makes a leaf; for a composite, its class and a line for each path below it."""
    options = ", ".join(_options(layer))
    children = _shown(layer)
    if not children:
        return f"{type(layer).__name__}({options})"
    lines = [f"{type(layer).__name__}({options})" if options else type(layer).__name__]
    for names, child in _runs(children):
        label = names[0] if len(names) == 1 else f"{names[0]}..{names[-1]}"
        times = f"{len(names)} x " if len(names) > 1 else ""
        lines.append(f"  {label}: {times}{describe(child)}".replace("\n", "\n  "))
    return "\n".join(lines)


def _shown(layer: Any) -> list[tuple[str, Any]]:
    """A layer's children by the names that paths have; one without a name is shown as its own children."""
    shown = []
    for name, child in getattr(layer, "children", dict)().items():
        part = layer.child_path(name)
        shown += [(part, child)] if part else _shown(child) or [("", child)]
    return shown


def _options(layer: Any) -> list[str]:
    """Fields that are not children and differ from their defaults; those before the keyword-only ones unnamed."""
    children = getattr(layer, "children", dict)()
    shown = []
    for f in dataclasses.fields(layer):
        value = getattr(layer, f.name)
        if not f.repr or f.name in children or (f.default is not dataclasses.MISSING and value == f.default):
            continue
        shown.append(_value(value) if not f.kw_only else f"{f.name}={_value(value)}")
    return shown


def _value(value: Any) -> str:
    return getattr(value, "__name__", None) or repr(value)


def _runs(children: list[tuple[str, Any]]) -> list[tuple[list[str], Any]]:
    runs: list[tuple[list[str], Any]] = []
    for name, layer in children:
        if runs and runs[-1][1] == layer and name.isdigit():
            runs[-1][0].append(name)
        else:
            runs.append(([name], layer))
    return runs
