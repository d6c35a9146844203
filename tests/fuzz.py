"""The long run of the law that every lowering is the oracle: as many random convolutions as there is time for.

python -m tests.fuzz --configurations 100000 --jobs 2

Value and both gradients of each, by every lowering that takes it (after a change to one, by `--lowering NAME` alone),
in chunks of random size: padded by pairs or by name, turned round, or by way of the transposed convolution. XLA would
compile for most of the time, so StableHLO's reference interpreter runs the programs: another judge than the compiler,
and an exact one.
It has no complex numbers, and aborts on some of the convolutions that JAX makes of the gradients of a transposed one:
the Fourier transforms and those are compiled, without optimisation.
Seeds are independent: with `--jobs`, processes share them out; a failure names the seed that shows it again.
With `--record FILE`, each seed that was right is a line of JSON there, and is not run again when the run goes on.
"""

import argparse
import gc
import json
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import numpy as np
from jaxlib.mlir import ir
from jaxlib.mlir.dialects import stablehlo
from rich.progress import track

from jconv import explain
from jconv.ops.lowerings import LOWERINGS, chunks
from tests.catalogue import fast_jit
from tests.ops.test_conv import (
    CLOSE,
    Numbers,
    compare,
    expected,
    lowerings,
    options,
    random_numbers,
    value_and_gradients,
)
from tests.oracles import Case, random_case, varied

EACH = 100  # configurations for one seed


def results(case: Case, numbers: Numbers, only: str) -> dict[str, Numbers]:
    """Value and both gradients by every lowering, or by this one if it takes the case."""
    arrays: list[Any] = [a.astype(np.float32) for a in numbers]
    found: dict[str, Numbers] = {}
    chosen = [choice.lowering for choice in explain(*arrays[:2], **options(case), platform="cpu")]
    beyond = {"fft", *(["auto"] if "fft" in chosen else []), *(["lax"] if case.transposed else [])}
    wanted = {name for name in lowerings(case) if only in ("", name)}
    for run, names in ((interpreted, wanted - beyond), (compiled, wanted & beyond)):
        if names:
            flat = run(partial(program, [*names], case), arrays)
            found |= dict(zip(names, zip(flat[::3], flat[1::3], flat[2::3], strict=True), strict=True))
    return found


def program(names: list[str], case: Case, x: jax.Array, kernel: jax.Array, dy: jax.Array) -> list[jax.Array]:
    """Value and both gradients by these lowerings, one after another."""
    return [a for name in names for a in value_and_gradients(case, name, x, kernel, dy)]


def interpreted(f: Callable, arrays: list[Any]) -> list[np.ndarray]:
    """By the reference interpreter."""
    module: Any = jax.jit(f).lower(*arrays).compiler_ir("stablehlo")
    with module.context:
        return [np.array(a) for a in stablehlo.eval_module(module, [ir.DenseElementsAttr.get(a) for a in arrays])]


def compiled(f: Callable, arrays: list[Any]) -> list[np.ndarray]:
    """By XLA."""
    return [np.asarray(a) for a in fast_jit(f)(*arrays)]


def run(seed: int, only: str = "") -> Counter[str]:
    """The configurations of one seed: how many times each lowering, or this one, was right."""
    rng = np.random.default_rng([seed, EACH])
    counted: Counter[str] = Counter()
    for _ in range(EACH):
        size, case = int(10 ** rng.uniform(2, 5)), varied(rng, random_case(rng))
        numbers = random_numbers(rng, case)
        with mock.patch.object(chunks, "CHUNK", size):
            found = results(case, numbers, only)
        try:
            compare(case, found, expected(case, numbers), **CLOSE)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, chunks of {size} bytes: {error}") from None
        counted.update(list(found))
    jax.clear_caches()
    gc.collect()
    return counted


def recorded(path: Path) -> dict[int, Counter[str]]:
    """The seeds that were right, by the record of earlier runs; a line that was cut off counts for nothing."""
    found = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        with suppress(json.JSONDecodeError):
            entry = json.loads(line)
            found[entry["seed"]] = Counter(entry["right"])
    return found


def main() -> None:
    """Run, record, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configurations", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=100, help=f"the first; each is of {EACH} configurations")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--lowering", choices=("auto", *LOWERINGS), default="", help="by this one alone")
    parser.add_argument("--record", type=Path, default=Path(os.devnull), help="seeds that were right, to go on from")
    o = parser.parse_args()
    if o.lowering and o.record != Path(os.devnull):
        parser.error("--record is of every lowering: its seeds would not be run again by one; leave one of the two out")
    seeds = range(o.seed, o.seed - (-o.configurations // EACH))
    began, right = time.time(), recorded(o.record)
    spawn = multiprocessing.get_context("spawn")
    # Garbage is collected once a seed: collecting at every turn searches all that JAX keeps, a tenth of the time.
    pool = ProcessPoolExecutor(o.jobs, spawn, initializer=gc.disable)
    with ExitStack() as after, o.record.open("a") as record:
        after.callback(pool.shutdown, cancel_futures=True)
        running = {pool.submit(run, seed, o.lowering): seed for seed in seeds if seed not in right}
        for task in track(as_completed(running), total=len(running)):
            right[running[task]] = task.result()
            print(json.dumps({"seed": running[task], "right": task.result()}), file=record, flush=True)
    took = f"{time.time() - began:.0f} s"
    print(f"{EACH * len(seeds)} configurations, seeds {seeds[0]} to {seeds[-1]}, {took}: all right")
    print(", ".join(f"{name} {n}" for name, n in sum((right[s] for s in seeds), Counter()).items()))


if __name__ == "__main__":
    main()
