"""How long until a network can be used: import, random numbers, a ResNet-50's parameters, its trace.

python -m benchmarks.startup
"""

import subprocess
import sys
import time

import jax
import jax.numpy as jnp

import jconv
from benchmarks.report import machine, table, times
from jconv.layers.initializers import BLOCK
from jconv.layers.threefry import unrolled


def imported(statement: str, repeats: int = 7) -> float:
    """The median seconds of an import, each in an interpreter of its own."""
    program = f"import time; t = time.perf_counter(); {statement}; print(time.perf_counter() - t)"
    runs = [
        float(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)
        for _ in range(repeats)
    ]
    return sorted(runs)[repeats // 2]


def main() -> None:
    """Measure and print."""
    rows = [["import jax", f"{imported('import jax'):.2f} s"], ["import jconv", f"{imported('import jconv'):.2f} s"]]
    for name, of in (("jax.random", lambda key: key), ("unrolled", unrolled)):
        draw = jax.jit(lambda key, of=of: jax.random.normal(of(key), (BLOCK,)))
        began = time.perf_counter()
        jax.block_until_ready(draw(jax.random.key(0)))
        rows.append([f"{BLOCK:,} normal numbers by {name}, the first time", f"{time.perf_counter() - began:.2f} s"])
        [seconds] = times(lambda draw=draw: draw(jax.random.key(0)), repeats=99)
        rows.append([f"the same again, {name}, each", f"{seconds / BLOCK * 1e9:.1f} ns"])
    network = jconv.models.resnet(50)
    x = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    for what in ("ResNet-50 init, the first time", "ResNet-50 init, again"):
        began = time.perf_counter()
        params, state = jax.block_until_ready(network.init(jax.random.key(0), x))
        rows.append([what, f"{time.perf_counter() - began:.2f} s"])
    for what, train in (("ResNet-50 apply, traced", False), ("ResNet-50 apply in training, traced", True)):
        apply = jax.jit(network.apply, static_argnames="train")
        began = time.perf_counter()
        apply.trace(params, state, x, train=train)
        rows.append([what, f"{time.perf_counter() - began:.2f} s"])
    print(f"{machine()}\n\n{table(['what', 'time'], rows)}")


if __name__ == "__main__":
    main()
