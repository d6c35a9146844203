"""Golden files: the paths and shapes of some networks' arrays, in tests/golden; `python -m tests.goldens` writes them.

What torch computed of others is in tests/golden/parity, by tests/models/record.py.

They are what published weights are converted by, so a change here is a change that breaks somebody's checkpoint.
"""

import json
from pathlib import Path

import jax

from jconv import models

FOLDER = Path(__file__).parent / "golden"
NAMES = ("resnet18", "resnet50d", "seresnet50", "resnext50_32x4d")

Shapes = dict[str, list[int]]


def shapes(name: str) -> dict[str, Shapes]:
    """The joined path and shape of every parameter and statistic of a model."""
    x = jax.ShapeDtypeStruct((1, 64, 64, 3), "float32")
    params, state = jax.eval_shape(models.create(name).init, jax.random.key(0), x)
    return {"params": _joined(params), "state": _joined(state)}


def _joined(tree: dict) -> Shapes:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {".".join(part.key for part in path): list(leaf.shape) for path, leaf in leaves}


def read(name: str) -> dict[str, Shapes]:
    """What the golden file says."""
    return json.loads((FOLDER / f"{name}.json").read_text())


def write(name: str) -> None:
    """The golden file, an array a line."""
    groups = []
    for group, arrays in shapes(name).items():
        lines = ",\n".join(f"    {json.dumps(path)}: {json.dumps(shape)}" for path, shape in arrays.items())
        groups.append(f'  "{group}": {{\n{lines}\n  }}')
    (FOLDER / f"{name}.json").write_text("{\n" + ",\n".join(groups) + "\n}\n")


if __name__ == "__main__":
    for each in NAMES:
        write(each)
