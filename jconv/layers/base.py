"""The layer contract: a layer is a frozen description; `init` makes its arrays, `apply` is a pure function of them.

`Layer` is a leaf; `Composite` is a layer made of named layers, and says once, in `wire`, how they are connected.
"""

import collections
import contextlib
import copy
import dataclasses
import difflib
import functools
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np

from jconv.layers.text import describe

__all__ = ["Composite", "Layer", "Params", "Run", "State", "child", "matches", "nearest"]

Params = dict[str, Any]
"""Nested dicts by path, `params["layer1"]["0"]["conv1"]["kernel"]`; layers without parameters do not appear."""
State = dict[str, Any]
"""As Params, for what training changes without a gradient: `mean`, `var`."""
Run = Callable[[str, jax.Array], jax.Array]
"""What `Composite.wire` is given: `run(name, x)` applies the child of that name, with its own params, state and key."""


@dataclasses.dataclass(frozen=True)
class Layer:
    """A description of a function with parameters. It owns no arrays; it prints, compares and hashes.

    A layer of your own is a frozen dataclass with `apply`, and with `init` if it has parameters or state:

        >>> @dataclasses.dataclass(frozen=True)
        ... class Gain(Layer):
        ...     def init(self, key, x):
        ...         return {"scale": jnp.ones(x.shape[-1])}, {}
        ...     def apply(self, params, state, x, *, train=False, key=None):
        ...         return x * params["scale"].astype(x.dtype), state
        >>> params, state = Gain().init(jax.random.key(0), jax.ShapeDtypeStruct((2, 3), jnp.float32))
        >>> Gain().apply(params, state, jnp.ones((2, 3)))[0].shape
        (2, 3)
    """

    stochastic: ClassVar[bool] = False
    """Whether `apply` uses its key in training; a key is made only for layers that do."""

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):  # a list would not hash
            if type(getattr(self, f.name)) in (list, tuple):
                object.__setattr__(self, f.name, _tuple(getattr(self, f.name)))

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__repr__" not in vars(cls):  # @dataclass would write one of its own for every subclass
            cls.__repr__ = Layer.__str__

    def init(self, key: jax.Array, x: jax.Array | jax.ShapeDtypeStruct) -> tuple[Params, State]:
        """Parameters and state for inputs like x, of which only shape and dtype are read. Parameters are float32."""
        del key, x
        return {}, {}

    def apply(
        self, params: Params, state: State, x: jax.Array, *, train: bool = False, key: jax.Array | None = None
    ) -> tuple[jax.Array, State]:
        """The layer's value, in x's dtype, and the state after it; with train=False the state comes back unchanged."""
        raise TypeError(f"{type(self).__name__} describes no computation: it defines neither apply nor wire")

    def __str__(self) -> str:
        return describe(self)

    __repr__ = __str__


def child(path: str, **options: Any) -> Any:
    """A field for a child that appears under `path` in the tree; "" puts its children in its parent's place."""
    return dataclasses.field(metadata={"path": path}, **options)


@dataclasses.dataclass(frozen=True, repr=False)
class Composite(Layer):
    """A layer made of layers: its fields that are layers are its children, and `wire` connects them.

        >>> from jconv.layers import Conv
        >>> @dataclasses.dataclass(frozen=True, repr=False)
        ... class Twice(Composite):
        ...     conv: Layer
        ...     def wire(self, run, x):
        ...         return run("conv", run("conv", x))
        >>> twice = Twice(Conv(3, 3, bias=False))
        >>> params, state = twice.init(jax.random.key(0), jnp.ones((1, 8, 8, 3)))
        >>> params["conv"]["kernel"].shape
        (3, 3, 3, 3)

    From `wire` alone come `init`, `apply`, the paths of parameters and state, a key for each layer, folded from its
    path, and a `jax.named_scope` for each path.
    """

    def wire(self, run: Run, x: jax.Array) -> jax.Array:
        """The value at x, with `run(name, x)` for the value of a child. It may be called on any number of axes.

        In training a child's new state is kept as a side effect of `run`: call it outside of `jax.checkpoint`,
        `jax.lax.scan` and the like, or within them only children without state.
        """
        raise TypeError(f"{type(self).__name__} is a Composite without wire: define wire(self, run, x)")

    def init(self, key: jax.Array, x: jax.Array | jax.ShapeDtypeStruct) -> tuple[Params, State]:
        """Parameters and state for inputs like x: an abstract pass finds each layer's input, then each is made once."""
        inputs: dict[str, _Input] = {}
        jax.eval_shape(lambda x: self.wire(_Init(self, "", (), inputs), x), jax.ShapeDtypeStruct(x.shape, x.dtype))
        params: Params = {}
        state: State = {}
        for path, (layer, aval, _) in inputs.items():
            if type(layer).init is Layer.init:
                continue
            for tree, made in zip((params, state), layer.init(_fold(key, path), aval), strict=True):
                if made:
                    parts = filter(None, path.split("."))
                    functools.reduce(lambda at, part: at.setdefault(part, {}), parts, tree).update(made)
        return params, state

    def apply(
        self, params: Params, state: State, x: jax.Array, *, train: bool = False, key: jax.Array | None = None
    ) -> tuple[jax.Array, State]:
        """The value at x and the state after it; see `Layer.apply`. Dropout and the like need the key in training."""
        run = _Apply(self, "", params, state, _Pass(train, key))
        return self.wire(run, x), run.state

    def outputs(
        self,
        params: Params,
        state: State,
        x: jax.Array,
        at: Collection[str],
        *,
        train: bool = False,
        key: jax.Array | None = None,
    ) -> tuple[dict[str, jax.Array], State]:
        """What the layers at these paths return while the whole is applied, by path, and the state after it."""
        for path in at:
            self[path]
        run = _Apply(self, "", params, state, _Pass(train, key, dict.fromkeys(at)))
        self.wire(run, x)
        return run.shared.taken, run.state

    # The tree

    def children(self) -> dict[str, Layer]:
        """The layers that this one is made of, by the name that `wire` uses."""
        fields = ((f.name, getattr(self, f.name)) for f in dataclasses.fields(self))
        return {name: value for name, value in fields if isinstance(value, Layer)}

    def child_path(self, name: str) -> str:
        """The part of a path that the child of this name adds: its name, unless its field says otherwise."""
        for f in dataclasses.fields(self):
            if f.name == name:
                return f.metadata.get("path", name)
        return name

    def with_child(self, name: str, layer: Layer) -> Self:
        """This layer with another child of that name."""
        return dataclasses.replace(self, **{name: layer})

    def walk(self, prefix: str = "") -> Iterator[tuple[str, Layer]]:
        """Every layer below this one with its path, parents first."""
        for name, layer in self.children().items():
            part = self.child_path(name)
            path = _join(prefix, part)
            if part:
                yield path, layer
            if isinstance(layer, Composite):
                yield from layer.walk(path)

    def __getitem__(self, path: str) -> Layer:
        found = dict(self.walk())
        if path not in found:
            raise KeyError(f"no layer {path!r} in this {type(self).__name__}; {nearest(path, found)}")
        return found[path]

    def replace(self, path: str, layer: Layer) -> Self:
        """This network with another layer at that path: `model.replace("conv1", my_stem)`."""
        self[path]
        return self._edit("", lambda at, old: layer if at == path else old)

    def update(self, kind: type[Layer], *, match: Collection[str] | None = None, **options: Any) -> Self:
        """This network with other options in every layer of that kind: `model.update(Conv, lowering="im2col")`.

        Args:
            kind: the class of the layers.
            match: only those that these patterns name: `model.update(BatchNorm, match=["layer1"], frozen=True)`; see
                `matches`.
            options: fields of that class.
        """

        def edit(path: str, old: Layer) -> Layer:
            meant = isinstance(old, kind) and (match is None or matches(path, match))
            return _changed(old, options) if meant else old

        return self._edit("", edit)

    def _edit(self, prefix: str, edit: Callable[[str, Layer], Layer]) -> Self:
        new = self
        for name, layer in self.children().items():
            part = self.child_path(name)
            path = _join(prefix, part)
            edited = edit(path, layer) if part else layer
            if edited is layer and isinstance(layer, Composite):
                edited = layer._edit(path, edit)
            if edited is not layer:
                new = new.with_child(name, edited)
        return new


class _Wiring:
    """What `_Init` and `_Apply` share: which child is meant, and where it is."""

    def __init__(self, layer: Composite, prefix: str):
        self.layer, self.prefix, self.children = layer, prefix, layer.children()

    def find(self, name: str) -> tuple[Layer, str, str]:
        if name not in self.children:
            raise KeyError(f"{type(self.layer).__name__} wires a child {name!r} that it does not have")
        part = self.layer.child_path(name)
        return self.children[name], part, _join(self.prefix, part)


_Input = tuple[Layer, jax.ShapeDtypeStruct, tuple[str, ...]]
"""A leaf, its input, and the children's names that lead to it, if it has parameters."""


class _Init(_Wiring):
    """The abstract pass of `Composite.init`: notes each leaf's input, and goes on with zeros in its value's shape."""

    def __init__(self, layer: Composite, prefix: str, route: tuple[str, ...], inputs: dict[str, _Input]):
        super().__init__(layer, prefix)
        self.route, self.inputs = route, inputs

    def __call__(self, name: str, x: jax.Array) -> jax.Array:
        layer, _, path = self.find(name)
        route = (*self.route, name)
        if isinstance(layer, Composite):
            return layer.wire(_Init(layer, path, route, self.inputs), x)
        aval = jax.ShapeDtypeStruct(x.shape, x.dtype)
        own = route if type(layer).init is not Layer.init else ()  # which of the layers at this path has parameters
        if self.inputs.setdefault(path, (layer, aval, own)) != (layer, aval, own):
            before = self.inputs[path]
            raise ValueError(
                f"{path}: one set of parameters is used for two layers or inputs: {before[0]} on {before[1]}, "
                f"then {layer} on {aval}"
            )
        with _where(path, layer):
            return jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), _abstract(layer, aval))


@functools.lru_cache(maxsize=4096)
def _abstract(layer: Layer, x: jax.ShapeDtypeStruct) -> Any:
    """Shape and dtype of a leaf's value; a network has many equal layers on equal inputs."""

    def value(key: jax.Array, x: jax.Array) -> jax.Array:
        return layer.apply(*layer.init(key, x), x)[0]

    return jax.eval_shape(value, jax.random.key(0), x)


@dataclasses.dataclass
class _Pass:
    """What a whole pass over a network shares."""

    train: bool
    key: jax.Array | None
    taken: dict[str, Any] = dataclasses.field(default_factory=dict)
    """The values that `outputs` is asked for, by path."""
    draws: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    """How many times the layers at a path have drawn random numbers."""

    def key_for(self, path: str) -> jax.Array | None:
        """Another key for each path, and for each time that it draws."""
        if self.key is None:
            return None
        key, before = _fold(self.key, path), self.draws[path]
        self.draws[path] += 1
        return _fold_in(key, np.uint32(before)) if before else key


class _Apply(_Wiring):
    """A composite at work: gives each child its part of params and state, and gathers the new state."""

    def __init__(self, layer: Composite, prefix: str, params: Params, state: State, shared: _Pass):
        super().__init__(layer, prefix)
        self.params, self.state, self.shared = params, dict(state), shared

    def __call__(self, name: str, x: jax.Array) -> jax.Array:
        layer, part, path = self.find(name)
        params = self.params.get(part, {}) if part else self.params
        state = self.state.get(part, {}) if part else self.state
        if isinstance(layer, Composite):
            run = _Apply(layer, path, params, state, self.shared)
            with jax.named_scope(part) if part else contextlib.nullcontext():
                y, state = layer.wire(run, x), run.state
        else:
            key = self.shared.key_for(path) if layer.stochastic and self.shared.train else None
            with _where(path, layer), jax.named_scope(part or type(layer).__name__):
                y, state = layer.apply(params, state, x, train=self.shared.train, key=key)
        if not part:
            self.state.update(state)
        elif state:
            self.state[part] = state
        if part and path in self.shared.taken:
            self.shared.taken[path] = y
        return y


@contextlib.contextmanager
def _where(path: str, layer: Layer) -> Iterator[None]:
    """Adds to an error which layer of the network it came from."""
    try:
        yield
    except (ValueError, KeyError) as error:
        error.add_note(f"in layer {path!r}: {layer}")
        raise


def _changed(layer: Layer, options: Mapping[str, Any]) -> Layer:
    """A layer with other fields, also one that is not made from its fields, as a `Sequential`."""
    if getattr(type(layer), "__dataclass_params__").init:  # noqa: B009
        return dataclasses.replace(layer, **options)
    known = {f.name for f in dataclasses.fields(layer)} - {"layers"}  # its children have `replace`
    for name in options:
        if name not in known:
            raise TypeError(f"{type(layer).__name__} has no field {name!r}; {nearest(name, known)}")
    new = copy.copy(layer)
    for name, value in options.items():
        object.__setattr__(new, name, _tuple(value))
    return new


def _tuple(value: Any) -> Any:
    return tuple(map(_tuple, value)) if type(value) in (list, tuple) else value


def _join(prefix: str, part: str) -> str:
    return f"{prefix}.{part}" if prefix and part else prefix or part


def _fold(key: jax.Array, path: str) -> jax.Array:
    """A key for a path: a layer's numbers depend on where it is, not on what else there is."""
    return _fold_in(key, np.uint32(zlib.crc32(path.encode())))


_fold_in = jax.jit(jax.random.fold_in)  # whose own checks take longer than its work


def matches(path: str, patterns: Collection[str]) -> bool:
    """Whether one of the patterns names this path, or one above it; `*` is any part of a path, dots included.

    Example:
        >>> matches("layer1.0.conv1", ["layer1"]), matches("layer10.conv1", ["layer1"]), matches("a.b.bn2", ["*.bn?"])
        (True, False, True)
    """
    parts = path.split(".")
    heads = [".".join(parts[: i + 1]) for i in range(len(parts))]
    return any(fnmatchcase(head, pattern) for head in heads for pattern in patterns)


def nearest(name: str, known: Collection[str] | Mapping[str, Any]) -> str:
    """The part of an error that names what would have worked."""
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(map(repr, close))}?"
    return f"there are {', '.join(map(repr, list(known)[:12]))}{', ...' if len(known) > 12 else ''}"
