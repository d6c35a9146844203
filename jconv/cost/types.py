"""The result of an analysis: exact whole numbers in rows, and the views that sum them up."""

import dataclasses
import difflib
import functools
import json
import math
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Self

from jconv.cost.phases import PHASES, cut
from jconv.cost.rules import Window

__all__ = ["Cost", "Coverage", "Layer", "Result", "Row", "Scope", "Unknown", "diff"]


@dataclasses.dataclass(frozen=True, slots=True)
class Cost:
    """What can be added up. FLOPs are `2 macs_valid` plus every other operation, as XLA counts them."""

    macs: int = 0
    """Multiply-adds of convolutions and matrix products, every tap counted: what papers report."""
    macs_valid: int = 0
    """Those of them that touch a real input element, not padding and not a hole."""
    flops: int = 0
    transcendentals: int = 0
    bytes_read: int = 0
    """By every op on its own, nothing fused."""
    bytes_written: int = 0
    bytes_moved: int = 0
    """If each phase of each layer were fused: what it needs is read once, what others need is written once."""

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*(a + b for a, b in zip(self.numbers(), other.numbers(), strict=True)))

    def __sub__(self, other: "Cost") -> "Cost":
        return Cost(*(a - b for a, b in zip(self.numbers(), other.numbers(), strict=True)))

    def numbers(self) -> tuple[int, ...]:
        """The fields in order."""
        return _NUMBERS(self)

    def times(self, n: int) -> "Cost":
        """So often."""
        return Cost(*(a * n for a in self.numbers()))

    @property
    def intensity(self) -> float:
        """Arithmetic intensity: FLOPs for each byte moved."""
        return self.flops / self.bytes_moved if self.bytes_moved else math.inf if self.flops else 0.0


_NUMBERS = operator.attrgetter(*Cost.__dataclass_fields__)


class Row(NamedTuple):
    """One equation of the program, all of its runs together."""

    path: str
    phase: str
    primitive: str
    times: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    cost: Cost
    window: Window | None = None


class Unknown(NamedTuple):
    """Something that could not be counted, and where."""

    primitive: str
    path: str
    times: int
    where: str
    why: str


class Coverage(NamedTuple):
    """How much of the program the rules know."""

    ops: int
    known: int
    unknown: tuple[Unknown, ...]
    """Primitives without a rule: they count nothing but bytes."""
    loops: tuple[Unknown, ...] = ()
    """While-loops whose iterations tracing cannot know: they count once."""
    branches: tuple[Unknown, ...] = ()
    """Conditionals: the most expensive branch counts; `Result.least` has the total with the cheapest."""

    @property
    def complete(self) -> bool:
        """Whether every op has a rule and every loop a count."""
        return not self.unknown and not self.loops


class Scope(NamedTuple):
    """What a scope of the program is, beside what it costs."""

    input: str = ""
    """Its largest activation that comes from outside, as `f32[8,56,56,64]`."""
    output: str = ""
    output_bytes: int = 0
    params: int = 0
    """Elements of the parameters that are first used right here, not in a scope inside."""
    params_bytes: int = 0
    saved_bytes: int = 0
    """What the forward pass makes right here and keeps for the backward pass."""
    receptive_field: tuple[int, ...] = ()
    """Input elements that one output sees, along each spatial axis; 0 is all of them."""
    jump: tuple[float, ...] = ()
    """Input elements from one output to the next."""
    padding: tuple[float, ...] = ()
    """Effective padding: how far the first output's receptive field begins before the input."""
    fan_in: int = 0
    fan_out: int = 0
    window: Window | None = None


@dataclasses.dataclass(frozen=True)
class Layer:
    """A scope with everything that it costs."""

    path: str
    cost: Cost
    share: float
    """Of the total's dense MACs; of its FLOPs if there are none."""
    scope: Scope
    phases: Mapping[str, Cost]

    def __getattr__(self, name: str) -> Any:
        if name in Scope._fields:
            return getattr(self.scope, name)
        if name.startswith("__") or name not in {f.name for f in dataclasses.fields(Cost)} | {"intensity"}:
            raise AttributeError(f"a Layer has no {name!r}")
        return getattr(self.cost, name)


@dataclasses.dataclass(frozen=True)
class Result:
    """What `analyze` found: rows, what is known of each scope, and what could not be counted."""

    rows: tuple[Row, ...]
    scopes: Mapping[str, Scope]
    coverage: Coverage
    about: Mapping[str, Any]
    """Mode, platform, the arguments in words, the version of jax."""
    slack: Cost = Cost()
    """The most that the cheapest branches would save."""

    @functools.cached_property
    def total(self) -> Cost:
        """The sum of all rows."""
        return _sum(row.cost for row in self.rows)

    @property
    def least(self) -> Cost:
        """The total if every conditional took its cheapest branch."""
        return self.total - self.slack

    @property
    def params(self) -> int:
        """Elements of all parameters."""
        return sum(s.params for s in self.scopes.values())

    @property
    def saved_bytes(self) -> int:
        """What the forward pass keeps for the backward pass, arguments apart."""
        return sum(s.saved_bytes for s in self.scopes.values())

    def by_primitive(self) -> dict[str, Cost]:
        """The cost of each primitive, the most FLOPs first."""
        return dict(sorted(_grouped(self.rows, lambda r: r.primitive).items(), key=lambda kv: -kv[1].flops))

    def by_phase(self) -> dict[str, Cost]:
        """The cost of each phase that there is: forward, recompute, backward input, backward kernel, optimiser."""
        found = _grouped(self.rows, lambda r: r.phase)
        return {phase: found[phase] for phase in PHASES if phase in found}

    def by_layer(self, depth: int | None = None) -> tuple[Layer, ...]:
        """The layers in the order in which they run; their costs, parameters and saved bytes sum to the totals.

        Args:
            depth: parts of the path that make a layer: 1 is `layer1`, 2 is `layer1.0`; None is the whole path.

        Raises:
            ValueError: a depth below 1.
        """
        cut("", depth)  # also where there is no path
        return self._layers(lambda path: cut(path, depth))

    def by_stage(self) -> tuple[Layer, ...]:
        """As `by_layer(1)`; before the first scope of many blocks is "stem", after the last is "head"."""
        stages = self.stages()
        return self._layers(lambda path: stages[path])

    def layer(self, path: str) -> Layer:
        """The layer of that path, with everything inside it.

        Raises:
            ValueError: no such path, with the nearest that there are.
        """
        inside = [r.path for r in self.rows if r.path == path or r.path.startswith(f"{path}.")]
        if not inside:
            raise ValueError(f"path: no layer {path!r} in this result; {_nearest(path, self.scopes)}")
        names = set(inside)
        found = self._layers(lambda p: path if p in names or p.startswith(f"{path}.") else "")
        return next(layer for layer in found if layer.path == path)

    def stages(self) -> dict[str, str]:
        """The stage of each path, as `by_stage` groups them."""
        paths = list(dict.fromkeys([*(r.path for r in self.rows), *self.scopes]))
        root = _common([p for p in paths if p])
        parts = {p: p.split(".")[root:] if p else [] for p in paths}
        blocks: dict[str, set[str]] = {}
        for p in parts.values():
            if len(p) > 2:
                blocks.setdefault(p[0], set()).add(p[1])
        order = list(dict.fromkeys(p[0] for p in parts.values() if p and p[0]))
        stages = [name for name in order if name in blocks]
        if len(stages) < 2:
            return {p: parts[p][0] if parts[p] else "" for p in paths}
        first, last = order.index(stages[0]), order.index(stages[-1])
        names = {name: "stem" if i < first else "head" if i > last else name for i, name in enumerate(order)}
        return {p: names[parts[p][0]] if parts[p] else "" for p in paths}

    def _layers(self, group: Callable[[str], str]) -> tuple[Layer, ...]:
        order = dict.fromkeys(group(p) for p in [*(r.path for r in self.rows), *self.scopes])
        total = self.total
        rows: dict[str, list[Row]] = {name: [] for name in order}
        for row in self.rows:
            rows[group(row.path)].append(row)
        members: dict[str, list[str]] = {name: [] for name in order}
        for path in self.scopes:
            members[group(path)].append(path)
        layers = []
        for name in order:
            cost = _sum(r.cost for r in rows[name])
            of, part = (total.macs, cost.macs) if total.macs else (total.flops, cost.flops)
            scope = _merged(name, {p: self.scopes[p] for p in members[name]})
            found = _grouped(rows[name], lambda r: r.phase)
            if rows[name] or scope.params or scope.saved_bytes:
                share = part / of if of else 0.0
                layers.append(Layer(name, cost, share, scope, {p: found[p] for p in PHASES if p in found}))
        return tuple(layers)

    # Files

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it; `from_dict` is the way back."""
        rows = [
            {**row._asdict(), "cost": dataclasses.asdict(row.cost), "window": row.window and row.window._asdict()}
            for row in self.rows
        ]
        scopes = {
            path: {**scope._asdict(), "window": scope.window and scope.window._asdict()}
            for path, scope in self.scopes.items()
        }
        coverage = {
            k: [u._asdict() for u in v] if isinstance(v, tuple) else v for k, v in self.coverage._asdict().items()
        }
        return {
            "format": 1,
            "about": dict(self.about),
            "total": dataclasses.asdict(self.total),
            "rows": rows,
            "scopes": scopes,
            "coverage": coverage,
            "slack": dataclasses.asdict(self.slack),
        }

    def to_json(self) -> str:
        """The text of `to_dict`."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Self:
        """The result that `to_dict` wrote.

        Raises:
            ValueError: anything else.
        """
        try:
            return cls(
                tuple(Row(**_read(row)) for row in saved["rows"]),
                {path: Scope(**_read(scope)) for path, scope in saved["scopes"].items()},
                Coverage(**{k: _unknowns(v) for k, v in saved["coverage"].items()}),
                saved["about"],
                Cost(**saved["slack"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"saved: expected what Result.to_dict or --format json wrote, got something else: {error!r}"
            ) from error


def diff(a: Result, b: Result, *, depth: int | None = None) -> dict[str, tuple[Cost, Cost]]:
    """The layers in which two results differ: path -> (cost in a, cost in b); a layer that is missing costs nothing.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jconv import cost
        >>> x = jax.ShapeDtypeStruct((4, 8), "float32")
        >>> a, b = (cost.analyze(lambda x, n=n: jnp.tile(x, n) * 2, x) for n in (1, 3))
        >>> [(path, one.flops, other.flops) for path, (one, other) in cost.diff(a, b).items()]
        [('', 32, 96)]
    """
    one, other = ({layer.path: layer.cost for layer in r.by_layer(depth)} for r in (a, b))
    pairs = {path: (one.get(path, Cost()), other.get(path, Cost())) for path in {**one, **other}}
    return {path: pair for path, pair in pairs.items() if pair[0] != pair[1]}


def _sum(costs: Iterable[Cost]) -> Cost:
    columns = list(zip(*(c.numbers() for c in costs), strict=True))
    return Cost(*map(sum, columns)) if columns else Cost()


def _grouped(rows: Iterable[Row], key: Callable[[Row], str]) -> dict[str, Cost]:
    groups: dict[str, list[Cost]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row.cost)
    return {name: _sum(costs) for name, costs in groups.items()}


def _merged(name: str, scopes: Mapping[str, Scope]) -> Scope:
    """One scope of several: counts add up, and what is of the whole comes from the one with the name, or the last."""
    whole = scopes.get(name) or next(reversed(list(scopes.values())), Scope())
    windows = [s for s in scopes.values() if s.window]
    only = windows[0] if len(windows) == 1 else Scope()
    return whole._replace(
        input=whole.input if name in scopes else next((s.input for s in scopes.values() if s.input), ""),
        params=sum(s.params for s in scopes.values()),
        params_bytes=sum(s.params_bytes for s in scopes.values()),
        saved_bytes=sum(s.saved_bytes for s in scopes.values()),
        window=only.window,
        fan_in=only.fan_in,
        fan_out=only.fan_out,
    )


def _common(paths: list[str]) -> int:
    """Parts that all paths begin with, as the name of the network's class, leaving each at least one."""
    split = [p.split(".") for p in paths]
    n = 0
    while split and all(len(p) > n + 1 and p[n] == split[0][n] for p in split):
        n += 1
    return n


def _read(saved: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a row, a scope, a window or a cost from JSON, which has no tuples."""
    kinds = {"window": Window, "cost": Cost}
    return {k: kinds[k](**_read(v)) if k in kinds and v else _tuple(v) for k, v in saved.items()}


def _tuple(value: Any) -> Any:
    return tuple(map(_tuple, value)) if isinstance(value, list) else value


def _unknowns(saved: Any) -> Any:
    return tuple(Unknown(**u) for u in saved) if isinstance(saved, list) else saved


def _nearest(name: str, known: Iterable[str]) -> str:
    known = [k for k in known if k]
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    return (
        f"did you mean {' or '.join(map(repr, close))}?" if close else f"there are {', '.join(map(repr, known[:12]))}"
    )
