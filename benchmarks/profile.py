"""Where does a training step's time go? XLA's profile of one step of a jconv network, summed by what was computed.

python -m benchmarks.profile "ResNeXt-50 32×4d"

The step is that of `benchmarks.step`. A fused loop counts for the operation that it ends in.
"""

import re
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import jax

from benchmarks.report import machine, table
from benchmarks.step import JCONV, by_jconv

CONTAINERS = ("while", "call", "conditional")
"""Their time is that of the operations inside, which are recorded too."""


def recorded(name: str) -> tuple[Counter[str], str]:
    """Nanoseconds of each of XLA's operations in one step, and the compiled program."""
    step: Any = by_jconv(name)[0]
    jax.block_until_ready(step())
    took: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            jax.block_until_ready(step())
        [file] = Path(folder).glob("**/*.xplane.pb")
        for plane in jax.profiler.ProfileData.from_file(str(file)).planes:
            for line in plane.lines:
                for event in line.events:
                    if "hlo_op" in dict(event.stats) and not event.name.startswith(CONTAINERS):
                        took[event.name] += event.duration_ns
    return took, step.func.as_text()


def paths(program: str) -> dict[str, str]:
    """For each operation of a compiled program the path of what was traced."""
    found = {}
    for line in program.splitlines():
        name, path = re.match(r"\s*(?:ROOT )?%?([\w.\-]+) = ", line), re.search(r'op_name="([^"]*)"', line)
        if name and path:
            found[name[1]] = path[1]
    return found


def main(name: str) -> None:
    """Print the table."""
    if name not in JCONV:
        raise SystemExit(f"unknown network {name!r}: expected one of {', '.join(JCONV)}")
    took, program = recorded(name)
    traced = paths(program)
    sums: Counter[tuple[str, str]] = Counter()
    for operation, ns in took.items():
        path = traced.get(operation, "")
        what = path.rpartition("/")[2] or re.sub(r"[.\d]+$", "", operation)
        when = "backward" if "transpose(" in path else "forward" if path else ""
        sums[what, when + ", in chunks" * ("while/body" in path)] += ns
    total = sum(sums.values())
    rows = [[what, when, f"{ns / 1e6:.0f}", f"{100 * ns / total:.0f}"] for (what, when), ns in sums.most_common(16)]
    rows.append(["all", "", f"{total / 1e6:.0f}", "100"])
    print(f"{name}, {machine()}\n\n{table(['ends in', 'pass', 'ms', '%'], rows)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
