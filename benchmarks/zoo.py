"""The zoo's figures: lines for each architecture beside timm's, and seconds until a network is ready.

python -m benchmarks.zoo            # writes benchmarks/zoo.md
python -m benchmarks.zoo lines      # one section, printed: lines or start
"""

import ast
import functools
import importlib.metadata
import importlib.util
import re
import statistics
import sys
import time
import tokenize
from collections.abc import Sequence
from pathlib import Path

import jax

from benchmarks.report import machine, table
from jconv import models
from tests.models.zoo import NUMBERS

FAMILIES = {
    "ResNet": (("resnet",), ("resnet",)),
    "VGG": (("vgg",), ("vgg",)),
    "Inception-v3": (("inception",), ("inception_v3",)),
    "DenseNet": (("densenet",), ("densenet",)),
    "MobileNetV1, V2, EfficientNet": (
        ("mobilenet", "efficientnet"),
        ("efficientnet", "_efficientnet_blocks", "_efficientnet_builder"),
    ),
    "MobileNetV3": (("mobilenet_v3",), ("mobilenetv3", "_efficientnet_blocks", "_efficientnet_builder")),
    "Xception": (("xception",), ("xception",)),
    "RegNet": (("regnet",), ("regnet",)),
    "ConvNeXt": (("convnext",), ("convnext",)),
}
"""Our files, to which `imported` adds what they are made of, and timm's, without what either keeps in its layers."""


SIZES = {"flattened_cnn": 32, "flattened_cnn_baseline": 32}
"""Of images, for networks without published numbers that keep the size they were initialised with."""


def imported(home: Path, names: Sequence[str]) -> list[str]:
    """These modules and all of ours that they import, but the class that every network is of."""
    found = list(names)
    for name in found:  # it grows
        more = re.findall(r"^from jconv\.models\.(\w+) import", (home / f"{name}.py").read_text(), re.MULTILINE)
        found += [m for m in more if m not in (*found, "network")]
    return found


def counted(path: Path) -> tuple[int, int, int]:
    """Lines of a file: all; of code; of code that defines networks, without tables of checkpoints and their entries."""
    with tokenize.open(path) as file:
        text = file.read()
    tree, skipped = ast.parse(text), set[int]()
    names: set[int] = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        first = body[0] if isinstance(body, list) and body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            skipped |= set(range(first.lineno, (first.end_lineno or 0) + 1))
    for node in tree.body:
        targets = {t.id for t in getattr(node, "targets", []) if isinstance(t, ast.Name)}
        decorators = {d.id for d in getattr(node, "decorator_list", []) if isinstance(d, ast.Name)}
        called = {node.value.func.id for node in [node] if _calls(node)}  # pyright: ignore[reportAttributeAccessIssue]
        if targets & {"default_cfgs"} or "register_model" in decorators or "register_model_deprecations" in called:
            start = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
            names |= set(range(start, (node.end_lineno or 0) + 1))
    blank = {i for i, line in enumerate(text.splitlines(), 1) if not line.strip() or line.strip().startswith("#")}
    every = set(range(1, len(text.splitlines()) + 1))
    return len(every), len(every - skipped - blank), len(every - skipped - blank - names)


def _calls(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Name)


def lines() -> str:
    """Both sides' lines, and how many times as many timm has."""
    spec = importlib.util.find_spec("timm")
    if spec is None or spec.origin is None:
        raise SystemExit("timm is not here: pip install timm")
    homes = (Path(models.__file__).parent, Path(spec.origin).parent / "models")
    rows, ratios = [], []
    for family, files in FAMILIES.items():
        sides = [
            [sum(column) for column in zip(*(counted(home / f"{name}.py") for name in names), strict=True)]
            for home, names in zip(homes, (imported(homes[0], files[0]), files[1]), strict=True)
        ]
        ratios.append([theirs / ours for ours, theirs in zip(*sides, strict=True)])
        rows.append([family, *(f"{a} / {b} = {b / a:.1f}" for a, b in zip(*sides, strict=True))])
    medians = [f"**{statistics.median(column):.1f}**" for column in zip(*ratios, strict=True)]
    rows.append(["**median**", *medians])
    head = ["timm's lines / jconv's", "all", "code", "code without checkpoints and their entries"]
    return (
        f"## Lines\n\ntimm {importlib.metadata.version('timm')}. Code is what is no docstring, comment or blank line. "
        f"Files that families share are counted for each.\n\n{table(head, rows)}\n"
    )


def start() -> str:
    """Seconds from a name to parameters and a traced program, each network in turn."""
    rows, total = [], []
    for name in models.list():
        size = NUMBERS[name].size if name in NUMBERS else SIZES.get(name, 224)
        shape = (1, size, size, 3) if isinstance(size, int) else (1, *size)
        began = time.perf_counter()
        net = models.create(name)
        jax.block_until_ready(net.init(jax.random.key(0), jax.ShapeDtypeStruct(shape, "float32")))
        made = time.perf_counter() - began
        x = jax.ShapeDtypeStruct(shape, "float32")
        arrays = jax.eval_shape(net.init, jax.random.key(0), x)
        began = time.perf_counter()
        jax.jit(functools.partial(net.apply, train=True)).trace(*arrays, x, key=jax.random.key(0))
        traced = time.perf_counter() - began
        rows.append((made + traced, name, made, traced))
        total.append(made + traced)
    rows.sort(reverse=True)
    slow = [[name, f"{made:.2f}", f"{traced:.2f}", f"{both:.2f}"] for both, name, made, traced in rows[:10]]
    return (
        f"## Ready\n\nSeconds from a name to its parameters, and to the jaxpr of a training pass, for all "
        f"{len(rows)} networks at their own size: median {statistics.median(total):.2f}, the slowest "
        f"{rows[0][0]:.2f}.\n\n{table(['network', 'create and init', 'trace', 'both'], slow)}\n"
    )


def main(section: str | None = None) -> None:
    """Print a section, or write them all."""
    sections = {"lines": lines, "start": start}
    if section is not None:
        print(sections[section]())
        return
    text = f"# The zoo\n\n`python -m benchmarks.zoo`. {machine()}.\n\n" + "\n".join(f() for f in sections.values())
    Path(__file__).with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main(*sys.argv[1:])
