"""A network as a file that needs no Python code of ours: StableHLO for JAX's own runtimes, ONNX for others."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from jax import export

from jconv.layers import Conv, ConvTranspose, Layer, Params, State
from jconv.layers.base import Composite

__all__ = ["to_onnx", "to_stablehlo"]


def to_stablehlo(
    model: Layer,
    params: Params,
    state: State,
    x: jax.Array | jax.ShapeDtypeStruct,
    *,
    platforms: Sequence[str] = ("cpu", "cuda", "tpu"),
    batch: str | None = "n",
) -> export.Exported:
    """The network in evaluation, with its weights inside, as a StableHLO program for these platforms.

    Each convolution is lowered for the platform that runs it. With a symbolic batch the CPU takes XLA's own
    convolutions for all but depthwise and 1×1 ones: without a batch size there is nothing to cut into chunks.

    Args:
        model, params, state: the network and its weights.
        x: an input, of which only shape and dtype are read.
        platforms: which may run it.
        batch: a name for a batch of any size; None keeps x's.

    Returns:
        `.serialize()` is the file's bytes, `jax.export.deserialize(b).call(x)` runs them.

    Example:
        >>> import jax.numpy as jnp
        >>> from jconv.layers import Conv
        >>> conv, x = Conv(4, 3), jnp.ones((1, 8, 8, 3))
        >>> program = to_stablehlo(conv, *conv.init(jax.random.key(0), x), x)
        >>> export.deserialize(program.serialize()).call(jnp.ones((5, 8, 8, 3))).shape
        (5, 8, 8, 4)
    """
    size = export.symbolic_shape(batch)[0] if batch else x.shape[0]
    run = jax.jit(lambda x: model.apply(params, state, x)[0])
    return export.export(run, platforms=tuple(platforms))(jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype))


def to_onnx(model: Layer, params: Params, state: State, x: jax.Array | jax.ShapeDtypeStruct, path: str | Path) -> Path:
    """The network in evaluation, with its weights inside, as an ONNX file with a batch of any size; by jax2onnx.

    Args:
        model, params, state: the network and its weights.
        x: an input, of which only shape and dtype are read; images stay (N, H, W, C).
        path: the file to write.

    Returns:
        The path.

    Raises:
        ImportError: jax2onnx is not installed.
    """
    import jax2onnx  # pyright: ignore[reportMissingImports]

    if isinstance(model, Composite):  # what the converter knows is lax's own convolution
        model = model.update(Conv, lowering="lax").update(ConvTranspose, lowering="lax")
    spec: Any = ("B", *x.shape[1:])
    jax2onnx.to_onnx(lambda x: model.apply(params, state, x)[0], [spec], return_mode="file", output_path=str(path))
    return Path(path)
