"""How fast is each lowering of a convolution? Forward, input gradient and kernel gradient, against XLA's own.

python -m benchmarks.lowerings            # prints the table and writes benchmarks/lowerings.md
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import jconv
from benchmarks.report import machine, table, times
from jconv.ops.lowerings import LOWERINGS


class Shape(NamedTuple):
    """A convolution over square images."""

    what: str
    batch: int
    size: int
    channels: int
    features: int
    kernel: int
    stride: int = 1
    groups: int = 1


SHAPES = (
    Shape("stem 7×7/2", 32, 64, 3, 64, 7, 2),
    Shape("stem 3×3/2", 32, 64, 3, 32, 3, 2),
    Shape("stem 3×3", 32, 32, 32, 64, 3),
    Shape("ResNet-18 layer1", 32, 16, 64, 64, 3),
    Shape("ResNet-18 layer2.0", 32, 16, 64, 128, 3, 2),
    Shape("ResNet-18 layer2", 32, 8, 128, 128, 3),
    Shape("ResNet-18 layer3", 32, 4, 256, 256, 3),
    Shape("ResNet-18 layer4", 32, 2, 512, 512, 3),
    Shape("shortcut 1×1/2", 32, 16, 64, 128, 1, 2),
    Shape("bottleneck 1×1", 32, 16, 256, 64, 1),
    Shape("ResNeXt, 32 groups", 32, 16, 128, 128, 3, 1, 32),
)


def programs(shape: Shape, lowering: str) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """The convolution, and the convolution with both gradients, on random input."""
    rng = np.random.default_rng(0)
    s, k = shape, shape.kernel
    x = jax.device_put(rng.standard_normal((s.batch, s.size, s.size, s.channels), np.float32))
    kernel = jax.device_put(rng.standard_normal((k, k, s.channels // s.groups, s.features), np.float32))
    conv = partial(jconv.conv, stride=s.stride, padding=k // 2, groups=s.groups, lowering=lowering)
    forward = jax.jit(conv)
    cotangent = jax.device_put(rng.standard_normal(forward(x, kernel).shape, np.float32))

    @jax.jit
    def both(x: jax.Array, kernel: jax.Array, cotangent: jax.Array) -> Any:
        y, transpose = jax.vjp(conv, x, kernel)
        return y, transpose(cotangent)

    return partial(forward, x, kernel), partial(both, x, kernel, cotangent)


def main() -> None:
    """Measure, print, write."""
    names = [n for n in LOWERINGS if n != "lax"]
    head = ["convolution", "input", "lax, ms", *(f"{n}, × lax" for n in names)]
    head += ["lax + gradients, ms", *(f"{n}, × lax" for n in names)]
    rows = []
    for shape in SHAPES:
        row = [shape.what, f"{shape.batch}×{shape.size}²×{shape.channels} to {shape.features}"]
        variants = [programs(shape, n) for n in ("lax", *names)]
        for which in (0, 1):
            lax, *others = times(*(v[which] for v in variants))
            row += [f"{1e3 * lax:.1f}", *(f"{lax / other:.2f}" for other in others)]
        rows.append(row)
        print(*row, file=sys.stderr)
    text = f"Times faster than `lax`, forward and with both gradients, float32.\n{machine()}.\n\n{table(head, rows)}\n"
    print(text)
    command = "# The lowerings of a convolution\n\n`python -m benchmarks.lowerings` wrote this.\n"
    (Path(__file__).with_suffix(".md")).write_text(f"{command}{text}")


if __name__ == "__main__":
    main()
