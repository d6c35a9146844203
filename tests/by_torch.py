"""torch as the second oracle: a function of it on arrays with channels last, in float64."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest


def by_torch(f: Callable[[Any, Any], Any], x: np.ndarray, dy: np.ndarray | None = None) -> tuple[np.ndarray, Any]:
    """`f(torch, x)` and, given dy, the gradient that it hands back to x; the test is skipped where torch is missing."""
    torch = pytest.importorskip("torch")
    first = torch.tensor(np.moveaxis(np.asarray(x, np.float64), -1, 1), requires_grad=dy is not None)
    y = f(torch, first)
    if dy is None:
        return np.moveaxis(y.numpy(), 1, -1), None
    y.backward(torch.tensor(np.moveaxis(np.asarray(dy, np.float64), -1, 1)))
    return np.moveaxis(y.detach().numpy(), 1, -1), np.moveaxis(first.grad.numpy(), 1, -1)
