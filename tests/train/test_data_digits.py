"""scikit-learn's digits: shapes, scaling, the split and the statistics."""

import numpy as np
from sklearn import datasets

from train.data import load
from train.data.digits import load_digits


def test_split_is_every_fifth() -> None:
    data = load_digits()
    pixels, labels = datasets.load_digits(return_X_y=True)
    assert data.train.images.shape == (1437, 8, 8, 1) and data.val.images.shape == (360, 8, 8, 1)
    np.testing.assert_array_equal(data.val.labels, labels[::5])
    np.testing.assert_array_equal(data.train.labels, np.delete(labels, np.s_[::5]))
    np.testing.assert_allclose(data.val.images.reshape(360, 64), pixels[::5] * 255 / 16, atol=0.5)


def test_types_and_statistics() -> None:
    data = load_digits()
    for split in (data.train, data.val):
        assert (split.images.dtype, split.labels.dtype, split.sizes.dtype) == (np.uint8, np.int32, np.int32)
        assert split.images.max() == 255 and (split.sizes == 8).all() and split.sizes.shape == (len(split), 2)
    assert data.mean == (float((data.train.images / 255).mean()),)
    assert data.std == (float((data.train.images / 255).std()),)
    assert data.classes == tuple("0123456789") and data.skipped == ()


def test_load_ignores_side() -> None:
    assert load("digits", side=32).train.images.shape == (1437, 8, 8, 1)
