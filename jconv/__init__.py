"""jconv: convolutions, a functional model zoo, training and a cost laboratory for JAX."""

from jconv import layers, models, ops
from jconv.ops.conv import conv
from jconv.ops.conv_transpose import conv_transpose
from jconv.ops.explain import explain

__version__ = "0.1.0"

__all__ = ["conv", "conv_transpose", "explain", "layers", "models", "ops"]
