"""Which lowering a convolution takes where the user leaves the choice: a rule on its shape, for each platform."""

from typing import NamedTuple

from jconv.ops.lowerings import LOWERINGS, Form

__all__ = ["Choice", "choose"]


class Choice(NamedTuple):
    """A lowering by name, and why it was taken."""

    lowering: str
    why: str


def choose(platform: str, slot: str, form: Form, batch: int, channels: int, features: int) -> Choice:
    """The lowering that computes this slot of the form fastest on this platform."""
    if platform != "cpu":
        return Choice("lax", f"on {platform} XLA's own convolution is the vendor's library")
    if not LOWERINGS["matmul"].fits(form, channels, features):
        return Choice("matmul", "a 1×1 window is a matrix product")
    if not LOWERINGS["shift"].fits(form, channels, features):
        return Choice("shift", "one channel a group: no sum over channels, so no matmul")
    return Choice("chunked", "patches in cache, then a matmul")
