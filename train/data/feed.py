"""Batches of a split in a given order, gathered ahead of the training step by one background thread.

The order is the caller's, so that a run can be repeated or taken up again: nothing here is random.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from train.data.types import Split

Batch = dict[str, np.ndarray]


def batches(split: Split, order: np.ndarray, batch_size: int, *, prefetch: int = 2) -> Iterator[Batch]:
    """Yields the examples `order[0:B]`, `order[B:2B]`, ... of the split, with B the batch size.

    Args:
        split: the examples.
        order: int (m,), indices into the split: a permutation for an epoch, `np.arange(len(split))` for validation.
        batch_size: examples in a batch; the last batch may be short.
        prefetch: batches to hold ready; 0 gathers each when it is asked for.

    Returns:
        An iterator of dicts: image uint8 (B, side, side, channels), label int32 (B,), size int32 (B, 2). Leaving the
        loop early (or closing the iterator) ends the thread.

    Raises:
        ValueError: batch_size < 1 or prefetch < 0.
        IndexError: at the batch that holds it, for an index outside of the split.

    Example:
        >>> split = Split(np.zeros((5, 2, 2, 1), np.uint8), np.arange(5, dtype=np.int32), np.full((5, 2), 2, np.int32))
        >>> [batch["label"].tolist() for batch in batches(split, np.array([4, 2, 0, 1, 3]), 2)]
        [[4, 2], [0, 1], [3]]
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if prefetch < 0:
        raise ValueError(f"prefetch must be at least 0, got {prefetch}")
    return _ahead(split, np.asarray(order), batch_size, prefetch)


def _ahead(split: Split, order: np.ndarray, batch_size: int, prefetch: int) -> Iterator[Batch]:
    pending: deque[Future[Batch]] = deque()
    pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
    try:
        for start in range(0, len(order), batch_size):
            pending.append(pool.submit(_gather, split, order[start : start + batch_size]))
            if len(pending) > prefetch:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _gather(split: Split, indices: np.ndarray) -> Batch:
    return {"image": split.images[indices], "label": split.labels[indices], "size": split.sizes[indices]}
