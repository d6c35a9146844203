"""The roofline: how fast a layer can be at best on a device, and which of its two limits holds it.

Williams, Waterman & Patterson 2009, "Roofline: an insightful visual performance model for multicore architectures".
"""

import difflib
import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jconv.cost.phases import cut
from jconv.cost.types import Cost, Result, Row

__all__ = ["Bound", "Device", "Roofline", "devices", "roofline"]


class Device(NamedTuple):
    """The peaks of a device."""

    name: str
    bandwidth: float
    """Bytes per second of the main memory."""
    peak: Mapping[str, float]
    """FLOP/s by dtype in short: bf16, f16, f32, ..."""
    source: str

    def flops(self, dtype: str) -> float:
        """The peak for a dtype; bf16's where there is none, as TPUs compute float32 in passes of it."""
        return self.peak.get(dtype) or self.peak.get("bf16") or max(self.peak.values())

    def ridge(self, dtype: str = "bf16") -> float:
        """The arithmetic intensity, FLOPs per byte, from which on computing takes longer than moving."""
        return self.flops(dtype) / self.bandwidth


class Bound(NamedTuple):
    """The least time of a layer, and what holds it."""

    path: str
    seconds: float
    compute: float
    """Seconds if only computing took time."""
    memory: float
    """Seconds if only moving bytes took time."""

    @property
    def bound(self) -> str:
        """ "compute" or "memory"."""
        return "compute" if self.compute >= self.memory else "memory"


class Roofline(NamedTuple):
    """The least time of a program on a device."""

    device: Device
    parts: tuple[tuple[str, str, Bound], ...]
    """(path, phase, bound): each phase of each layer on its own."""

    @property
    def seconds(self) -> float:
        """One layer after another."""
        return sum(b.seconds for _, _, b in self.parts)

    def by_layer(self, depth: int | None = None) -> dict[str, Bound]:
        """The bound of each layer, phases together."""
        found: dict[str, list[float]] = {}
        for path, _, b in self.parts:
            sums = found.setdefault(cut(path, depth), [0.0, 0.0, 0.0])
            for i, seconds in enumerate((b.seconds, b.compute, b.memory)):
                sums[i] += seconds
        return {path: Bound(path, *sums) for path, sums in found.items()}


def devices(file: str | Path | None = None) -> dict[str, Device]:
    """The devices that are known, and those of a file of the user's own.

    Raises:
        ValueError: a file that is not there or does not have the form of devices.toml.

    Example:
        >>> round(devices()["h100-sxm"].ridge())
        295
    """
    found = {}
    for path in (Path(__file__).with_name("devices.toml"), *([Path(file)] if file else [])):
        try:
            for name, entry in tomllib.loads(path.read_text()).items():
                peak = {k: _positive(v) for k, v in entry["peak"].items()}
                found[name] = Device(name, _positive(entry["bandwidth"]), peak, str(entry.get("source", path)))
        except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(
                f"devices: {path} is not a file of devices: {error!r}; each is a table with "
                f"bandwidth = 3.35e12 and peak = {{ bf16 = 989e12 }}, named by its heading: [my-device]"
            ) from error
    return found


def _positive(value: Any) -> float:
    if not 0 < (number := float(value)) < math.inf:
        raise ValueError(f"expected a number above 0, got {value!r}")
    return number


def roofline(result: Result, *, device: str | Device = "h100-sxm", file: str | Path | None = None) -> Roofline:
    """The least time of every layer: `max(FLOPs / peak, bytes moved / bandwidth)` for each phase of it.

    Each phase of a layer is taken to be one fused kernel, and to reach the device's peaks: a bound, not a forecast.

    Args:
        result: of `analyze`.
        device: a name of devices.toml or of the file, or a Device.
        file: devices of the user's own.

    Returns:
        A Roofline.

    Raises:
        ValueError: an unknown device, with the nearest that are known.
    """
    if not isinstance(device, Device):
        known = devices(file)
        if device not in known:
            within = [name for name in known if device in name]
            close = within or difflib.get_close_matches(device, known, n=2, cutoff=0.4) or list(known)
            raise ValueError(f"device: unknown {device!r}; did you mean {' or '.join(close)}?")
        device = known[device]
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in result.rows:
        groups.setdefault((row.path, row.phase), []).append(row)
    parts = []
    for (path, phase), rows in groups.items():
        cost = sum((r.cost for r in rows), Cost())
        main = max(rows, key=lambda r: r.cost.flops)
        compute = (cost.flops + cost.transcendentals) / device.flops(_dtype(main))
        memory = cost.bytes_moved / device.bandwidth
        parts.append((path, phase, Bound(path, max(compute, memory), compute, memory)))
    return Roofline(device, tuple(parts))


def _dtype(row: Row) -> str:
    return (row.inputs or row.outputs or ("f32",))[0].partition("[")[0]
