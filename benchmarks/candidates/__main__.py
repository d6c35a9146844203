"""Each candidate beside the lowerings of the package, slot by slot: `python -m benchmarks.candidates`."""

import argparse
import sys
from collections import defaultdict
from functools import partial
from pathlib import Path

import jax
import numpy as np

from benchmarks.candidates import CANDIDATES
from benchmarks.conv import arrays_of, form_of
from benchmarks.report import machine, table, times
from benchmarks.shapes import SHAPES
from jconv.ops.lowerings import LOWERINGS, SLOTS

KINDS = ("stem", "dense")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--match", default="", help="only the convolutions whose kind or name has this in it")
    options = parser.parse_args()
    rows, wins = [], defaultdict(list)
    for s in (s for s in SHAPES if s.kind in KINDS):
        if options.match not in f"{s.kind} {s}":
            continue
        form, arrays = form_of(s), arrays_of(s)
        ours = [n for n, one in LOWERINGS.items() if n != "im2col" and not one.fits(form, s.channels, s.features)]
        others = [n for n, one in CANDIDATES.items() if not one.fits(form, s.channels, s.features)]
        for slot in SLOTS:
            given = [a for name, a in arrays.items() if name != slot]
            ways = [{**LOWERINGS, **CANDIDATES}[n] for n in (*ours, *others)]
            runs = [partial(jax.jit(partial(getattr(way, slot), form=form)), *given) for way in ways]
            right, *values = (np.asarray(run()) for run in runs)
            for name, value in zip((*ours, *others)[1:], values, strict=True):
                error = np.abs(value - right).max() / np.abs(right).max()
                if error > 1e-2:
                    raise SystemExit(f"{name}, {slot} of {s}: differs from lax's by {error:.2g} of the largest value")
            found = dict(zip((*ours, *others), times(*runs, repeats=7, budget=0.2), strict=True))
            best = min(ours, key=lambda name: found[name])
            ratios = {n: found[best] / found[n] for n in others}
            for name, ratio in ratios.items():
                wins[name].append(ratio)
            cells = [f"{ratios[n]:.2f}" if n in ratios else "" for n in CANDIDATES]
            rows.append([str(s), slot, best, f"{1e3 * found[best]:.3g}", *cells])
            print(*rows[-1], sep=" | ", file=sys.stderr, flush=True)
    summary = [
        [n, str(len(r)), f"{max(r):.2f}", str(sum(v > 1.1 for v in r)), f"{np.exp(np.mean(np.log(r))):.2f}"]
        for n, r in wins.items()
    ]
    text = f"""# Lowerings that were tried

`python -m benchmarks.candidates` wrote this. {machine()}.
float32, least of at most 7 turns; slots are y (forward), x (input gradient) and kernel (kernel gradient). A candidate's
column is how many times faster it is than the fastest lowering of the package: above 1 it wins.

{table(["candidate", "slots measured", "at best", "slots above 1.1", "geometric mean"], summary)}

{table(["convolution", "slot", "fastest of the package", "ms", *CANDIDATES], rows)}
"""
    print(text)
    if not options.match:
        Path(__file__).parents[1].joinpath("candidates.md").write_text(text)


if __name__ == "__main__":
    main()
