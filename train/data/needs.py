"""`with needs("train"): import pooch`: an optional package that is missing becomes a RunError that names the extra.

The extras are those of pyproject.toml: `train` (pillow, pooch, rich, scikit-learn) and `tfds`.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from train.errors import RunError


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Turns an ImportError of the block into a RunError that says which extra to install."""
    try:
        yield
    except ImportError as error:
        missing = error.name or str(error)
        raise RunError(f'The package {missing} is not installed; run: pip install "jconv[{extra}]"') from error
