"""What torch computed once: a digest of every result, in tests/golden/parity, a file for each file of tests."""

from pathlib import Path

import numpy as np

from tests.models.parity import Results, noise

__all__ = ["Digests", "differences", "digests", "read", "write"]

FOLDER = Path(__file__).parents[1] / "golden" / "parity"
SAMPLES = 64  # of a result; its arrays share them

Digests = dict[str, np.ndarray]
"""{"evaluation", "gradient", "training", "statistics": numbers}, a row (`_row`) for every array, by name."""


def digests(results: Results) -> Digests:
    """What is kept of each result: a row for each array, in the order of their names."""
    samples = {what: max(1, SAMPLES // len(arrays)) for what, arrays in results.items()}
    return {what: np.stack([_row(n, a[n], samples[what]) for n in sorted(a)]) for what, a in results.items()}


def _row(name: str, a: np.ndarray, samples: int) -> np.ndarray:
    """The largest value, the norm, the product with a random array, which every number moves, and a few of them."""
    flat = a.astype(np.float64).ravel()
    at = np.linspace(0, flat.size - 1, samples).round().astype(int)
    return np.array([np.abs(flat).max(), np.linalg.norm(flat), flat @ noise(name, flat.shape), *flat[at]])


def differences(found: Digests, right: Digests) -> dict[str, float]:
    """The largest difference of each result: of values over the largest of their array, of products over its norm.

    Raises:
        ValueError: they are not of the same results or of as many arrays.
    """
    sizes, expected = ({what: rows.shape for what, rows in d.items()} for d in (found, right))
    if sizes != expected:
        raise ValueError(f"digests: expected {expected}, got {sizes}")
    return {what: float((np.abs(found[what] - rows) / _sizes(rows)).max()) for what, rows in right.items()}


def _sizes(rows: np.ndarray) -> np.ndarray:
    largest, norm = rows[:, :1], rows[:, 1:2]
    return np.concatenate([largest, norm, norm, np.broadcast_to(largest, rows[:, 3:].shape)], 1)


def read(file: str, test: str) -> Digests:
    """What is kept of a test.

    Raises:
        ValueError: nothing is; with the command that keeps it.
    """
    path, start = FOLDER / f"{file}.npz", f"{test}/"
    found = {key.removeprefix(start): a for key, a in _kept(path).items() if key.startswith(start)}
    if not found:
        command = f"python -m pytest tests/models/{file}.py -m parity --record"
        raise ValueError(f"no record of {test} in {path.name}: write it by `{command}`, where torch is installed")
    return found


def write(file: str, tests: dict[str, Digests]) -> None:
    """Keep these tests' digests, beside those of other tests that the file has."""
    path = FOLDER / f"{file}.npz"
    kept = {key: a for key, a in _kept(path).items() if key.rpartition("/")[0] not in tests}
    kept |= {f"{test}/{what}": rows for test, d in tests.items() for what, rows in d.items()}
    path.parent.mkdir(exist_ok=True)
    np.savez(path, **{key: kept[key] for key in sorted(kept)})  # pyright: ignore[reportArgumentType]


def _kept(path: Path) -> dict[str, np.ndarray]:
    if not path.exists():
        return {}
    with np.load(path) as arrays:
        return dict(arrays)
