"""scikit-learn's handwritten digits: 1,797 images of 8x8 pixels that come with the package, so no download.

A network learns them in seconds, which makes them the data of smoke tests and of a first try.
"""

import numpy as np

from train.data.needs import needs
from train.data.types import Dataset, Split


def load_digits() -> Dataset:
    """Loads the digits; values 0..16 become uint8 0..255, one channel.

    Every fifth image (index % 5 == 0) validates, 360 in all; the other 1,437 train. Mean and standard deviation are
    those of the training images.

    Example:
        >>> data = load_digits()
        >>> data.train.images.shape, data.val.images.shape
        ((1437, 8, 8, 1), (360, 8, 8, 1))

    References:
        Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998.
    """
    with needs("train"):
        from sklearn import datasets
    pixels, labels = datasets.load_digits(return_X_y=True)
    images = np.round(pixels.reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    validates = np.arange(len(labels)) % 5 == 0

    def split(chosen: np.ndarray) -> Split:
        count = int(chosen.sum())
        return Split(images[chosen], labels[chosen].astype(np.int32), np.full((count, 2), 8, np.int32))

    train = split(~validates)
    scaled = train.images / 255
    names = tuple(str(digit) for digit in range(10))
    return Dataset("digits", train, split(validates), names, (float(scaled.mean()),), (float(scaled.std()),), ())
