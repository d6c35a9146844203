"""How fast is a convolution? Every lowering, Flax and torch, forward and with both gradients.

python -m benchmarks.conv                  # conv.json, and of it the table conv.md and the plot conv.png
python -m benchmarks.conv --match ResNeXt  # some of the convolutions; what is known of the others stays
python -m benchmarks.conv --missing        # those that conv.json does not have: go on after a run that was stopped
python -m benchmarks.conv --tune           # each lowering for each slot: jconv/ops/cpu.json, which `auto` chooses from
python -m benchmarks.conv --tune --beside  # the same, beside the times of other machines that it has
"""

import argparse
import dataclasses
import json
import math
import os
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jconv
from benchmarks.report import machine, optional, table, times
from benchmarks.shapes import SHAPES, Shape
from jconv.ops.choose import takes
from jconv.ops.lowerings import LOWERINGS, SLOTS, Form
from jconv.ops.trilinear import solve
from jconv.ops.window import axes
from train.checkpoint import write

torch = optional("torch")
Run = Callable[[], Any]
HERE = Path(__file__).parent
TABLE = HERE.parent / "jconv/ops/cpu.json"
CANDIDATES = ("lax", "im2col", "chunked", "shift", "kn2row", "winograd", "space_to_depth")
"""For `auto`, of dense convolutions whose windows overlap. winograd4 rounds worse than lax."""
RESULTS = HERE / "conv.json"
UNROLLED = ("im2col", "kn2row", "shift")
"""Lowerings with a step for each element of a window: of hundreds, they take minutes to compile."""
SMALL = 9
"""Taps of a window whose Fourier transform takes seconds and a hundred times as long as any other way."""


def form_of(s: Shape) -> Form:
    """The convolution that a shape describes."""
    sizes = (s.size,) * s.rank
    return Form(sizes, axes(sizes, s.kernel, stride=s.stride, dilation=s.dilation), s.groups)


def arrays_of(s: Shape, dtype: str = "float32") -> dict[str, jax.Array]:
    """Random x, kernel and y."""
    rng = np.random.default_rng(0)
    x = (s.batch, *(s.size,) * s.rank, s.channels)
    kernel = (*(s.kernel,) * s.rank, s.channels // s.groups, s.features)
    y = form_of(s).shape("y", x, kernel)
    made = zip(SLOTS, (x, kernel, y), strict=True)
    return {slot: jax.device_put(rng.standard_normal(shape, np.float32)).astype(dtype) for slot, shape in made}


def tune(match: str, beside: bool) -> None:
    """Measure every candidate for every slot of the dense shapes with this in their names, and write the table.

    A row has a time for each machine that it was measured on, this one or, `beside` them, this one last.
    """
    known = {row["shape"]: row for row in json.loads(TABLE.read_text())["rows"]}
    rows = []
    for s in SHAPES:
        form = form_of(s)
        if s.groups > 1 or not LOWERINGS["matmul"].fits(form, s.channels, s.features):
            continue
        if match not in f"{s.kind} {s}":
            rows += [known[str(s)]] if str(s) in known else []
            continue
        arrays = arrays_of(s)
        before = known.get(str(s), {}) if beside else {}
        row: dict[str, Any] = {"shape": str(s), "machines": [*before.get("machines", ()), machine()]}
        row["of"] = {
            "sizes": form.sizes, "window": form.window, "groups": form.groups,
            "batch": s.batch, "channels": s.channels, "features": s.features,
        }  # fmt: skip
        for slot in ("y", "x", "kernel"):
            given = {k: v for k, v in arrays.items() if k != slot}
            names = [n for n in CANDIDATES if takes(n, form, s.channels, s.features)]
            names = [n for n in names if (slot, n) != ("kernel", "kn2row")]  # which is chunked's
            runs = [partial(jax.jit(partial(solve, slot, form, n)), **given) for n in names]
            found = times(*runs, repeats=9, budget=1.0)
            took = {n: float(f"{1e3 * t:.3g}") for n, t in zip(names, found, strict=True)}
            others = before.get(slot) or dict.fromkeys(took, ())
            row[slot] = {n: [*others[n], ms] for n, ms in took.items() if n in others}
        rows.append(row)
        print(s, *(f"{slot}: {row[slot]}" for slot in ("y", "x", "kernel")), sep=" | ", file=sys.stderr, flush=True)
    lines = ",\n".join(f"  {json.dumps(row, ensure_ascii=False)}" for row in rows)
    about = "python -m benchmarks.conv --tune; milliseconds on each machine, float32"
    write(TABLE, f'{{"about": "{about}",\n"rows": [\n{lines}\n]}}\n'.encode())


@dataclasses.dataclass
class Way:
    """One way to compute a convolution: forward, and forward with both gradients."""

    forward: Run
    both: Run
    bytes: int | None = None
    """Of arguments, result and temporaries, forward with gradients."""


def by_jax(conv: Callable, arrays: dict[str, jax.Array]) -> Way:
    """A JAX function of x and kernel."""

    def both(x: jax.Array, kernel: jax.Array, y: jax.Array) -> Any:
        value, transpose = jax.vjp(conv, x, kernel)
        return value, transpose(y)

    x, kernel, y = arrays.values()
    compiled = jax.jit(both).lower(x, kernel, y).compile()
    memory = compiled.memory_analysis()
    used = memory and memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes
    return Way(partial(jax.jit(conv), x, kernel), partial(compiled, x, kernel, y), used)


def by_flax(s: Shape, arrays: dict[str, jax.Array]) -> dict[str, Way]:
    """Linen's and NNX's Conv."""
    from flax import linen, nnx

    form = form_of(s)
    options: dict[str, Any] = {
        "kernel_size": (s.kernel,) * s.rank, "strides": (s.stride,) * s.rank, "use_bias": False,
        "padding": [(a.lo, a.hi) for a in form.window], "kernel_dilation": s.dilation, "feature_group_count": s.groups,
    }  # fmt: skip
    old = linen.Conv(s.features, **options)
    graph, state = nnx.split(nnx.Conv(s.channels, s.features, rngs=nnx.Rngs(0), **options))

    def new(x: jax.Array, kernel: jax.Array) -> jax.Array:
        replaced = jax.tree.map(lambda _: kernel, state)
        return nnx.merge(graph, replaced)(x)

    return {
        "Linen": by_jax(lambda x, kernel: old.apply({"params": {"kernel": kernel}}, x), arrays),
        "NNX": by_jax(new, arrays),
    }


def by_torch(s: Shape, arrays: dict[str, jax.Array]) -> Way | None:
    """torch's convolution, channels last, by oneDNN."""
    if torch is None or s.rank == 3:
        return None
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    form, rank, dtype = form_of(s), s.rank, getattr(torch, arrays["x"].dtype.name)
    first = (0, rank + 1, *range(1, rank + 1))

    def images(a: jax.Array) -> Any:
        return torch.from_numpy(np.array(a, np.float32)).to(dtype).permute(first)

    x, y = images(arrays["x"]), images(arrays["y"])
    kernel = torch.from_numpy(np.array(arrays["kernel"], np.float32)).to(dtype).permute(rank + 1, rank, *range(rank))
    kernel = kernel.contiguous(memory_format=torch.channels_last) if rank == 2 else kernel.contiguous()
    f = {1: torch.nn.functional.conv1d, 2: torch.nn.functional.conv2d}[rank]
    options = {"stride": s.stride, "padding": form.window[0].lo, "dilation": s.dilation, "groups": s.groups}

    def forward() -> Any:
        with torch.no_grad():
            return f(x, kernel, **options)

    def both() -> Any:
        a, b = x.detach().requires_grad_(), kernel.detach().requires_grad_()
        value = f(a, b, **options)
        return value, torch.autograd.grad(value, (a, b), y)

    return Way(forward, both)


def measure(s: Shape, dtype: str) -> dict[str, tuple[float, float, int | None]]:
    """Seconds forward and with gradients, and bytes, of every way."""
    arrays, form = arrays_of(s, dtype), form_of(s)
    conv = partial(
        jconv.conv, stride=s.stride, padding=[(a.lo, a.hi) for a in form.window], dilation=s.dilation, groups=s.groups
    )
    names = ["auto", *(n for n, one in LOWERINGS.items() if not one.fits(form, s.channels, s.features))]
    names = [n for n in names if form.taps <= 121 or n not in UNROLLED]
    names = [n for n in names if form.taps > SMALL or n != "fft"]
    ways = {name: by_jax(partial(conv, lowering=name), arrays) for name in names}
    if s.groups == 1:  # with groups it takes seconds, and is lax's all the same
        ways |= by_flax(s, arrays)
    if way := by_torch(s, arrays):
        ways["torch"] = way
    pair, rest = list(ways)[:2], list(ways)[2:]  # auto and lax, which are compared most closely, in turn
    forward, both = {}, {}
    for took, kind, budget in ((forward, "forward", 0.15), (both, "both", 0.3)):
        for names, repeats, each in ((pair, 101, 8 * budget), (rest, 11, budget)):
            found = times(*(getattr(ways[n], kind) for n in names), repeats=repeats, budget=each)
            took.update(zip(names, found, strict=True))
    return {n: (forward[n], both[n], w.bytes) for n, w in ways.items()}


def mean(values: Sequence[float]) -> float:
    """The geometric mean."""
    return statistics.geometric_mean(values) if values else math.nan


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--match", default="", help="only the convolutions whose kind or name has this in it")
    parser.add_argument("--dtype", default="float32", help="float32, which is what conv.md has, or bfloat16")
    parser.add_argument(
        "--tune", action="store_true", help="write the table that auto chooses from; the rest of it stays"
    )
    parser.add_argument("--beside", action="store_true", help="with --tune: keep the times of other machines too")
    parser.add_argument("--missing", action="store_true", help="go on: only those that conv.json does not have")
    options = parser.parse_args()
    if options.tune:
        return tune(options.match, options.beside)
    if options.beside:
        parser.error("--beside is for --tune: it keeps the times of other machines in its table")
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() and options.dtype == "float32" else {}
    found = {}
    for s in SHAPES:
        if options.match not in f"{s.kind} {s}" or (options.missing and str(s) in kept):
            continue
        ways = found[s] = measure(s, options.dtype)
        kept[str(s)] = {"measured": stamp(), "ways": ways}
        print(s, *(f"{n} {1e3 * f:.2f} {1e3 * b:.2f}" for n, (f, b, _) in ways.items()), sep=" | ", file=sys.stderr)
        if options.dtype == "float32":
            write(RESULTS, dump(kept))
    print(report(found, options.dtype, [stamp()]))
    if options.dtype != "float32":
        return
    rows = {s: kept[str(s)] for s in SHAPES if str(s) in kept}
    if len(rows) < len(SHAPES):
        print(f"conv.json has {len(rows)} of {len(SHAPES)} convolutions; with all of them, --missing writes conv.md")
        return
    known, stamps = {s: row["ways"] for s, row in rows.items()}, [row["measured"] for row in rows.values()]
    write(HERE / "conv.md", report(known, options.dtype, stamps).encode())
    draw(known)


def stamp() -> str:
    """The machine, the versions, the date."""
    return machine() + (f", torch {torch.__version__}" if torch else "")


def dump(kept: dict[str, Any]) -> bytes:
    """JSON with a line for each convolution."""
    lines = (f"{json.dumps(name, ensure_ascii=False)}: {json.dumps(row)}" for name, row in kept.items())
    return "{{\n{}\n}}\n".format(",\n".join(lines)).encode()


Found = dict[Shape, dict[str, tuple[float, float, int | None]]]


def report(found: Found, dtype: str, stamps: Sequence[str]) -> str:
    """Two tables in Markdown: each convolution, and each kind of them."""
    others = [n for n in (*LOWERINGS, "Linen", "NNX", "torch") if n != "lax"]
    head = ["convolution", "lax", "auto", "auto / lax", "with gradients: lax", "auto", "auto / lax"]
    head += [f"{n} / lax" for n in others] + ["auto / torch", "memory, auto / lax"]
    rows, kinds = [], {}
    for s, ways in found.items():
        (f, b, _), (g, c, own) = ways["lax"], ways["auto"]
        plain = ways["lax"][2]
        row = [str(s), *(f"{v:.3g}" for v in (1e3 * f, 1e3 * g, f / g, 1e3 * b, 1e3 * c, b / c))]
        row += [f"{b / ways[n][1]:.2f}" if n in ways else "" for n in others]
        torchs = ways["torch"][1] / c if "torch" in ways else None
        row += [f"{torchs:.2f}" if torchs else "", f"{own / plain:.2f}" if own and plain else ""]
        rows.append(row)
        kinds.setdefault(s.kind, []).append((f / g, b / c, torchs))
    summary = []
    for kind, ratios in kinds.items():
        forward, both, torchs = zip(*ratios, strict=True)
        values = (min(forward), mean(forward), min(both), mean(both), mean([t for t in torchs if t]))
        summary.append([kind, str(len(ratios)), *(f"{v:.2f}" for v in values)])
    counted = Counter(stamps).items()
    means = ["kind", "shapes", "least, forward", "mean, forward", "least, with gradients", "mean", "mean over torch"]
    return f"""# Convolutions

`python -m benchmarks.conv` wrote this. {"; ".join(f"{n} × {s}" if n < len(stamps) else s for s, n in counted)}.
{dtype}, least of at most 101 turns for auto and lax, 11 for the others. Milliseconds, and how many times faster:
"auto / lax" is lax's time over auto's, and so for the others, with gradients where nothing else is said.
"With gradients" is forward and both gradients. Memory is arguments, results and temporaries, with gradients.

{table(means, summary)}

{table(head, rows)}
"""


def draw(found: Found) -> None:
    """How many times faster than lax, and than torch, with gradients."""
    from matplotlib.figure import Figure

    kinds = list(dict.fromkeys(s.kind for s in found))
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    for ax, other in zip(figure.subplots(1, 2, sharey=True), ("lax", "torch"), strict=True):
        for i, kind in enumerate(kinds):
            ratios = [w[other][1] / w["auto"][1] for s, w in found.items() if s.kind == kind and other in w]
            ax.plot(ratios, [i] * len(ratios), "o", color="C0", alpha=0.45, ms=6)
            if ratios:
                ax.plot(mean(ratios), i, "|", color="black", ms=16, mew=2)
        ax.axvline(1, color="gray", lw=1)
        ax.set(xscale="log", xlabel=f"times faster than {'plain JAX' if other == 'lax' else 'torch'}")
        low, high = ax.get_xlim()
        ticks = [t for t in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200) if low <= t <= high]
        ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
        ax.minorticks_off()
        ax.set(yticks=range(len(kinds)), yticklabels=kinds)
        ax.grid(alpha=0.2, axis="x")
        ax.spines[["top", "right"]].set_visible(False)
    figure.suptitle("jconv.conv on a CPU, forward and both gradients; bar: geometric mean", fontsize=10)
    figure.savefig(HERE / "conv.png", dpi=120)


if __name__ == "__main__":
    main()
