"""How fast is a convolution? Every lowering, Flax and torch, forward and with both gradients.

python -m benchmarks.conv                  # the table and the plot, in benchmarks/conv.md and benchmarks/conv.png
python -m benchmarks.conv --tune           # each lowering by direction: the table that `auto` chooses from
python -m benchmarks.conv --match ResNeXt  # only some of the convolutions
"""

import argparse
import json
import math
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.report import times
from benchmarks.shapes import SHAPES, Shape
from jconv.ops.choose import choose
from jconv.ops.lowerings import LOWERINGS, SLOTS, Form
from jconv.ops.trilinear import solve
from jconv.ops.window import axes

Arrays = dict[str, jax.Array]


def form_of(s: Shape) -> Form:
    """The convolution that a shape describes."""
    window = axes((s.size,) * s.rank, s.kernel, stride=s.stride, padding=None)
    return Form((s.size,) * s.rank, window, s.groups)


def arrays_of(s: Shape) -> Arrays:
    """Random x, kernel and y."""
    rng = np.random.default_rng(0)
    x = (s.batch, *(s.size,) * s.rank, s.channels)
    kernel = (*(s.kernel,) * s.rank, s.channels // s.groups, s.features)
    y = form_of(s).shape("y", x, kernel)
    made = zip(SLOTS, (x, kernel, y), strict=True)
    return {slot: jax.device_put(rng.standard_normal(shape, np.float32)) for slot, shape in made}


def tune(s: Shape) -> dict[str, dict[str, float]]:
    """Milliseconds of every lowering that fits, for each slot that may be open."""
    form, arrays = form_of(s), arrays_of(s)
    found = {}
    for slot in ("y", "x", "kernel"):
        names = [n for n, lowering in LOWERINGS.items() if not lowering.fits(form, s.channels, s.features)]
        given = {k: v for k, v in arrays.items() if k != slot}
        runs = []
        for name in names:
            f = jax.jit(lambda given, slot=slot, name=name: solve(slot, form, name, **given))
            runs.append(partial(f, given))
        found[slot] = dict(zip(names, (round(1e3 * t, 3) for t in times(*runs)), strict=True))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--match", default="")
    options = parser.parse_args()
    for s in SHAPES:
        if options.match not in f"{s.kind} {s}":
            continue
        found = tune(s)
        form = form_of(s)
        line = []
        for slot, ms in found.items():
            chosen = choose("cpu", slot, form, s.batch, s.channels, s.features).lowering
            line.append(f"{slot}: " + " ".join(f"{'*' if n == chosen else ''}{n} {v:.2f}" for n, v in ms.items()))
        print(f"{s.kind} | {s} | " + " | ".join(line), flush=True)


if __name__ == "__main__":
    main()
