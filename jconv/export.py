"""A network as a file that needs no Python code of ours: StableHLO for JAX's own runtimes, ONNX for others."""

import contextlib
import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export, lax
from jax.core import Tracer
from jax.extend import core

from jconv.layers import Layer, Params, State
from jconv.ops.lowerings import LOWERINGS, Form

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

    Each convolution is lowered for the platform that runs it. With a symbolic batch the CPU takes XLA's own for dense
    windows that overlap, and for groups im2col of all images at once: without their number there are no chunks.

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
    run = jax.jit(lambda x: model.apply(params, state, x)[0])
    return export.export(run, platforms=tuple(platforms))(_input(x, batch))


def to_onnx(
    model: Layer,
    params: Params,
    state: State,
    x: jax.Array | jax.ShapeDtypeStruct,
    path: str | Path,
    *,
    batch: str | None = "n",
) -> Path:
    """The network in evaluation, with its weights inside, as an ONNX file; by jax2onnx.

    jax2onnx is given JAX's own operations alone, each in a form that it converts to what ONNX runtimes compute. What
    does not depend on x is computed here, once. For one convolution where there is one with a BatchNorm, export what
    `jconv.layers.fold` returns.

    Args:
        model, params, state: the network and its weights.
        x: an input, of which only shape and dtype are read; images stay (N, H, W, C).
        path: the file to write.
        batch: a name for a batch of any size; None keeps x's.

    Returns:
        The path.

    Raises:
        ImportError: jax2onnx is not installed.
        ValueError: an operation that jax2onnx does not convert, and the layer that it is of; a convolution over three
            spatial axes is one.

    Example:
        >>> from jconv import models
        >>> net, x = models.lesson_cnn(num_classes=10), jax.ShapeDtypeStruct((1, 28, 28, 1), "float32")
        >>> path = to_onnx(net, *net.init(jax.random.key(0), x), x, "lesson.onnx")  # doctest: +SKIP
        >>> session = onnxruntime.InferenceSession(path)  # doctest: +SKIP
        >>> session.run(None, {session.get_inputs()[0].name: images})[0].shape  # doctest: +SKIP
        (7, 10)
    """
    import jax2onnx  # pyright: ignore[reportMissingImports]

    like = _input(x, batch)
    traced = jax.make_jaxpr(lambda x: model.apply(params, state, x)[0])(like)
    program = jax.make_jaxpr(lambda x: _run(traced.jaxpr, traced.consts, [x], RULES)[0])(like)
    try:
        jax2onnx.to_onnx(core.jaxpr_as_fun(program), [like], return_mode="file", output_path=str(path))
    except OSError:
        raise
    except Exception as error:  # whatever its rules raise
        refused = _refused(program, jax2onnx.to_onnx) or f"all of it at once: {error}"
        raise ValueError(
            f"to_onnx: jax2onnx does not convert this {type(model).__name__}: {refused}; exchange the layer, or take "
            f"to_stablehlo, which has no such bounds"
        ) from error
    return Path(path)


def _input(x: jax.Array | jax.ShapeDtypeStruct, batch: str | None) -> jax.ShapeDtypeStruct:
    size = export.symbolic_shape(batch)[0] if batch else x.shape[0]
    return jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype)


# A network in the operations that the converter has, each in a form that it takes


def _conv(
    first: jax.Array, second: jax.Array, *, slot: str, form: Form, lowering: str, precision: str | None
) -> jax.Array:
    """The one convolution that the converter knows is lax's."""
    del lowering, precision
    return getattr(LOWERINGS["lax"], slot)(first, second, form)


def _channels_last(x: jax.Array, kernel: jax.Array, *, dimension_numbers: Any, **options: Any) -> jax.Array:
    """JAX's transposed convolution reads features as channels, a layout that the converter does not have."""
    names = {3: ("NWC", "WIO", "NWC"), 4: ("NHWC", "HWIO", "NHWC"), 5: ("NDHWC", "DHWIO", "NDHWC")}[x.ndim]
    (n, c, *space), (o, i, *window), (out_n, out_c, *out) = dimension_numbers
    x, kernel = x.transpose(n, *space, c), kernel.transpose(*window, i, o)
    y = lax.conv_general_dilated(x, kernel, dimension_numbers=names, **options)
    return y.transpose(np.argsort([out_n, *out, out_c]))


def _max_pool(x: jax.Array, **windows: Sequence[Any]) -> jax.Array:
    """One axis at a time, as the middle of three: the converter takes batch and channels for spatial axes, of which a
    runtime pools three."""
    whole = {name: (0, 0) if name == "padding" else 1 for name in windows}
    for at in range(x.ndim):
        along = {name: (whole[name], of_axis[at], whole[name]) for name, of_axis in windows.items()}
        if along == {name: (each,) * 3 for name, each in whole.items()}:
            continue
        before, after = x.shape[:at], x.shape[at + 1 :]
        x = lax.reduce_window_max_p.bind(x.reshape(math.prod(before), x.shape[at], math.prod(after)), **along)
        x = x.reshape(*before, x.shape[1], *after)
    return x


def _pad(x: jax.Array, fill: jax.Array, *, padding_config: Sequence[tuple[int, int, int]]) -> jax.Array:
    """By concatenation: the converter pads nothing whose batch has no size yet."""
    if any(lo < 0 or hi < 0 or between for lo, hi, between in padding_config):
        return lax.pad(x, fill, padding_config)
    for at, (lo, hi, _) in enumerate(padding_config):
        edges = [jnp.broadcast_to(fill, (*x.shape[:at], n, *x.shape[at + 1 :])) for n in (lo, hi)]
        x = lax.concatenate([edges[0], x, edges[1]], at) if lo or hi else x
    return x


Rules = dict[str, Callable[..., jax.Array]]
RULES: Rules = {
    "jconv_conv": _conv,
    "conv_general_dilated": _channels_last,
    "reduce_window_max": _max_pool,
    "pad": _pad,
}
"""What stands in the place of an operation, by its name."""
CALLS = {
    **dict.fromkeys(("jit", "pjit", "checkpoint"), "jaxpr"),
    **dict.fromkeys(("closed_call", "custom_jvp_call", "custom_vjp_call"), "call_jaxpr"),
}
"""Operations that are a function of their own, and where they hold it."""


def _run(jaxpr: core.Jaxpr, consts: Sequence[Any], args: Sequence[Any], rules: Rules) -> list[Any]:
    """A program's values, with the rules in place of what they are for, and no calls; constants are computed."""
    env: dict[Any, Any] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))
    for eqn in jaxpr.eqns:
        name, inputs = eqn.primitive.name, [_value(v, env) for v in eqn.invars]
        with jax.named_scope(str(eqn.source_info.name_stack)):
            if name in CALLS:
                call = eqn.params[CALLS[name]]
                out = _run(getattr(call, "jaxpr", call), getattr(call, "consts", ()), inputs, rules)
            elif name in rules:
                rest = {key: rule for key, rule in rules.items() if key != name}
                inner = jax.make_jaxpr(functools.partial(rules[name], **eqn.params))(*inputs)
                out = _run(inner.jaxpr, inner.consts, inputs, rest)
            else:
                with jax.ensure_compile_time_eval() if _constant(eqn, inputs) else contextlib.nullcontext():
                    out = eqn.primitive.bind(*inputs, **eqn.params)
                out = out if eqn.primitive.multiple_results else [out]
        env.update(zip(eqn.outvars, out, strict=True))
    return [_value(v, env) for v in jaxpr.outvars]


def _value(v: Any, env: dict[Any, Any]) -> Any:
    return v.val if isinstance(v, core.Literal) else env[v]


def _constant(eqn: core.JaxprEqn, inputs: Sequence[Any]) -> bool:
    """Whether an operation can be left to be done now; one that makes much out of little is left to the runtime."""
    if any(isinstance(value, Tracer) for value in inputs):
        return False
    shapes: list[Any] = [getattr(v.aval, "shape", ()) for v in eqn.outvars]
    static = all(isinstance(n, int) for shape in shapes for n in shape)
    return static and sum(map(math.prod, shapes)) <= sum(map(np.size, inputs))


def _refused(program: core.ClosedJaxpr, convert: Callable[..., Any]) -> str:
    """The first operation that the converter does not take by itself, of which layer it is, and why; "" for none."""
    known = dict(zip(program.jaxpr.constvars, program.consts, strict=True))
    for eqn in program.eqns:
        free = [v for v in eqn.invars if not isinstance(v, core.Literal) and v not in known]

        def alone(*inputs: Any, eqn: Any = eqn, free: Any = free) -> Any:
            env = known | dict(zip(free, inputs, strict=True))
            return eqn.primitive.bind(*(_value(v, env) for v in eqn.invars), **eqn.params)

        try:
            convert(alone, [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in free])
        except Exception as error:
            path = ".".join(filter(None, str(eqn.source_info.name_stack).split("/")))
            return f"{f'layer {path!r}, ' if path else ''}operation {eqn.primitive.name}: {error}"
    return ""
