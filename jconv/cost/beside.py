"""A report of any format with XLA's side of it: FLOPs as lowered and compiled, why they differ, and memory."""

import csv
import html
import io
import json

from jconv.cost.compare import Comparison
from jconv.cost.text import quantity

__all__ = ["with_xla"]

PLACE = "<!-- beside -->"
"""Where the page has room for more."""
COLUMNS = ("lowered", "compiled", "inferred", "why")


def with_xla(text: str, comparison: Comparison, format: str) -> str:
    """The text of `report`, in the same format, with the comparison in it."""
    memory = comparison.xla.memory
    if format == "json":
        extra = {"layers": [layer._asdict() for layer in comparison.layers], "memory": memory and memory._asdict()}
        return json.dumps(json.loads(text) | {"xla": extra})
    if format == "csv":
        return _csv(text, comparison)
    peak = f"XLA holds {memory.peak:,} bytes: {memory._asdict()}" if memory else ""
    if format == "html":
        return text.replace(PLACE, f"{_html(comparison)}<p>{html.escape(peak)}</p>\n{PLACE}", 1)
    return f"{text.rstrip()}\n\n{comparison.to_markdown()}\n\n{peak}"


def _csv(text: str, comparison: Comparison) -> str:
    """The columns of each layer side by side; layers that only XLA has come last."""
    head, *rows = csv.reader(io.StringIO(text))
    of_xla = {layer.path: layer for layer in comparison.layers}
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*head, *COLUMNS])
    for row in [*rows, *([path] + [""] * (len(head) - 1) for path in of_xla.keys() - {row[0] for row in rows})]:
        layer = of_xla.get(row[0])
        more = (layer.lowered, layer.compiled, layer.inferred, "; ".join(layer.reasons)) if layer else (0, 0, 0.0, "")
        writer.writerow([*row, *more])
    return out.getvalue()


def _html(comparison: Comparison) -> str:
    wide = ' style="text-align: left; white-space: normal"'
    lines = []
    for layer in (*comparison.layers, comparison.total):
        inferred = f"{100 * layer.inferred:.0f} %" if layer.inferred else ""
        cells = [layer.path or "(no scope)", *(quantity(n) for n in layer[1:4]), inferred]
        why = html.escape("; ".join(layer.reasons))
        lines.append(f"<tr>{''.join(f'<td>{html.escape(c)}</td>' for c in cells)}<td{wide}>{why}</td></tr>")
    head = "".join(f"<th>{name}</th>" for name in ("layer", "counted", "lowered", "compiled", "inferred"))
    table = "<table><thead><tr>{}<th{}>why</th></tr></thead><tbody>\n{}\n</tbody></table>"
    table = table.format(head, wide, "\n".join(lines))
    return f'<h2>Beside XLA</h2><p>FLOPs, and why they differ.</p>\n<div class="scroll">{table}</div>\n'
