"""Meshes whose axes are explicit: what an array is split along is part of its type, and each operation must say it.

References:
    JAX's "Explicit sharding" guide: https://docs.jax.dev/en/latest/notebooks/explicit-sharding.html
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

__all__ = ["automatic", "split"]

Split = Sequence[Any]
"""For each axis of an array the mesh axes it is split along: None, a name, or a tuple of names."""


def split(a: jax.Array) -> Split:
    """The explicit mesh axes along which each axis of an array is split."""
    found = jax.typeof(a).sharding.spec
    return (*found, *(None,) * (a.ndim - len(found)))


def automatic(f: Callable[..., jax.Array], *operands: jax.Array, out: Callable[[], Split]) -> jax.Array:
    """`f(*operands)`, in which the compiler splits arrays as it likes, and of which the result is split like `out()`.

    What `out` names twice, or where sizes do not divide, is not split there. Without explicit axes this is `f` itself.
    """
    meshes = [jax.typeof(a).sharding.mesh for a in operands]
    mesh = next((m for m in meshes if AxisType.Explicit in (m.axis_types or ())), None)
    if mesh is None:
        return f(*operands)
    shape = jax.eval_shape(f, *(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in operands)).shape
    taken: set[str] = set()
    spec = []
    for n, axes in zip(shape, out(), strict=True):
        names = axes if isinstance(axes, tuple) else () if axes is None else (axes,)
        fits = not taken.intersection(names) and n % math.prod(mesh.shape[name] for name in names) == 0
        spec.append(axes if fits else None)
        taken.update(names if fits else ())
    inside: Any = jax.sharding.auto_axes(f, out_sharding=NamedSharding(mesh, PartitionSpec(*spec)))
    return inside(*operands)
