"""A result as one HTML page that needs no network: treemap, bars by stage, roofline, receptive fields, table."""

import json
import re
from importlib import resources
from typing import Any

from jconv.cost.roofline import Roofline
from jconv.cost.text import geometry, quantity, shape
from jconv.cost.types import Layer, Result

__all__ = ["page"]


def page(result: Result, *, depth: int | None = None, roofline: Roofline | None = None, title: str = "Cost") -> str:
    """The page as text; write it to a file and open it in any browser.

    Args:
        result: of `analyze`.
        depth: parts of a path that make a layer; None is the whole path.
        roofline: adds a device's roof.
        title: the heading.

    Returns:
        HTML with its data, style and script inside.

    Example:
        >>> import jax
        >>> from jconv import cost
        >>> x = jax.ShapeDtypeStruct((2, 3), "float32")
        >>> page(cost.analyze(lambda x: x * x, x), title="x squared").count("x squared")
        1
    """
    stage_of = {path: name for name, paths in _members(result).items() for path in paths}
    layers = [_layer(layer) | {"stage": stage_of.get(layer.path, layer.path)} for layer in result.by_layer(depth)]
    data = {
        "title": title,
        "about": f"mode {result.about['mode']}, input {result.about['input'] or 'none'}, jax {result.about['jax']}",
        "cards": _cards(result, roofline),
        "layers": layers,
        "stages": [_layer(stage) for stage in result.by_stage()],
        "input": _sizes(result),
        "device": _device(result, roofline),
    }
    text = json.dumps(data, allow_nan=False).replace("<", "\\u003c")  # nothing in it can close the script
    return resources.files("jconv.cost").joinpath("page.html").read_text(encoding="utf-8").replace("__DATA__", text)


def _members(result: Result) -> dict[str, list[str]]:
    """The layers of each stage, at every depth."""
    found: dict[str, list[str]] = {}
    for path, stage in result.stages().items():
        parts = path.split(".")
        found.setdefault(stage, []).extend(".".join(parts[: i + 1]) for i in range(len(parts)))
    return found


def _layer(layer: Layer) -> dict[str, Any]:
    forward = layer.phases.get("forward")
    return {
        "path": layer.path,
        "macs": layer.cost.macs,
        "valid": layer.cost.macs_valid,
        "forward": forward.macs if forward else 0,
        "flops": layer.cost.flops,
        "moved": layer.cost.bytes_moved,
        "output": layer.scope.output_bytes,
        "saved": layer.scope.saved_bytes,
        "params": layer.scope.params,
        "shape": shape(layer.scope.output),
        "window": geometry(layer.scope.window),
        "field": list(layer.scope.receptive_field),
        "jump": list(layer.scope.jump),
    }


def _cards(result: Result, roofline: Roofline | None) -> list[tuple[str, str]]:
    total = result.total
    cards = [
        ("multiply-adds, dense", quantity(total.macs)),
        ("multiply-adds, valid", quantity(total.macs_valid)),
        ("FLOPs", quantity(total.flops)),
        ("parameters", quantity(result.params)),
        ("bytes moved", quantity(total.bytes_moved, "B")),
    ]
    if result.saved_bytes:
        cards.append(("saved for the backward pass", quantity(result.saved_bytes, "B")))
    if roofline is not None:
        cards.append((f"at least, on {roofline.device.name}", f"{1e3 * roofline.seconds:.3g} ms"))
    return cards


def _sizes(result: Result) -> list[int]:
    """The spatial sizes of the input, in N, *spatial, C."""
    dims = re.findall(r"\d+", str(result.about["input"]).partition("[")[2])
    return [int(n) for n in dims[1:-1]][:2]


def _device(result: Result, roofline: Roofline | None) -> dict[str, Any] | None:
    if roofline is None:
        return None
    device, dtype = roofline.device, str(result.about["input"]).partition("[")[0] or "f32"
    return {
        "name": f"{device.name}, {dtype}",
        "peak": device.flops(dtype),
        "bandwidth": device.bandwidth,
        "source": device.source,
    }
