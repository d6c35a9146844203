"""jconv: convolutions, a functional model zoo, training and a cost laboratory for JAX."""

from jconv import layers, models, ops
from jconv.ops.conv import conv

__version__ = "0.1.0"

__all__ = ["conv", "layers", "models", "ops"]
