"""Batches: every example once, in the order asked for, ahead of the consumer, and no thread that outlives them."""

import threading

import numpy as np
import pytest

from train.data import Split, batches

N = 23


@pytest.fixture
def split() -> Split:
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (N, 4, 4, 3), np.uint8)
    return Split(images, np.arange(N, dtype=np.int32), rng.integers(1, 9, (N, 2)).astype(np.int32))


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("batches")]


@pytest.mark.parametrize("prefetch", [0, 1, 2, 50])
@pytest.mark.parametrize("batch_size", [1, 5, N, 100])
def test_every_example_once_in_order(split: Split, batch_size: int, prefetch: int) -> None:
    order = np.random.default_rng(2).permutation(N)
    got = list(batches(split, order, batch_size, prefetch=prefetch))
    assert [len(batch["label"]) for batch in got[:-1]] == [batch_size] * (len(got) - 1)
    for key, values in (("image", split.images), ("label", split.labels), ("size", split.sizes)):
        joined = np.concatenate([batch[key] for batch in got])
        np.testing.assert_array_equal(joined, values[order])
        assert joined.dtype == values.dtype
    assert threads() == []


def test_the_same_order_gives_the_same_batches(split: Split) -> None:
    order = np.random.default_rng(3).permutation(N)
    for one, two in zip(batches(split, order, 4), batches(split, order, 4, prefetch=0), strict=True):
        for key in one:
            np.testing.assert_array_equal(one[key], two[key])


def test_memory_map_becomes_an_array(split: Split, tmp_path) -> None:
    np.save(tmp_path / "images.npy", split.images)
    mapped = Split(np.load(tmp_path / "images.npy", mmap_mode="r"), split.labels, split.sizes)
    batch = next(batches(mapped, np.arange(N), 5))
    assert type(batch["image"]) is np.ndarray and batch["image"].flags.writeable
    np.testing.assert_array_equal(batch["image"], split.images[:5])


def test_gathers_ahead(split: Split) -> None:
    gathered = threading.Semaphore(0)

    class Counting(np.ndarray):
        def __getitem__(self, index):
            gathered.release()
            return np.asarray(self)[index]

    stream = batches(Split(split.images.view(Counting), split.labels, split.sizes), np.arange(N), 5, prefetch=2)
    next(stream)
    for _ in range(3):  # the one that was taken and two more, with nobody asking
        assert gathered.acquire(timeout=10)
    assert not gathered.acquire(timeout=0.05)


def test_leaving_early_ends_the_thread(split: Split) -> None:
    for batch in batches(split, np.arange(N), 2):
        assert threads() != [] and len(batch["label"]) == 2
        break
    assert threads() == []


def test_exceptions_reach_the_caller(split: Split) -> None:
    stream = batches(split, np.array([0, 1, 2, N, 3, 4]), 2)
    np.testing.assert_array_equal(next(stream)["label"], [0, 1])
    with pytest.raises(IndexError, match=f"index {N} is out of bounds"):
        list(stream)
    assert threads() == []


def test_an_empty_order_gives_nothing(split: Split) -> None:
    assert list(batches(split, np.arange(0), 4)) == []


def test_bad_arguments(split: Split) -> None:
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        batches(split, np.arange(N), 0)
    with pytest.raises(ValueError, match="prefetch must be at least 0, got -1"):
        batches(split, np.arange(N), 4, prefetch=-1)
