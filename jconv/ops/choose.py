"""Which lowering a convolution takes where the user leaves the choice: a rule on its shape, and a measured table.

The rule, on a CPU: windows that do not overlap, above all 1×1, are a matmul; a window of many more multiply-adds than
its Fourier transform has operations is that; one channel a group is a sum of shifts; groups are im2col in chunks; and a
dense convolution takes what was fastest for the most similar one that was measured, for each of y, x and kernel on its
own. A program may run on another machine than lowers it, so the table has the times of several, and what is taken is
the fastest on average of those that are slower than XLA's own on none. Elsewhere XLA's own convolution is the vendor's
library. `python -m benchmarks.conv --tune` measures the table.
"""

import functools
import json
import math
import operator
import statistics
from importlib import resources
from typing import Any, NamedTuple

from jconv.ops.lowerings import LOWERINGS, Form, fft
from jconv.ops.window import Axis

__all__ = ["Choice", "choose", "takes"]

FAVOUR = {"lax": 1 / 1.1, "winograd": 1.1}
"""What a measured time counts for: where others save less than a tenth, XLA's own convolution is the simpler program; a
filter of Winograd's reads a kernel made larger and takes a second to compile, so it must save more, and `LEAST`."""
LEAST = {"winograd": 1.0}  # ms
DEPTHWISE = {"y": 1.6, "x": 1.6, "kernel": 0.8}
OTHERS = 16.0
LARGE = 10.0
"""From how many multiply-adds in the window for an operation of its Fourier transform the latter is faster, by slot.
The matmuls of a dense convolution are fast, and its slots share transforms, so all of them are one or none is; the sums
of shifts of a depthwise one are not, least of all over positions. For a window of more than `MANY` taps there is only
XLA's own besides, whose input gradient also multiplies by the zeros between strides. `python -m benchmarks.conv --match
large` measures around these numbers."""
ROOM = 1 << 30  # bytes that transforms may take
MANY = 121
"""Taps that a lowering with a step for each may have: of some hundreds it takes minutes to compile, and of more than
these XLA no longer makes one loop."""
PATCHES = 4  # times y's size, that all patches at once may have: those of few channels are read in one piece


class Choice(NamedTuple):
    """A lowering by name, and why it was taken."""

    lowering: str
    why: str


def choose(platform: str, slot: str, form: Form, batch: int, channels: int, features: int) -> Choice:
    """The lowering that computes this slot of the form fastest on this platform.

    Args:
        platform: as JAX names it, "cpu", "cuda", "tpu", ...
        slot: what is computed: "y", "x" (the input gradient) or "kernel" (the kernel gradient).
        batch, channels, features: of x and y.
    """
    if platform != "cpu":
        return Choice("lax", f"on {platform} XLA's own convolution is the vendor's library")
    if 0 in (batch, channels, features):
        return Choice("lax", "there is nothing to compute")
    if not all(isinstance(n, int) for n in form.sizes):
        return Choice("lax", "the image has no size yet, so its windows cannot be counted")
    if not all(isinstance(n, int) for n in (channels, features, form.groups)):
        return Choice("lax", "the channels have no number yet")
    if not LOWERINGS["matmul"].fits(form, channels, features):
        return Choice("matmul", "windows that do not overlap are the rows of a matrix product")
    depthwise = form.groups == channels and (channels > 1 or features == 1)  # one channel to many is a dense stem
    gain = _fourier(form, batch, channels, features)
    zeros = math.prod(a.stride for a in form.window) if slot == "x" and form.taps > MANY else 1
    if zeros * gain >= (DEPTHWISE[slot] if depthwise else OTHERS if form.taps <= MANY else LARGE):
        return Choice("fft", f"a window of {form.taps} has {gain:.1f} multiply-adds for an operation of its transform")
    if form.taps > MANY and form.groups > 1:
        return Choice("fft" if gain else "lax", f"the {form.taps} shifts of other lowerings take minutes to compile")
    if depthwise and form.taps <= MANY:
        return Choice("shift", "with one channel a group there is no sum over channels, so a matmul has nothing to do")
    if form.groups > 1:
        return Choice("chunked", "groups are one batched matmul over patches that stay in cache")
    if not isinstance(batch, int):
        return Choice("lax", "the batch has no size yet, so it cannot be cut into chunks")
    here = _place(form, batch, channels, features)
    near = min(_measured(), key=lambda row: math.dist(row["place"], here))
    found = {n: ms for n, ms in near[slot].items() if takes(n, form, channels, features)}  # on each machine
    times = {n: statistics.geometric_mean(ms) for n, ms in found.items()}
    safe = [n for n, ms in found.items() if all(map(operator.le, ms, found["lax"]))]
    best = min(safe, key=lambda name: times[name] * FAVOUR.get(name, 1) + LEAST.get(name, 0))
    table = ", ".join(f"{name} {ms:.3g} ms" for name, ms in sorted(times.items(), key=lambda pair: pair[1]))
    faster = min(times, key=lambda name: times[name])
    reason = "saves too little for its larger program" if faster in safe else "is not faster on every machine"
    why = "" if faster == best else f"; {faster} {reason}"
    return Choice(best, f"measured on {near['shape']}: {table}{why}")


def takes(name: str, form: Form, channels: int, features: int) -> bool:
    """Whether a lowering is for this form, compiles in seconds, and makes no patches much larger than y."""
    steps = {"lax": 1, "winograd": 1, "space_to_depth": form.taps / form.window[-1].stride}.get(name, form.taps)
    large = name == "im2col" and form.taps * channels > PATCHES * features
    return steps <= MANY and not large and not LOWERINGS[name].fits(form, channels, features)


def _fourier(form: Form, batch: int, channels: int, features: int) -> float:
    """Multiply-adds in the windows for each operation of a Fourier transform; 0 where there can be none."""
    if not isinstance(batch, int):
        return 0.0
    work = fft.work(form, batch, channels, features)
    direct = batch * math.prod(form.out) * form.taps * channels * features // form.groups
    return direct / (work.transforms + work.products / 2) if work.bytes <= ROOM else 0.0


def _place(form: Form, batch: int, channels: int, features: int) -> tuple[float, ...]:
    """Where a dense convolution lies among others: what its speed depends on, in doublings, weighted."""
    window = form.window
    return (
        math.log2(batch * math.prod(form.out)),
        math.log2(math.prod(form.out)),
        2 * math.log2(channels),
        math.log2(features),
        2 * math.log2(form.taps),
        3 * math.log2(math.prod(a.stride for a in window)),
        3 * math.log2(max(a.dilation for a in window)),
        4.0 * len(window),
    )


@functools.cache
def _measured() -> list[dict[str, Any]]:
    """The dense rows of the table, each with its place."""
    rows = json.loads(resources.files("jconv.ops").joinpath("cpu.json").read_text())["rows"]
    return [{**row, "place": _place(*_form(**row["of"]))} for row in rows]


def _form(
    sizes: list[int], window: list[list[int]], groups: int, batch: int, channels: int, features: int
) -> tuple[Form, int, int, int]:
    return Form(tuple(sizes), tuple(Axis(*a) for a in window), groups), batch, channels, features
