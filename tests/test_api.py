"""The public API by reflection: documented, complete, keyword-only options, one order of arguments, light to import."""

import inspect
import pkgutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from types import ModuleType
from typing import Any

import jax
import pytest

import jconv
from jconv import layers, models, ops
from jconv.layers import Layer

PACKAGES = (jconv, ops, layers, models)
MODULES = sorted(m.name for m in pkgutil.walk_packages(jconv.__path__, "jconv.") if not m.name.endswith("__main__"))


def public(module: ModuleType) -> dict[str, Any]:
    """What a module's `__all__` offers."""
    return {f"{module.__name__}.{name}": getattr(module, name) for name in module.__all__}


CALLABLES = {name: value for package in PACKAGES for name, value in public(package).items() if inspect.isroutine(value)}
CLASSES = {name: value for package in PACKAGES for name, value in public(package).items() if inspect.isclass(value)}


def methods(kind: type) -> Iterator[tuple[str, Callable]]:
    """The public methods that a class defines itself."""
    for name, value in vars(kind).items():
        if inspect.isfunction(value) and not name.startswith("_") and value.__qualname__.endswith(f".{name}"):
            yield f"{kind.__name__}.{name}", value


@pytest.mark.parametrize("name", MODULES)
def test_modules_say_what_they_are_and_what_they_offer(name: str) -> None:
    module = import_module(name)
    assert module.__doc__
    assert len(module.__doc__.partition("\n")[0]) > 20
    assert len(set(module.__all__)) == len(module.__all__)
    assert list(public(module))  # every name exists


@pytest.mark.parametrize("package", PACKAGES, ids=lambda p: p.__name__)
def test_a_package_offers_all_it_names_in_order(package: ModuleType) -> None:
    assert list(package.__all__) == sorted(package.__all__, key=lambda n: (not n.isupper(), n[0].islower(), n))


@pytest.mark.parametrize("name", CALLABLES | CLASSES)
def test_everything_public_is_documented(name: str) -> None:
    assert not undocumented((CALLABLES | CLASSES)[name])


def undocumented(value: Any) -> list[str]:
    """The names without a docstring of their own: this one's and its methods'."""
    named = [(value.__name__, value), *(methods(value) if inspect.isclass(value) else ())]
    generated = f"{value.__name__}("  # what @dataclass writes where there is nothing
    return [name for name, v in named if not v.__doc__ or v.__doc__.startswith(generated)]


POSITIONAL = (
    *("self", "x", "kernel", "bias", "mean", "var", "scale", "params", "state", "key", "run", "values"),
    *("rows", "first", "second", "bias_bn"),
    *("name", "path", "prefix", "model", "layer", "kind", "depth", "pattern", "at"),
)
SUBJECTS = {  # what a function is of, beside arrays and names
    "overlap_map": ("stride",),
    "col2im": ("sizes",),
    "conv_matrix": ("sizes",),
    "depthwise": ("channels",),
    "depthwise_separable": ("features",),
    "spatially_separable": ("features",),
    "flattened": ("features",),
}


@pytest.mark.parametrize("name", CALLABLES)
def test_options_are_keyword_only(name: str) -> None:
    assert not by_position(CALLABLES[name])


@pytest.mark.parametrize("name", CLASSES)
def test_options_of_methods_are_keyword_only(name: str) -> None:
    assert not [option for _, method in methods(CLASSES[name]) for option in by_position(method)]


def by_position(f: Callable) -> list[str]:
    """Arguments that are neither arrays, names nor layers and may be given by position."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [
        n
        for n, p in inspect.signature(f).parameters.items()
        if p.kind in kinds and n not in (*POSITIONAL, *SUBJECTS.get(f.__name__, ()))
    ]


LAYERS = {name: kind for name, kind in CLASSES.items() if issubclass(kind, Layer)}


@pytest.mark.parametrize("name", LAYERS)
def test_init_and_apply_have_one_signature(name: str) -> None:
    for method in ("init", "apply"):
        got, right = (inspect.signature(getattr(kind, method)) for kind in (LAYERS[name], Layer))
        assert list(got.parameters.values()) == list(right.parameters.values())
    assert list(inspect.signature(Layer.init).parameters) == ["self", "key", "x"]
    assert list(inspect.signature(Layer.apply).parameters) == ["self", "params", "state", "x", "train", "key"]


def test_every_layer_of_the_rooms_is_public() -> None:
    def below(kind: type) -> set[type]:
        return {kind}.union(*map(below, kind.__subclasses__()))

    ours = {
        kind
        for kind in below(Layer)
        if kind.__module__.startswith("jconv.layers") and "<locals>" not in kind.__qualname__
    }
    assert {kind.__name__ for kind in ours} - set(layers.__all__) == {"Function"}


def test_a_bad_api_is_noticed() -> None:
    def bare(x: jax.Array, stride: int = 1) -> None: ...

    class Bare:
        """Documented, but not its method."""

        def method(self, padding: int) -> None: ...

    assert undocumented(bare) == ["bare"]
    assert undocumented(Bare) == ["Bare.method"]
    assert by_position(bare) == ["stride"]
    assert [option for _, method in methods(Bare) for option in by_position(method)] == ["padding"]


HEAVY = ("flax", "optax", "matplotlib", "PIL", "sklearn", "tyro", "rich", "tensorflow", "torch", "train", "pytest")


def imported(code: str) -> set[str]:
    """The top-level packages in a fresh interpreter after this code."""
    code += "; import sys; print(*{name.partition('.')[0] for name in sys.modules})"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout.split())


def test_importing_jconv_imports_jax_and_numpy_alone() -> None:
    found = imported("import jconv")
    assert {"jconv", "jax", "numpy"} <= found
    assert not found & set(HEAVY)


def test_an_import_is_noticed() -> None:
    assert imported("import jconv, optax") & set(HEAVY)
