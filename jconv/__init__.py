"""jconv: convolutions, a functional model zoo, training and a cost laboratory for JAX."""

import importlib
from typing import TYPE_CHECKING, Any

from jconv import layers, models, ops
from jconv.ops.conv import conv
from jconv.ops.conv_transpose import conv_transpose
from jconv.ops.explain import explain

if TYPE_CHECKING:
    from jconv import bridge, cost, export, weights

__version__ = "0.1.0"

__all__ = ["bridge", "conv", "conv_transpose", "cost", "explain", "export", "layers", "models", "ops", "weights"]


def __getattr__(name: str) -> Any:
    """The rooms that not every program enters are opened when first asked for."""
    if name in __all__:
        return importlib.import_module(f"jconv.{name}")
    raise AttributeError(f"module 'jconv' has no attribute {name!r}")
