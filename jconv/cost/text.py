"""Numbers and shapes as a person reads them: 4.089 G, 3.21 MB, 3×3/2, 1/8."""

import math

from jconv.cost.rules import Window

__all__ = ["fan", "geometry", "quantity", "seconds", "shape", "sides"]

UNITS = ("", "k", "M", "G", "T", "P", "E")


def quantity(n: float, unit: str = "") -> str:
    """Four digits and a prefix: 1,240 · 118.0 M · 4.089 G; in bytes 802.8 kB. Nothing is a dot."""
    if not n:
        return "·"
    if abs(n) < 10_000 and not unit:
        return f"{n:,}" if isinstance(n, int) else f"{n:.4g}"
    power = min(max(int(math.log10(abs(n)) // 3), 0), len(UNITS) - 1)
    scaled = n / 1000**power
    if f"{scaled:.4g}" in ("1000", "1e+03") and power + 1 < len(UNITS):
        power, scaled = power + 1, scaled / 1000
    digits = max(0, 3 - int(math.log10(abs(scaled)))) if abs(scaled) >= 1 else 3
    whole = power == 0 and isinstance(n, int)
    return f"{n if whole else f'{scaled:.{digits}f}'} {UNITS[power]}{unit}".rstrip()


def seconds(s: float) -> str:
    """12.3 µs."""
    for scale, unit in ((1, "s"), (1e3, "ms"), (1e6, "µs")):
        if s * scale >= 1:
            return f"{s * scale:.3g} {unit}"
    return f"{s * 1e9:.3g} ns" if s else "·"


def shape(array: str) -> str:
    """`f32[8,56,56,64]` as `8×56×56×64`."""
    return array.partition("[")[2].rstrip("]").replace(",", "×") or ("scalar" if array else "")


def sides(values: tuple[float, ...], *, none: str = "all") -> str:
    """One number if all axes agree, else all of them; 0 is everything."""
    texts = [f"{v:.4g}" if v else none for v in values]
    return texts[0] if len(set(texts)) == 1 else "×".join(texts)


def geometry(window: Window | None) -> str:
    """`3×3/2`, and dilation and groups where they are not 1."""
    if window is None or not window.kernel:
        return ""
    parts = ["×".join(map(str, window.kernel)), *(_unless_one("/", window.stride))]
    parts += _unless_one(" d", window.dilation)
    if window.groups > 1:
        parts.append(f" g{window.groups}")
    return "".join(parts)


def fan(fan_in: int, fan_out: int) -> str:
    """`27→32`: numbers that one position is made of, and those made of them."""
    return f"{fan_in}→{fan_out}" if fan_in else ""


def _unless_one(mark: str, values: tuple[int, ...]) -> list[str]:
    return [f"{mark}{sides(tuple(map(float, values)))}"] if any(v != 1 for v in values) else []
