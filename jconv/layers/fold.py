"""A network made ready for inference: every BatchNorm that directly follows a convolution folded into it."""

import dataclasses
from collections import Counter
from collections.abc import Iterator
from functools import reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jconv.layers.base import Composite, Layer, Params, Run, State
from jconv.layers.norm import BatchNorm
from jconv.layers.parametric import Conv, ConvTranspose, Linear
from jconv.layers.simple import Identity
from jconv.ops.lowerings.taps import swapped
from jconv.ops.norm import fold_batch_norm

__all__ = ["fold"]

_folded = jax.jit(fold_batch_norm, static_argnames="eps")  # one program for each shape, not one for each operation


def fold(
    model: Layer, params: Params, state: State, x: jax.Array | jax.ShapeDtypeStruct
) -> tuple[Layer, Params, State]:
    """The same function in evaluation, with one convolution where there were a convolution and a BatchNorm.

    "Directly followed" is found, not guessed from names: the network is traced with each layer as one call, and a pair
    is folded where the BatchNorm's input is the convolution's output, nothing else uses that output, and each of the
    two is called once. `ConvTranspose` and `Linear` count as convolutions. All other layers keep their paths.

    Args:
        model: a network. Of a single layer nothing can be folded.
        params, state: its arrays.
        x: an input of the network, of which only shape and dtype are read.

    Returns:
        The network with a biased Conv for each folded pair and Identity in the BatchNorm's place, and its params and
        state. `apply` agrees to rounding with `train=False`. Do not train it: there are no statistics to follow.

    Example:
        >>> from jconv.layers import Sequential
        >>> net = Sequential(conv=Conv(8, 3, bias=False), bn=BatchNorm())
        >>> x = jax.ShapeDtypeStruct((1, 8, 8, 3), "float32")
        >>> folded, params, state = fold(net, *net.init(jax.random.key(0), x), x)
        >>> print(folded)
        Sequential
          conv: Conv(8, 3)
          bn: Identity()
        >>> list(params["conv"]), state
        (['kernel', 'bias'], {})

    References:
        Jacob et al. 2017, arXiv:1712.05877, section 3.2.
    """
    if not isinstance(model, Composite):
        return model, params, state
    edits: dict[tuple[str, ...], Layer] = {}
    params, state = jax.tree.map(lambda a: a, (params, state))  # new dicts of the same arrays
    for conv, norm in _pairs(model, params, state, x):
        at, affine, statistics = _at(params, conv.path), _at(params, norm.path), _at(state, norm.path)
        kernel = at["kernel"]
        if isinstance(conv.layer, Conv):
            kernel = conv.layer.effective_kernel(at)
            options: dict[str, Any] = {f.name: getattr(conv.layer, f.name) for f in dataclasses.fields(Conv)}
            edits[conv.route] = Conv(**{**options, "bias": True})
        else:
            edits[conv.route] = dataclasses.replace(conv.layer, bias=True)
        numbers = (statistics.pop("mean"), statistics.pop("var"), affine.pop("scale"), affine.pop("bias"))
        if isinstance(conv.layer, ConvTranspose):  # its features are not the kernel's last axis
            kernel = swapped(kernel, conv.layer.groups)
        at["kernel"], at["bias"] = _folded(kernel, at.get("bias"), *numbers, eps=norm.layer.eps)
        if isinstance(conv.layer, ConvTranspose):
            at["kernel"] = swapped(at["kernel"], conv.layer.groups)
        edits[norm.route] = Identity()
    return _edited(model, (), edits), _without_empty(params), _without_empty(state)


class _Call(NamedTuple):
    """A layer that the network applies: the children's names that lead to it, where its arrays are, and itself."""

    route: tuple[str, ...]
    path: str
    layer: Any


def _pairs(
    model: Composite, params: Params, state: State, x: jax.Array | jax.ShapeDtypeStruct
) -> Iterator[tuple[_Call, _Call]]:
    """Each convolution whose output goes to a BatchNorm and nowhere else, and that BatchNorm."""
    whole, calls = _trace(model, params, state, x)
    times = Counter(call.path for call in calls.values())
    for jaxpr in _with_inner(whole):
        uses = Counter(id(v) for v in (*(v for eqn in jaxpr.eqns for v in eqn.invars), *jaxpr.outvars))
        made: dict[int, _Call] = {}
        for eqn in jaxpr.eqns:
            call = calls.get(eqn.params.get("name", ""))
            if call is None:
                continue
            of, before = id(eqn.invars[0]), made.get(id(eqn.invars[0]))
            made[id(eqn.outvars[0])] = call
            once = before and times[before.path] == times[call.path] == uses[of] == 1
            if before and once and _is(before.layer, Conv, ConvTranspose, Linear) and _is(call.layer, BatchNorm):
                yield before, call


def _trace(
    model: Composite, params: Params, state: State, x: jax.Array | jax.ShapeDtypeStruct
) -> tuple[Any, dict[str, _Call]]:
    """The network as a jaxpr in which each layer is one call of a function, and what the functions' names mean."""
    calls: dict[str, _Call] = {}

    def run_in(layer: Composite, route: tuple[str, ...], path: str) -> Run:
        def run(name: str, x: jax.Array) -> jax.Array:
            child, part = layer.children()[name], layer.child_path(name)
            call = _Call((*route, name), ".".join(filter(None, (path, part))), child)
            if isinstance(child, Composite):
                return child.wire(run_in(child, call.route, call.path), x)
            arrays = _at(params, call.path), _at(state, call.path)
            y = jax.eval_shape(lambda x: child.apply(*arrays, x)[0], x)

            def opaque(x: jax.Array) -> jax.Array:
                return jnp.zeros(y.shape, y.dtype)

            opaque.__name__ = f"jconv_layer_{len(calls)}"
            calls[opaque.__name__] = call
            return jax.jit(opaque)(x)

        return run

    aval = jax.ShapeDtypeStruct(x.shape, x.dtype)
    return jax.make_jaxpr(lambda x: model.wire(run_in(model, (), ""), x))(aval).jaxpr, calls


def _with_inner(jaxpr: Any) -> Iterator[Any]:
    """A jaxpr and those in its equations: of scans, of checkpoints."""
    yield jaxpr
    for value in (value for eqn in jaxpr.eqns for value in eqn.params.values()):
        for inner in value if isinstance(value, list | tuple) else (value,):
            if hasattr(inner, "eqns") or hasattr(inner, "jaxpr"):  # open, or closed over its constants
                yield from _with_inner(getattr(inner, "jaxpr", inner))


def _is(layer: Layer, *kinds: type[Layer]) -> bool:
    """Whether a layer computes what one of these kinds does: a subclass may have an `apply` of its own."""
    return any(isinstance(layer, kind) and type(layer).apply is kind.apply for kind in kinds)


def _at(tree: dict[str, Any], path: str) -> dict[str, Any]:
    return reduce(lambda at, part: at.get(part, {}), filter(None, path.split(".")), tree)


def _edited(layer: Layer, route: tuple[str, ...], edits: dict[tuple[str, ...], Layer]) -> Layer:
    """The layer with others at these routes."""
    if route in edits or not isinstance(layer, Composite):
        return edits.get(route, layer)
    for name, child in layer.children().items():
        edited = _edited(child, (*route, name), edits)
        if edited is not child:
            layer = layer.with_child(name, edited)
    return layer


def _without_empty(tree: dict[str, Any]) -> dict[str, Any]:
    pruned = {name: _without_empty(value) if isinstance(value, dict) else value for name, value in tree.items()}
    return {name: value for name, value in pruned.items() if not isinstance(value, dict) or value}
