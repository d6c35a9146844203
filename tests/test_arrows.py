"""The rooms of the house: imports only point down, train -> jconv.models -> jconv.layers -> jconv.ops -> jax."""

import ast
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted(p.relative_to(ROOT).as_posix() for room in ("jconv", "train") for p in (ROOT / room).rglob("*.py"))

# A module, the longest name that fits, and what it may import beside the standard library and itself.
BASE = ("jax", "numpy")
MAY: dict[str, tuple[str, ...]] = {
    "jconv": ("jconv", *BASE),
    "jconv.ops": BASE,
    "jconv.layers": ("jconv.ops", *BASE),
    "jconv.models": ("jconv.weights", "jconv.layers", "jconv.ops", *BASE),
    "jconv.cost": ("jconv.ops", "jconv.layers", "jaxlib", *BASE),
    "jconv.cost.cli": ("jconv.cost", "jconv.models", *BASE),  # the command line takes names of networks
    "jconv.cost.report": ("jconv.cost", "rich"),
    "jconv.telemetry": ("jconv.ops", "jconv.layers", *BASE),
    "jconv.weights": ("jconv.layers", "safetensors", "huggingface_hub", "torch", "PIL", *BASE),
    "jconv.export": ("jconv.layers", "jconv.ops", "jax2onnx", *BASE),
    "jconv.bridge": ("jconv.layers", "jconv.ops", "flax", *BASE),
}
MAY_NOT: dict[str, tuple[str, ...]] = {"jconv": ("train", "tests", "benchmarks"), "train": ("tests", "benchmarks")}


def imports(code: str, module: str) -> Iterator[str]:
    """Every module that the code names in an import, wherever it stands; `from a import b` is `a.b`."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def inside(name: str, room: str) -> bool:
    return name == room or name.startswith(f"{room}.")


def any_of(name: str, rooms: Iterable[str]) -> bool:
    return any(inside(name, room) for room in rooms)


def violations(path: str, code: str) -> list[str]:
    """The imports of a file that point up, or out."""
    module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    rooms = [room for room in MAY if inside(module, room)]
    wrong = []
    for name in imports(code, module if not path.endswith("__init__.py") else f"{module}.__init__"):
        if any_of(name, (bad for room, bads in MAY_NOT.items() if inside(module, room) for bad in bads)):
            wrong.append(name)
        elif rooms and name.partition(".")[0] not in sys.stdlib_module_names:
            room = max(rooms, key=len)
            if not any_of(name, (room, *MAY[room])):
                wrong.append(name)
    return wrong


@pytest.mark.parametrize("path", FILES)
def test_arrows_point_down(path: str) -> None:
    assert not violations(path, (ROOT / path).read_text())


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("jconv/ops/conv.py", "from jconv.layers import Conv"),
        ("jconv/ops/conv.py", "from jconv import layers"),
        ("jconv/ops/conv.py", "import flax"),
        ("jconv/ops/lowerings/lax.py", "def f():\n    import jconv.models"),
        ("jconv/ops/__init__.py", "from ..layers import Conv"),
        ("jconv/layers/base.py", "from jconv.models.network import Network"),
        ("jconv/models/resnet.py", "from flax import linen"),
        ("jconv/cost/count.py", "from jconv.models import resnet"),
        ("jconv/telemetry.py", "import jconv.models.resnet"),
        ("jconv/models/__init__.py", "from train.config import Config"),
        ("jconv/__init__.py", "import optax"),
        ("train/loop.py", "from tests import oracles"),
    ],
)
def test_an_arrow_that_points_up_is_noticed(path: str, code: str) -> None:
    assert violations(path, code)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("jconv/ops/conv.py", "import math, jax.numpy\nfrom jax import lax\nfrom jconv.ops.window import axes"),
        ("jconv/layers/parametric.py", "from jconv import ops"),
        ("jconv/ops/__init__.py", "from .conv import conv"),
        ("jconv/bridge.py", "from flax import nnx"),
        ("train/loop.py", "import optax\nfrom jconv import models"),
    ],
)
def test_an_arrow_that_points_down_is_not(path: str, code: str) -> None:
    assert not violations(path, code)


def test_the_files_are_found() -> None:
    assert {"jconv/__init__.py", "jconv/ops/conv.py", "jconv/layers/base.py", "jconv/models/resnet.py"} <= set(FILES)
