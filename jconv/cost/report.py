"""Results to look at: a table for the terminal, Markdown, CSV, JSON, a page."""

import csv
import io
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from jconv.cost.page import page
from jconv.cost.roofline import Roofline
from jconv.cost.text import fan, geometry, quantity, seconds, shape, sides
from jconv.cost.types import Cost, Layer, Result

__all__ = ["COLUMNS", "FORMATS", "compared", "report"]


class Column(NamedTuple):
    """A column of the table."""

    title: str
    text: Callable[[Layer], str]
    value: Callable[[Layer], Any]
    """Exact, for CSV."""
    total: Callable[[Result], str] = lambda _: ""
    left: bool = False


def _number(title: str, of: Callable[[Any], float], unit: str = "", total: bool = True) -> Column:
    return Column(title, lambda x: quantity(of(x), unit), of, lambda r: quantity(of(_Whole(r)), unit) if total else "")


class _Whole:
    """A result with the names of a layer, for the line of totals."""

    def __init__(self, result: Result):
        self.cost, self.phases = result.total, result.by_phase()
        self.params, self.saved_bytes = result.params, result.saved_bytes


def _forward(x: Any) -> Cost:
    return x.phases.get("forward", Cost())


COLUMNS: dict[str, Column] = {
    "input": Column("input", lambda x: shape(x.scope.input), lambda x: x.scope.input),
    "output": Column("output", lambda x: shape(x.scope.output), lambda x: x.scope.output),
    "window": Column(
        "window", lambda x: geometry(x.scope.window), lambda x: geometry(x.scope.window), left=True
    ),
    "fan": Column(
        "in→out", lambda x: fan(x.scope.fan_in, x.scope.fan_out), lambda x: fan(x.scope.fan_in, x.scope.fan_out)
    ),
    "params": _number("params", lambda x: x.params if isinstance(x, _Whole) else x.scope.params),
    "macs": _number("MACs", lambda x: _forward(x).macs),
    "valid": _number("valid MACs", lambda x: _forward(x).macs_valid),
    "share": Column("%", lambda x: f"{100 * x.share:.1f}" if x.share >= 0.0005 else "·", lambda x: x.share),
    "flops": _number("FLOPs", lambda x: x.cost.flops),
    "transcendentals": _number("transc.", lambda x: x.cost.transcendentals),
    "activation": _number("output B", lambda x: x.scope.output_bytes, "B", total=False),
    "saved": _number("saved", lambda x: x.saved_bytes if isinstance(x, _Whole) else x.scope.saved_bytes, "B"),
    "moved": _number("moved", lambda x: x.cost.bytes_moved, "B"),
    "intensity": Column(
        "FLOP/B",
        lambda x: f"{x.cost.intensity:.3g}" if x.cost.flops else "·",
        lambda x: x.cost.intensity,
        lambda r: f"{r.total.intensity:.3g}",
    ),
    "field": Column(
        "sees",
        lambda x: sides(tuple(map(float, x.scope.receptive_field))) if x.scope.receptive_field else "",
        lambda x: "×".join(map(str, x.scope.receptive_field)),
    ),
    "jump": Column(
        "jump",
        lambda x: sides(x.scope.jump, none="·") if x.scope.jump else "",
        lambda x: "×".join(f"{j:g}" for j in x.scope.jump),
    ),
    "padding": Column(
        "eff. pad",
        lambda x: sides(x.scope.padding, none="0") if x.scope.padding else "",
        lambda x: "×".join(f"{j:g}" for j in x.scope.padding),
    ),
}  # fmt: skip
FORWARD = ("output", "window", "fan", "params", "macs", "share", "flops", "moved", "intensity", "field")
TRAIN = ("output", "window", "params", "macs", "share", "flops", "saved", "moved", "intensity", "field")
LEAST = ("fan", "flops", "moved", "window", "intensity", "params", "field", "saved")
"""What a narrow terminal does without, in this order."""
FORMATS = ("table", "markdown", "csv", "json", "html")


def report(
    result: Result,
    *,
    format: str = "table",
    depth: int | None = None,
    columns: Sequence[str] | None = None,
    roofline: Roofline | None = None,
    width: int | None = None,
) -> str:
    """A result as text.

    Args:
        result: of `analyze`.
        format: "table" (for a terminal; needs rich), "markdown", "csv" (exact numbers, every column), "json", or "html"
            (one page, see `page`).
        depth: parts of a path that make a layer, as in `Result.by_layer`.
        columns: names of `COLUMNS`; None is what fits the mode.
        roofline: adds the least time and the bound of every layer.
        width: of the terminal; None asks it. A narrow table does without some columns, and says without which.

    Returns:
        The text.

    Raises:
        ValueError: an unknown format or column; a width below 1; "table" without rich.

    Example:
        >>> import jax
        >>> from jconv import cost
        >>> x = jax.ShapeDtypeStruct((2, 3), "float32")
        >>> print(report(cost.analyze(lambda x: x * x, x), format="markdown", columns=["flops", "moved"]))
        | layer | FLOPs | moved |
        |---|---:|---:|
        | (no scope) | 6 | 48 B |
        | total | 6 | 48 B |
    """
    if format not in FORMATS:
        raise ValueError(f"format: expected one of {', '.join(FORMATS)}, got {format!r}")
    for name in columns or ():
        if name not in COLUMNS:
            raise ValueError(f"columns: unknown {name!r}; there are {', '.join(COLUMNS)}")
    if width is not None and width < 1:
        raise ValueError(f"width: expected a number of columns, at least 1, got {width}")
    if format == "json":
        return result.to_json()
    if format == "html":
        return page(result, depth=depth, roofline=roofline)
    layers = result.by_layer(depth)
    names = tuple(columns or (COLUMNS if format == "csv" else FORWARD if result.about["mode"] == "forward" else TRAIN))
    chosen = [COLUMNS[name] for name in names]
    if result.about["mode"] == "train":
        chosen = [c._replace(title=f"fwd {c.title}") if "MACs" in c.title else c for c in chosen]
    times = _times(roofline, depth) if roofline is not None else []
    if format == "csv":
        heads = [
            f"forward_{name}" if c.title.startswith("fwd ") else name for name, c in zip(names, chosen, strict=True)
        ]
        return _csv(layers, heads, [*chosen, *times])
    filled = [c for c in (*chosen, *times) if any(c.text(layer) not in ("", "·") for layer in layers)]
    own = {layer.path for layer in layers if any(other.path.startswith(f"{layer.path}.") for other in layers)}
    labels = [f"{p} (itself)" if (p := layer.path) in own else p or "(no scope)" for layer in layers]
    if format == "markdown":
        return _markdown(filled, _lines(result, layers, labels, filled))
    may_go = [] if columns else [COLUMNS[name].title for name in LEAST]
    return _table(result, layers, labels, filled, may_go, roofline, width)


def _lines(result: Result, layers: Sequence[Layer], labels: Sequence[str], chosen: Sequence[Column]) -> list[list[str]]:
    lines = [[label, *(c.text(layer) for c in chosen)] for label, layer in zip(labels, layers, strict=True)]
    return [*lines, ["total", *(c.total(result) for c in chosen)]]


def _times(roofline: Roofline, depth: int | None) -> list[Column]:
    bounds = roofline.by_layer(depth)

    def of(layer: Layer) -> float:
        return bounds[layer.path].seconds if layer.path in bounds else 0.0

    def bound(layer: Layer) -> str:
        return bounds[layer.path].bound if of(layer) else ""

    return [
        Column("at least", lambda x: seconds(of(x)), of, lambda _: seconds(roofline.seconds)),
        Column("bound by", bound, bound, left=True),
    ]


def _csv(layers: Sequence[Layer], names: Sequence[str], chosen: Sequence[Column]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["layer", *names, *(c.title for c in chosen[len(names) :])])
    writer.writerows([layer.path, *(c.value(layer) for c in chosen)] for layer in layers)
    return out.getvalue()


def _markdown(chosen: Sequence[Column], lines: Sequence[Sequence[str]]) -> str:
    head = ["layer", *(c.title for c in chosen)]
    rule = ["---", *("---" if c.left else "---:" for c in chosen)]
    rows = [head, None, *lines]
    return "\n".join(f"|{'|'.join(rule)}|" if row is None else f"| {' | '.join(row)} |" for row in rows)


def _table(
    result: Result,
    layers: Sequence[Layer],
    labels: Sequence[str],
    chosen: list[Column],
    may_go: Sequence[str],
    roofline: Roofline | None,
    width: int | None,
) -> str:
    try:
        from rich.box import SIMPLE_HEAD
        from rich.cells import cell_len
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        raise ValueError("format: 'table' needs rich: pip install 'jconv[cost]'; 'markdown' needs nothing") from None

    def empty(footers: Sequence[str]) -> Table:
        table = Table(box=SIMPLE_HEAD, pad_edge=False, show_footer=True)
        table.add_column("layer", footer=footers[0], no_wrap=True)
        for column, footer in zip(chosen, footers[1:], strict=True):
            table.add_column(column.title, footer=footer, justify="left" if column.left else "right", no_wrap=True)
        return table

    console = Console(file=io.StringIO(), width=width, highlight=False)
    wide = console.options.update(max_width=10_000)
    *lines, total = _lines(result, layers, labels, chosen)
    left_out = []
    for title in may_go:
        widest = empty(total)
        widest.add_row(*(max(cells, key=cell_len) for cells in zip(*lines, strict=True)))
        if console.measure(widest, options=wide).maximum <= console.width:
            break
        left_out += [c.title for c in chosen if c.title == title]
        chosen = [c for c in chosen if c.title != title]
        *lines, total = _lines(result, layers, labels, chosen)
    table, stage = empty(total), None
    for layer, line in zip(layers, lines, strict=True):
        first = layer.path.partition(".")[0]
        if stage is not None and first != stage and "." in layer.path:
            table.add_section()
        stage = first
        table.add_row(*line)
    console.print(table)
    if left_out:
        console.print(
            f"left out for want of room: {', '.join(left_out)}; --width or --columns shows them", markup=False
        )
    for text in _summary(result, roofline):
        console.print(text, soft_wrap=True, markup=False)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"  # pyright: ignore[reportAttributeAccessIssue]


def _summary(result: Result, roofline: Roofline | None) -> list[str]:
    """The lines below the table: by stage, by phase, what was not counted, what the words mean."""
    lines = []
    whole = result.total.macs or result.total.flops
    word = "MACs" if result.total.macs else "FLOPs"
    stages = [s for s in result.by_stage() if s.share or s.scope.saved_bytes]
    if len(stages) > 1:
        lines.append(f"{word} by stage")
        most = max((s.share for s in stages), default=1) or 1
        for s in stages:
            bar = "█" * round(24 * s.share / most) or "▏"
            kept = f"   {quantity(s.scope.saved_bytes, 'B'):>9} saved" if result.saved_bytes else ""
            lines.append(f"  {s.path or '(no scope)':<12} {100 * s.share:5.1f} %{kept}  {bar}")
    phases = result.by_phase()
    if len(phases) > 1 and whole:
        lines.append("by phase")
        for name, cost in phases.items():
            share = (cost.macs if result.total.macs else cost.flops) / whole
            moved = quantity(cost.bytes_moved, "B")
            lines.append(f"  {name:<16} {100 * share:5.1f} %   {quantity(cost.flops)} FLOPs, {moved} moved")
    if result.total.macs_valid < result.total.macs:
        less = 100 * (1 - result.total.macs_valid / result.total.macs)
        lines.append(
            f"{quantity(result.total.macs)} MACs dense; {less:.1f} % of them meet padding: "
            f"{quantity(result.total.macs_valid)} valid, which FLOPs count twice"
        )
    if roofline is not None:
        lines.append(
            f"{roofline.device.name}: at least {seconds(roofline.seconds)}, "
            f"each phase of a layer fused ({roofline.device.source})"
        )
    c = result.coverage
    lines.append(f"{c.known:,} of {c.ops:,} ops have a rule" + ("" if c.unknown else ", nothing was left out"))
    for what, found in (("no rule", c.unknown), ("loop", c.loops), ("conditional", c.branches)):
        lines += [f"  {what}: {u.primitive} in {u.path or '(no scope)'}, {u.where}: {u.why}" for u in found]
    if c.branches:
        lines.append(
            f"  the most expensive branches are counted; with the cheapest: {quantity(result.least.flops)} FLOPs"
        )
    return lines


def compared(a: Result, b: Result, *, depth: int | None = None) -> str:
    """Two results beside each other as a Markdown table: the layers that differ, and the totals."""
    one, other = ({layer.path: layer.cost for layer in r.by_layer(depth)} for r in (a, b))
    rows = [(path, one.get(path, Cost()), other.get(path, Cost())) for path in {**one, **other}]
    rows = [row for row in rows if row[1] != row[2]]
    rows.append(("total", a.total, b.total))

    def change(x: int, y: int) -> str:
        return "" if x == y else "new" if not x else "gone" if not y else f"{100 * (y / x - 1):+.1f} %"

    lines = ["| layer | MACs | | | FLOPs | | | moved | | |", f"|---|{'---:|---:|---:|' * 3}"]
    for path, x, y in rows:
        cells = []
        for field, unit in (("macs", ""), ("flops", ""), ("bytes_moved", "B")):
            before, after = getattr(x, field), getattr(y, field)
            cells += [quantity(before, unit), quantity(after, unit), change(before, after)]
        lines.append(f"| {path or '(no scope)'} | {' | '.join(cells)} |")
    return "\n".join(lines)
