"""`python -m jconv.cost NAME ...`: what a network of jconv, or any function, costs; `diff A B` compares two.

The parser is argparse, not tyro: the laboratory needs nothing but jax and numpy, and options of a model are passed
through by their own names, which a typed command line could not know.
"""

import argparse
import ast
import contextlib
import functools
import importlib
import inspect
import json
import operator
import re
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import jax

from jconv.cost.analyze import analyze
from jconv.cost.beside import with_xla
from jconv.cost.compare import compare_found
from jconv.cost.hlo import hlo
from jconv.cost.report import COLUMNS, FORMATS, compared, report
from jconv.cost.roofline import Roofline, devices, roofline
from jconv.cost.types import Cost, Result
from jconv.cost.xla import xla

__all__ = ["main"]

EXAMPLES = """\
  python -m jconv.cost resnet50 --stem c --input 1,224,224,3 --depth 2
  python -m jconv.cost resnet18 --num-classes 10 --input 32,128,128,3 --mode train --device h100-sxm --dtype bfloat16
  python -m jconv.cost my_package.my_module:make --mode train        # make() returns (function, arguments)
  python -m jconv.cost my_package.my_module:f --input 8,128 --input 128,64   # the function itself, of arrays
  python -m jconv.cost resnet50 --format json > a.json
  python -m jconv.cost resnet50 --format html --device h100-sxm --out cost.html
  python -m jconv.cost resnet18 --xla --lowering lax --depth 1
  python -m jconv.cost diff a.json b.json
  python -m jconv.cost hlo dump.txt --depth 2
  python -m jconv.cost resnet50 --fail-if 'macs>4.2e9' --fail-if 'params > 26M'
"""
BUDGETS = (*Cost.__dataclass_fields__, "params", "saved_bytes", "seconds")
COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
PREFIX = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns 0, 1 if a budget was exceeded, 2 for a mistake in what was asked."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        commands = {"diff": _diff, "hlo": _hlo}
        return commands[argv[0]](argv[1:]) if argv[:1] and argv[0] in commands else _analyze(argv)
    except ValueError as error:
        notes = [note for note in getattr(error, "__notes__", ()) if note.startswith("in layer")]  # JAX adds its own
        print(f"error: {error}", *notes, sep="\n  ", file=sys.stderr)
        return 2


def _analyze(argv: Sequence[str]) -> int:
    options, rest = _parser().parse_known_args(argv)
    if rest and argv.index(rest[0]) < argv.index(options.name):
        raise ValueError(f"{rest[0]}: expected the name of a network before its options: resnet50 {rest[0]} ...")
    checks = [_budget(text) for text in options.fail_if]
    fn, args, has_aux = _target(options, _model_options(rest, _texts(options.name)))
    result = analyze(fn, *args, mode=options.mode, wrt=options.wrt, has_aux=has_aux, platform=options.platform)
    roof = roofline(result, device=options.device, file=options.devices) if options.device else None
    columns = options.columns.split(",") if options.columns else None
    text = report(
        result, format=options.format, depth=options.depth, columns=columns, roofline=roof, width=options.width
    )
    if options.xla:
        found = xla(fn, *args, mode=options.mode, wrt=options.wrt, has_aux=has_aux)
        text = with_xla(text, compare_found(result, found, depth=options.depth), options.format)
    if options.out:
        _write(options.out, text)
    else:
        print(text.rstrip("\n"))
    exceeded = [message for check in checks if (message := check(result, roof))]
    print(*exceeded, sep="\n", end="\n" if exceeded else "", file=sys.stderr)
    return int(bool(exceeded))


def _write(path: Path, text: str) -> None:
    """The file whole, or as it was."""
    part = path.with_name(f".{path.name}.part") if path.is_file() or not path.exists() else path  # or /dev/stdout
    try:
        part.write_text(text, encoding="utf-8")
        if part != path:
            part.replace(path)
    except OSError as error:
        raise ValueError(f"--out {path}: it cannot be written: {error.strerror}; name another file") from error


def _diff(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m jconv.cost diff", description="Two saved results, beside each other."
    )
    parser.add_argument("a", type=Path, help="JSON of --format json")
    parser.add_argument("b", type=Path)
    parser.add_argument("--depth", type=int, help="parts of a path that make a layer")
    options = parser.parse_args(argv)
    print(compared(_load(options.a), _load(options.b), depth=options.depth))
    return 0


def _hlo(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m jconv.cost hlo", description="The FLOPs of each layer in a saved HLO text."
    )
    parser.add_argument("file", type=Path, help="what compiled.as_text() prints, or --xla_dump_to saves")
    parser.add_argument("--depth", type=int, help="parts of a path that make a layer")
    options = parser.parse_args(argv)
    try:
        found = hlo(options.file.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{options.file}: {error}") from error
    print("| layer | FLOPs | transcendentals | bytes | inferred |\n|---|---:|---:|---:|---:|")
    for layer in found.by_layer(options.depth).values():
        cells = (layer.path or "(no scope)", *(f"{n:,}" for n in layer[1:4]), f"{100 * layer.inferred:.0f} %")
        print(f"| {' | '.join(cells)} |")
    print(f"\n{found.flops:,} FLOPs, {100 * found.attributed:.1f} % attributed to a layer; by what tells it:")
    print(*(f"  {name}: {flops:,}" for name, flops in found.by_provenance().items() if flops), sep="\n")
    return 0


def _load(path: Path) -> Result:
    try:
        return Result.from_dict(json.loads(path.read_text()))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jconv.cost",
        description="What a function costs, layer by layer; nothing is allocated, compiled or run.",
        epilog=f"Any other --option goes to the model: --stem c, --num-classes 10.\n\nexamples:\n{EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("name", help="a network of jconv.models, or MODULE:FUNCTION of your own")
    add("--input", action="append", default=[], metavar="N,H,W,C", help="shape of an input [networks: 1,224,224,3]")
    add("--dtype", default="float32", help="of the inputs [%(default)s]")
    add("--mode", default="forward", choices=("forward", "train"), help="[%(default)s]")
    add("--wrt", type=int, help="number of the argument that holds the parameters")
    add(
        "--platform",
        default="cpu",
        choices=("cpu", "cuda", "rocm", "tpu"),
        help="for platform-dependent code [%(default)s]",
    )
    add("--device", metavar="NAME", help=f"adds the roofline of a device: {', '.join(devices())}")
    add("--devices", type=Path, metavar="FILE", help="a TOML of your own devices")
    add("--xla", action="store_true", help="compiles it too: FLOPs as lowered and compiled, and why they differ")
    add("--depth", type=int, help="parts of a path that make a layer: 1, 2, ... [all]")
    add("--columns", help=f"of {','.join(COLUMNS)}")
    add("--format", default="table", choices=FORMATS, help="[%(default)s]")
    add("--width", type=int, help="of the table [the terminal's]")
    add("--out", type=Path, metavar="FILE", help="write there, not to the terminal")
    add("--fail-if", action="append", default=[], metavar="'macs>4.2e9'",
        help=f"exit with 1 if so; of {', '.join(BUDGETS)}")  # fmt: skip
    return parser


def _model_options(rest: Sequence[str], texts: Collection[str]) -> dict[str, Any]:
    """`--num-classes 10 --stem c` as keyword arguments; a value is read as a Python literal if it is one.

    Those of `texts` are text: SqueezeNet's version 1.1 is no number.
    """
    found: dict[str, Any] = {}
    words = iter([part for word in rest for part in (word.split("=", 1) if word.startswith("--") else [word])])
    for word in words:
        value = next(words, None)
        if not word.startswith("--") or value is None:
            raise ValueError(f"{word}: expected --option VALUE pairs for the model; --help lists what else there is")
        option = word[2:].replace("-", "_")
        found[option] = value
        if option not in texts:
            with contextlib.suppress(ValueError, SyntaxError):
                found[option] = ast.literal_eval(value)
    return found


def _texts(name: str) -> set[str]:
    """The options of a network that are text and nothing else."""
    from jconv import models

    found = (inspect.signature(family).parameters for family, variants in models.FAMILIES if name in variants)
    return {option for own in found for option, p in own.items() if p.annotation in (str, "str")}


def _target(options: argparse.Namespace, extra: dict[str, Any]) -> tuple[Callable, tuple[Any, ...], bool]:
    """The function, its arguments, and whether it returns an aux beside what is differentiated."""
    inputs = tuple(_shape(text, options.dtype) for text in options.input)
    if ":" in options.name:
        fn = _imported(options.name)
        if inputs:
            return functools.partial(fn, **extra) if extra else fn, inputs, False
        made = fn(**extra)
        if not (isinstance(made, tuple) and len(made) == 2 and callable(made[0]) and isinstance(made[1], tuple | list)):
            raise ValueError(
                f"{options.name}: expected it to return (function, arguments), got {type(made).__name__}; "
                f"or give --input for each argument, and it is the function itself"
            )
        return made[0], tuple(made[1]), False
    return (*_network(options, extra, inputs), True)


def _network(options: argparse.Namespace, extra: dict[str, Any], inputs: tuple) -> tuple[Callable, tuple[Any, ...]]:
    from jconv import models

    if len(inputs) > 1:
        raise ValueError(f"--input: a network of jconv takes one input, got {len(inputs)}")
    x = inputs[0] if inputs else _shape("1,224,224,3", options.dtype)
    try:
        net = models.create(options.name, **extra)
    except TypeError as error:
        raise ValueError(f"{options.name}: {error}; --help says which options are the laboratory's own") from error
    params, state = jax.eval_shape(net.init, jax.random.key(0), x)
    if options.mode == "forward":
        return net.apply, (params, state, x)
    apply = functools.partial(net.apply, train=True)
    key = jax.eval_shape(lambda: jax.random.key(0))
    return lambda params, state, x, key: apply(params, state, x, key=key), (params, state, x, key)


def _imported(name: str) -> Callable:
    module, _, attribute = name.partition(":")
    sys.path.insert(0, "")  # modules of the directory that the user stands in
    try:
        found = functools.reduce(getattr, attribute.split("."), importlib.import_module(module))
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{name}: expected MODULE:FUNCTION that can be imported: {error}") from error
    finally:
        sys.path.remove("")
    if not callable(found):
        raise ValueError(f"{name}: expected a function, got {type(found).__name__}")
    return found


def _shape(text: str, dtype: str) -> jax.ShapeDtypeStruct:
    try:
        return jax.ShapeDtypeStruct(tuple(int(n) for n in text.split(",")), jax.numpy.dtype(dtype))
    except (ValueError, TypeError) as error:
        raise ValueError(f"--input {text} --dtype {dtype}: expected 1,224,224,3 and a dtype: {error}") from error


def _budget(text: str) -> Callable[[Result, Roofline | None], str]:
    """`macs>4.2e9` as a check that returns what is wrong, or nothing."""
    match = re.fullmatch(r"\s*(\w+)\s*(>=|<=|==|!=|>|<)\s*([\d.]+(?:[eE][+-]?\d+)?)\s*([kMGT]?)\s*", text)
    if not match or match[1] not in BUDGETS:
        raise ValueError(f"--fail-if: expected one of {', '.join(BUDGETS)}, a comparison and a number, got {text!r}")
    name, sign = match[1], match[2]
    try:
        limit = float(match[3]) * PREFIX[match[4]]
    except ValueError:
        raise ValueError(f"--fail-if: expected a number as 4.2e9 or 26M, got {match[3]!r} in {text!r}") from None

    def check(result: Result, roof: Roofline | None) -> str:
        if name == "seconds":
            if roof is None:
                raise ValueError("--fail-if: seconds need a --device")
            value: float = roof.seconds
        else:
            value = getattr(result if name in ("params", "saved_bytes") else result.total, name)
        return f"failed: {name} = {value:,} {sign} {limit:,.10g}" if COMPARE[sign](value, limit) else ""

    return check
