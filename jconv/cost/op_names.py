"""The names that JAX leaves in HLO: `jit(f)/transpose(jvp(layer1))/0/conv1/dot_general` is layer1.0.conv1, backward."""

import functools
import re
from typing import NamedTuple

from jconv.cost.phases import path_of, written
from jconv.cost.trace import elements_of_text

__all__ = ["Label", "label_of", "parameter_path", "primitive_of"]

CONTROL = re.compile(r"(^|/)(?:while/(?:body|cond)|cond/branch_\d+_fun|branch_\d+_fun)(?=/|$)")
CALL = re.compile(
    r"(?:p?jit|pmap|shard_map|checkpoint|remat\d?|closed_call|core_call|eval_jaxpr|custom_[jv][jv]p_call(?:_jaxpr)?|jconv_conv)(?:\(.*\))?"
)
KEY = re.compile(r"\['?([^'\]]*)'?\]|\.(\w+)")


class Label(NamedTuple):
    """Where an instruction belongs."""

    path: str
    phase: str
    """"forward", "recompute" or "backward": the name does not tell which gradient, nor what is the optimiser."""


@functools.lru_cache(maxsize=65536)
def label_of(op_name: str) -> Label:
    """The layer and the phase that a name tells; its last part is the primitive."""
    scopes = CONTROL.sub(r"\1", op_name.partition(";")[0].rpartition("/")[0])  # of merged instructions the first
    stack = tuple((kind, name) for kind, name in elements_of_text(scopes) if not CALL.fullmatch(name))
    phase = written(stack)
    return Label(path_of(stack), "forward" if phase == "optimiser" else phase)


def primitive_of(op_name: str) -> str:
    """The primitive that an instruction was made for; jconv's convolution is lowered to many."""
    return "jconv_conv" if "/jconv_conv" in op_name else op_name.rpartition("/")[2]


def parameter_path(op_name: str) -> str:
    """The path of the layer that a parameter belongs to: `params['layer1']['0']['kernel']` is layer1.0."""
    keys = [a or b for a, b in KEY.findall(op_name)]
    return ".".join(keys[:-1])
