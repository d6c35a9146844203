"""Instance paths for modules that push no scopes of their own: NNX has none, Equinox has only names of classes."""

import dataclasses
import functools
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import jax

__all__ = ["scopes"]

Model = TypeVar("Model")


def scopes(model: Model) -> Model:
    """The same model, each of whose modules calls itself under its own path: `layers.0.conv1`.

    It computes what the model computes and has the same leaves; its modules are of subclasses of their classes. Linen
    and Haiku push the paths of their modules themselves.

    Args:
        model: an NNX or an Equinox module.

    Returns:
        A copy with scopes.

    Raises:
        ValueError: anything else.

    Example:
        >>> from flax import nnx
        >>> model = scopes(nnx.Sequential(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), nnx.relu))
        >>> graph, params = nnx.split(model)
        >>> from jconv import cost
        >>> x = jax.ShapeDtypeStruct((4, 2), "float32")
        >>> result = cost.analyze(lambda params, x: nnx.merge(graph, params)(x), params, x)
        >>> [layer.path for layer in result.by_layer() if layer.cost.macs]
        ['layers.0']
    """
    library = {c.__module__.partition(".")[0] for c in type(model).__mro__}
    if "equinox" in library:
        return _of_equinox(model, "")
    if "flax" in library and any(c.__module__.startswith("flax.nnx") for c in type(model).__mro__):
        return _of_nnx(model)
    raise ValueError(
        f"model: expected an NNX or an Equinox module, got {type(model).__name__}; "
        f"Linen and Haiku have scopes, and for functions there is jax.named_scope"
    )


def _of_nnx(model: Any) -> Any:
    nnx = sys.modules["flax.nnx"]  # which the model has imported
    model = nnx.clone(model)
    nodes = {tuple(map(str, path)): node for path, node in nnx.iter_graph(model) if isinstance(node, nnx.Module)}
    modules = {path: node for path, node in nodes.items() if callable(node)}  # a list of modules is none
    for path, module in modules.items():
        above = max((len(p) for p in modules if p == path[: len(p)] and p != path), default=0)
        if path:
            module.__class__ = _scoped(type(module), "/".join(path[above:]))
    return model


def _of_equinox(value: Any, name: str) -> Any:
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return type(value)(_of_equinox(v, f"{name}/{i}") for i, v in enumerate(value))
    if isinstance(value, dict):
        return {k: _of_equinox(v, f"{name}/{k}") for k, v in value.items()}
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    if not any(c.__module__.startswith("equinox") for c in type(value).__mro__):
        return value
    copy = object.__new__(_scoped(type(value), name) if name else type(value))
    for field in dataclasses.fields(value):
        if hasattr(value, field.name):
            object.__setattr__(copy, field.name, _of_equinox(getattr(value, field.name), field.name))
    return copy


@functools.cache
def _scoped(kind: type, name: str) -> type:
    """A subclass whose instances call themselves in a scope of that name."""
    call: Callable | None = getattr(kind, "__call__", None)  # noqa: B004
    if call is None:
        return kind

    @functools.wraps(call)
    def scoped(self: Any, *args: Any, **options: Any) -> Any:
        with jax.named_scope(name):
            return call(self, *args, **options)

    return type(kind)(kind.__name__, (kind,), {"__call__": scoped, "__module__": kind.__module__})
