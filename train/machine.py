"""Where a program ran: the device, the versions, the commit. A run's summary, cards and benchmarks write it down."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

import jax

__all__ = ["device", "revision", "versions"]


def device() -> str:
    """The accelerators, or how many cores of which processor: "2 cores of AMD EPYC (family 26, model 2)"."""
    devices = jax.local_devices()
    if devices[0].platform != "cpu":
        return f"{len(devices)} x {devices[0].device_kind}"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cores} cores of {_processor()}" + (f", as {len(devices)} devices" if len(devices) > 1 else "")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    found = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    name = found.get("model name") or platform.processor() or platform.machine()
    ids = [f"{what} {found[key]}" for what, key in (("family", "cpu family"), ("model", "model")) if key in found]
    return f"{name} ({', '.join(ids)})" if ids else name  # virtual machines tell little by name


def versions() -> dict[str, str | None]:
    """Versions of what was imported; jconv has none if it runs from a checkout that is not installed."""
    installed = {d.name.lower(): d.version for d in importlib.metadata.distributions() if d.name}
    names = ("jconv", "jax", "jaxlib", "flax", "optax", "numpy")
    return {"python": platform.python_version(), **{name: installed.get(name) for name in names}}


def revision() -> str | None:
    """The commit that the program runs from, with a + if files differ from it; None outside a checkout."""
    here = Path(__file__).parent

    def git(*args: str) -> str:
        return subprocess.run(["git", *args], cwd=here, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
