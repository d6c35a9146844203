"""What torch computed once: that its digests tell any change, and that the random numbers are those of the record."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jconv.models import tcn
from tests.models import record
from tests.models.parity import EXACT, Results, noise, ours, tensor

SHAPES: dict[str, tuple[int, ...]] = {"y": (3, 4, 5, 2), "a.mean": (7,), "b.var": (1,)}


def results(rng: np.random.Generator) -> Results:
    arrays = {name: rng.normal(size=shape) for name, shape in SHAPES.items()}
    return {"evaluation": {"y": arrays.pop("y")}, "statistics": arrays}


def test_a_digest_tells_any_one_number(rng: np.random.Generator) -> None:
    right = results(rng)
    kept = record.digests(right)
    assert kept["evaluation"].shape == (1, 3 + record.SAMPLES)
    assert kept["statistics"].shape == (2, 3 + record.SAMPLES // 2)
    assert max(record.differences(kept, kept).values()) == 0
    for what, arrays in right.items():
        for name, a in arrays.items():
            for i in range(a.size):
                moved = a.copy()
                moved.flat[i] += 1e-5 * np.abs(a).max()
                found = record.differences(record.digests({**right, what: {**arrays, name: moved}}), kept)
                assert found[what] > 10 * EXACT, (name, i)
                assert all(d == 0 for other, d in found.items() if other != what)


def test_digests_of_other_results(rng: np.random.Generator) -> None:
    kept = record.digests(results(rng))
    with pytest.raises(ValueError, match=r"digests: expected {'evaluation': .*'statistics': .*}, got {'evaluation'"):
        record.differences({"evaluation": kept["evaluation"]}, kept)


def test_a_file_keeps_each_test(rng: np.random.Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "FOLDER", tmp_path / "parity")
    first, second, third = (record.digests(results(rng)) for _ in range(3))
    record.write("test_a", {"test_x[1]": first, "test_x[2]": second})
    record.write("test_a", {"test_x[2]": third})
    for test, right in (("test_x[1]", first), ("test_x[2]", third)):
        found = record.read("test_a", test)
        assert found.keys() == right.keys()
        assert all(np.array_equal(found[what], rows) for what, rows in right.items())
    for file, test in (("test_a", "test_x"), ("test_b", "test_x[1]")):
        with pytest.raises(ValueError, match=r"no record of test_x.* in test_.\.npz: write it by `python -m pytest"):
            record.read(file, test)


TCN: dict[str, Any] = {"levels": 3, "kernel": 3, "channels": 6, "width": 8, "dropout": 0.0, "num_classes": 10}


@pytest.mark.parametrize("change", [{"act": "leaky_relu"}, {"levels": 2}, {"seed": 1}])
def test_another_function_and_other_weights_are_told(change: dict[str, Any]) -> None:
    options = {**TCN, "seed": 0, **change}
    seed = options.pop("seed")
    right = record.read("test_text", "test_they_are_torchs[tcn]")
    found = record.differences(record.digests(ours(tcn(**options), (4, 21, 6), seed=seed)), right)
    assert min(found.values()) > 1e-3


def test_random_numbers_are_those_of_the_record() -> None:
    np.testing.assert_array_equal(noise("x", (3,)), [1.0457473881761823, 1.1956167690495092, 1.5801355545895788])
    np.testing.assert_array_equal(noise("x", (2, 3)), noise("x", (6,)).reshape(2, 3))
    many = [noise(name, (4096,), seed) for name, seed in (("x", 0), ("y", 0), ("x", 1))]
    np.testing.assert_allclose(np.cov(many), np.eye(3), atol=0.1)
    np.testing.assert_allclose(np.mean(many, axis=1), 0, atol=0.1)


@pytest.mark.parametrize(("a", "b"), [((6, 4), (6, 4, 1, 1)), ((6, 8), (6, 2, 2, 2)), ((5,), (5, 1, 1))])
def test_an_entry_is_the_same_in_another_shape(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    for name in ("fc.weight", "fc.bias", "block.gamma"):
        np.testing.assert_array_equal(tensor(name, a, 0).ravel(), tensor(name, b, 0).ravel())


def test_entries_keep_activations_of_one_size() -> None:
    kernel = tensor("conv.weight", (256, 8, 3, 3), 0)
    np.testing.assert_allclose(kernel.var(), 2 / 72, rtol=0.05)
    for name in ("bn.weight", "bn.running_var", "gamma"):
        values = tensor(name, (999,), 0)
        assert 0.5 <= values.min() < 0.51 and 1.49 < values.max() <= 1.5
    assert np.abs(tensor("bn.running_mean", (999,), 0)).max() < 0.2
