"""`compare`: FLOPs of each layer as counted, as lowered and as compiled, with the reason for every difference."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax

from jconv.cost.analyze import analyze
from jconv.cost.hlo import Hlo, HloRow
from jconv.cost.instructions import PRODUCTS
from jconv.cost.phases import cut
from jconv.cost.text import quantity
from jconv.cost.types import Result, Row
from jconv.cost.xla import Xla, xla

__all__ = ["Compared", "Comparison", "compare", "compare_found"]

REASONS = {
    "convert_element_type": "casts, which are movement here and operations there",
    "jconv_conv": "lowering: another algorithm computes this convolution",
    "sort": "sorting, which XLA counts by the logarithm of all elements",
}
SAME = {"select_and_scatter": "select_and_scatter_add"}
SMALL = 1e-6  # XLA's own numbers are float32


class Compared(NamedTuple):
    """One layer: FLOPs, each iteration of a loop counted."""

    path: str
    analytic: int
    lowered: int
    compiled: int
    inferred: float
    """The share of the compiled FLOPs whose layer is not told by their own name."""
    reasons: tuple[str, ...]
    """Why the three differ, with FLOPs."""


class Comparison(NamedTuple):
    """What `compare` found."""

    layers: tuple[Compared, ...]
    result: Result
    xla: Xla

    @property
    def total(self) -> Compared:
        """The sum of the layers."""
        analytic = sum(layer.analytic for layer in self.layers)
        lowered = sum(layer.lowered for layer in self.layers)
        flops = sum(layer.compiled for layer in self.layers)
        compiled = self.xla.compiled
        own = compiled.by_provenance()["own name"]
        guessed = 1 - own / compiled.flops if compiled.flops else 0.0
        return Compared("total", analytic, lowered, flops, guessed, _whole(self.xla))

    def to_markdown(self) -> str:
        """As a table; a percentage is of the layer's FLOPs that were inferred."""
        lines = ["| layer | analytic | lowered | compiled | inferred | why |", "|---|---:|---:|---:|---:|---|"]
        for layer in (*self.layers, self.total):
            numbers = " | ".join(quantity(n) for n in layer[1:4])
            share = f"{100 * layer.inferred:.0f} %" if layer.inferred else ""
            lines.append(f"| {layer.path or '(no scope)'} | {numbers} | {share} | {'; '.join(layer.reasons)} |")
        return "\n".join(lines)


def compare(
    fn: Callable,
    *args: Any,
    mode: str = "forward",
    wrt: int | Sequence[int] | None = None,
    has_aux: bool = False,
    depth: int | None = None,
) -> Comparison:
    """FLOPs of each layer: as this laboratory counts them, as JAX lowers them, as XLA compiles them.

    Args:
        fn, args, mode, wrt, has_aux: as for `analyze`.
        depth: parts of a path that make a layer; None is the whole path.

    Returns:
        A Comparison: `.layers`, `.total`, `.to_markdown()`.

    Raises:
        ValueError: as `analyze` does.

    Example:
        >>> x = jax.ShapeDtypeStruct((4, 8), "float32")
        >>> found = compare(lambda x: (x * 2).astype("bfloat16"), x)
        >>> found.total[1:4], found.layers[0].reasons
        ((32, 64, 64), ('lowered +32: casts, which are movement here and operations there',))
    """
    result = analyze(fn, *args, mode=mode, wrt=wrt, has_aux=has_aux, platform=_platform())
    return compare_found(result, xla(fn, *args, mode=mode, wrt=wrt, has_aux=has_aux), depth=depth)


def compare_found(result: Result, found: Xla, *, depth: int | None = None) -> Comparison:
    """The comparison of what `analyze` and `xla` have found."""
    paths = {row.path for row in result.rows}
    analytic = _grouped(result.rows, lambda r: r.path, depth)
    lowered, compiled = (
        _grouped(h.rows, lambda r: _nearest(r.path, paths), depth) for h in (found.lowered, found.compiled)
    )
    layers = []
    for path in dict.fromkeys([*analytic, *lowered, *compiled]):
        ours, before, after = (rows.get(path, []) for rows in (analytic, lowered, compiled))
        counted, low, flops = sum(r.cost.flops for r in ours), _executed(before), _executed(after)
        if counted or low or flops:
            guessed = _executed([r for r in after if r.provenance != "own name"]) / flops if flops else 0.0
            reasons = (*_lowering(ours, before), *_compiling(before, after))
            layers.append(Compared(path, counted, low, flops, guessed, reasons))
    return Comparison(tuple(layers), result, found)


def _platform() -> str:
    platform = jax.default_backend()
    return {"gpu": "cuda"}.get(platform, platform)


def _nearest(path: str, known: Iterable[str]) -> str:
    """The layer of an instruction, or the one around it, that the analysis knows."""
    while path and path not in known:
        path = path.rpartition(".")[0]
    return path


def _grouped(rows: Iterable[Any], path: Callable[[Any], str], depth: int | None) -> dict[str, list[Any]]:
    groups: dict[str, list[Any]] = {}
    for row in rows:
        groups.setdefault(cut(path(row), depth), []).append(row)
    return groups


def _executed(rows: Iterable[HloRow]) -> int:
    return sum(r.flops * r.times for r in rows)


def _lowering(ours: Sequence[Row], lowered: Sequence[HloRow]) -> list[str]:
    """Differences of the count to what JAX lowers, primitive by primitive."""
    difference: dict[str, int] = {}
    for row in ours:
        difference[row.primitive] = difference.get(row.primitive, 0) - row.cost.flops
    for row in lowered:
        name = SAME.get(row.primitive, row.primitive)
        difference[name] = difference.get(name, 0) + row.flops * row.times
    if "jconv_conv" in difference:  # what has come instead of it
        instead = [name for name, by in difference.items() if by > 0]
        difference["jconv_conv"] += sum(difference.pop(name) for name in instead)
    whole = sum(row.cost.flops for row in ours) or 1
    told: dict[str, int] = {}
    for name, by in difference.items():
        if abs(by) > SMALL * whole:
            why = REASONS.get(name) or _family(name)
            told[why] = told.get(why, 0) + by
    reasons = [f"lowered {_signed(by)}: {why}" for why, by in told.items() if by]
    reasons += [
        f"custom call {name}: XLA knows no FLOPs of it" for name in dict.fromkeys(r.target for r in lowered if r.target)
    ]
    once = _executed(lowered) - sum(r.flops for r in lowered)
    return [*reasons, *([f"loops: XLA's own total counts a body once, {_signed(-once)}"] if once else [])]


def _family(primitive: str) -> str:
    if primitive.startswith(("random", "threefry", "rng", "shift", "iota_2x32")):
        return "random bits, by the operations of the generator"
    return f"{primitive or 'instructions without a name'} is counted otherwise"


def _compiling(lowered: Sequence[HloRow], compiled: Sequence[HloRow]) -> list[str]:
    """Differences of what JAX lowers to what XLA compiles it to."""
    reasons = []
    before, after = (_executed([r for r in rows if r.opcode in PRODUCTS]) for rows in (lowered, compiled))
    if abs(after - before) > SMALL * before:
        custom = list(dict.fromkeys(r.target for r in compiled if r.target))
        if after < before and custom:
            reasons.append(
                f"compiled {_signed(after - before)}: custom call {', '.join(custom)}: XLA knows no FLOPs of it"
            )
        elif any(r.groups > 1 for r in lowered):
            ratio = f"{after / before:.3g} ×" if before else ""
            reasons.append(f"compiled {_signed(after - before)}: grouped convolution expanded {ratio}".rstrip())
        else:
            reasons.append(f"compiled {_signed(after - before)}: products rewritten or moved between layers")
    others = _executed([r for r in compiled if r.opcode not in PRODUCTS]) - _executed(
        [r for r in lowered if r.opcode not in PRODUCTS]
    )
    if abs(others) > SMALL * max(before, 1):
        why = "fusion: computed again where it is used" if others > 0 else "simplified, or shared with another layer"
        reasons.append(f"compiled {_signed(others)}: {why}")
    return reasons


def _whole(found: Xla) -> tuple[str, ...]:
    """How XLA's own totals stand to the sums of the instructions."""
    told = []
    pairs: list[tuple[str, Hlo, Any]] = [
        ("lowered", found.lowered, found.lowered_total), ("compiled", found.compiled, found.compiled_total)
    ]  # fmt: skip
    for name, rows, total in pairs:
        if total is not None:
            told.append(f"XLA says {quantity(total.flops)} {name}, its instructions sum to {quantity(rows.flops)}")
    return tuple(told)


def _signed(n: int) -> str:
    return f"{'+' if n > 0 else '−'}{quantity(abs(n))}"
