"""`analyze`: from a function and the shapes of its arguments to a Result."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jconv.cost.count import count, works_of
from jconv.cost.fields import propagate
from jconv.cost.layers import scopes_of
from jconv.cost.phases import phases_of
from jconv.cost.rules import RULES
from jconv.cost.trace import Value, trace
from jconv.cost.types import Result

__all__ = ["analyze", "layers_of_parameters", "program_of"]

MODES = ("forward", "train")


def analyze(
    fn: Callable,
    *args: Any,
    mode: str = "forward",
    wrt: int | Sequence[int] | None = None,
    has_aux: bool = False,
    platform: str = "cpu",
    trips: int | Mapping[str, int] | None = None,
) -> Result:
    """What a function costs, layer by layer: counted from its jaxpr, before a byte is allocated.

        FLOPs = 2 × (multiply-adds that touch a real input) + every other operation on an element

    The function may come from any framework; its layers are the `jax.named_scope`s that it pushes.

    Args:
        fn: the function. Options are fixed before: `functools.partial(model.apply, train=True)`.
        args: its arguments: arrays, or `jax.ShapeDtypeStruct`s, in any pytrees.
        mode: "forward" counts `fn` as it is (it may itself be a whole training step); "train" counts the value and the
            gradient, given a cotangent of every output.
        wrt: numbers of the arguments to differentiate with respect to; the first is the parameters, whose gradients are
            the phase "backward kernel". None is argument 0. In mode "forward" it says which argument holds the
            parameters; None is then argument 0 if that is a pytree and not an array.
        has_aux: in mode "train", whether only the first of fn's outputs is differentiated, as in `jax.grad`: jconv's
            `apply` returns (y, state), and the state needs no gradient.
        platform: which branch of `lax.platform_dependent` is counted: "cpu", "cuda", "rocm" or "tpu".
        trips: iterations of while-loops that tracing cannot know: for all of them, or by path of the loop.

    Returns:
        A Result: `.total`, `.by_layer(depth)`, `.by_stage()`, `.by_phase()`, `.by_primitive()`, `.coverage`.

    Raises:
        ValueError: an unknown mode, an argument that is not there, a function that does not trace.

    Example:
        >>> import jconv
        >>> x, k = jax.ShapeDtypeStruct((1, 4, 4, 3), "float32"), jax.ShapeDtypeStruct((3, 3, 3, 6), "float32")
        >>> cost = analyze(lambda x, k: jconv.conv(x, k, stride=2, padding=1, lowering="lax"), x, k).total
        >>> cost.macs, cost.macs_valid, cost.flops
        (648, 450, 900)
    """
    program, numbers = program_of(fn, args, mode=mode, wrt=wrt, has_aux=has_aux)
    block, given, made = trace(program, *args, opaque=RULES, platform=platform, trips=trips)
    works = works_of(block, RULES)
    products = {op for op, work in works.items() if (work and work.macs) or op.primitive.startswith("scatter")}
    of_inputs = jax.tree.leaves(made[1][1:]) if mode == "train" else []
    phases = phases_of(block, products=products, inputs=of_inputs)
    params = _paths(given[numbers[0]]) if numbers else {}
    x = _input(given, numbers)
    forward = {op for op, phase in phases.items() if phase == "forward"}
    scopes = scopes_of(
        block, works, phases, params=params, fields=propagate(block, x, ops=forward) if x is not None else None
    )
    counted = count(block, works, phases)
    about = {
        "mode": mode,
        "platform": platform,
        "arguments": [_words(arg) for arg in given],
        "input": str(x) if x is not None else "",
        "jax": jax.__version__,
    }
    return Result(counted.rows, scopes, counted.coverage, about, counted.slack)


def program_of(
    fn: Callable, args: Sequence[Any], *, mode: str, wrt: int | Sequence[int] | None, has_aux: bool
) -> tuple[Callable, tuple[int, ...]]:
    """What is counted, and the numbers of the arguments that are differentiated or hold the parameters."""
    if mode not in MODES:
        raise ValueError(f"mode: expected {' or '.join(map(repr, MODES))}, got {mode!r}")
    numbers = _numbers(wrt, mode, args)
    return _gradient(fn, numbers, has_aux) if mode == "train" else fn, numbers


def _numbers(wrt: int | Sequence[int] | None, mode: str, args: Sequence[Any]) -> tuple[int, ...]:
    if wrt is None:
        if mode == "forward" and (not args or jax.tree.structure(args[0]) == jax.tree.structure(0)):
            return ()
        wrt = 0
    numbers = (wrt,) if isinstance(wrt, int) else tuple(wrt)
    if not numbers or not all(isinstance(n, int) and -len(args) <= n < len(args) for n in numbers):
        raise ValueError(f"wrt: expected numbers of the {len(args)} arguments, got {wrt!r}; 0 is the first")
    return tuple(n % len(args) for n in numbers)


def _gradient(fn: Callable, wrt: tuple[int, ...], has_aux: bool) -> Callable:
    """The value of fn and the gradients, for a cotangent of ones: constants, so that they cost nothing."""

    def step(*args: Any) -> tuple[Any, Any]:
        split = [_split(args[n]) for n in wrt]

        def of(*inexact: list[Any]) -> tuple[list[jax.Array], Any]:
            whole = list(args)
            for n, leaves, (_, join) in zip(wrt, inexact, split, strict=True):
                whole[n] = join(leaves)
            y, aux = _pair(fn(*whole)) if has_aux else (fn(*whole), None)
            leaves = jax.tree.leaves(y)
            return [a for a in leaves if _inexact(a)], (aux, [a for a in leaves if not _inexact(a)])

        y, pull, aux = jax.vjp(of, *(leaves for leaves, _ in split), has_aux=True)
        return (y, aux), pull([np.broadcast_to(np.ones((), a.dtype), a.shape) for a in y])

    return step


def _pair(out: Any) -> tuple[Any, Any]:
    if not isinstance(out, tuple) or len(out) != 2:
        raise ValueError(f"has_aux: expected fn to return a pair (y, aux), got {type(out).__name__}; leave has_aux out")
    return out


def _split(tree: Any) -> tuple[list[Any], Callable[[list[Any]], Any]]:
    """The leaves that can be differentiated, and the way back to the tree."""
    leaves, structure = jax.tree.flatten(tree)
    at = [i for i, a in enumerate(leaves) if _inexact(a)]

    def join(inexact: list[Any]) -> Any:
        whole = list(leaves)
        for i, a in zip(at, inexact, strict=True):
            whole[i] = a
        return structure.unflatten(whole)

    return [leaves[i] for i in at], join


def _inexact(a: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(a), jnp.inexact)


def _paths(tree: Any) -> dict[Value, str]:
    """Each parameter with the path of its layer."""
    return dict(zip(jax.tree.leaves(tree), layers_of_parameters(tree), strict=True))


def layers_of_parameters(tree: Any) -> list[str]:
    """The layer of each leaf: its path without the last part."""
    found, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [".".join(_key(k) for k in keys[:-1]) for keys, _ in found]


def _key(key: Any) -> str:
    return str(next((getattr(key, name) for name in ("key", "name", "idx") if hasattr(key, name)), key))


def _input(given: Sequence[Any], params: tuple[int, ...]) -> Value | None:
    """The array that receptive fields are measured on: the largest argument of 3 axes or more that is no parameter."""
    others = [v for i, arg in enumerate(given) if i not in params[:1] for v in jax.tree.leaves(arg)]
    images = [v for v in others if len(v.shape) >= 3 and jnp.issubdtype(v.dtype, np.number)]
    return max(images, key=lambda v: v.size, default=None)


def _words(arg: Any) -> str:
    leaves = jax.tree.leaves(arg)
    if len(leaves) == 1:
        return str(leaves[0])
    return f"{len(leaves)} arrays of {sum(v.size for v in leaves):,} elements"
