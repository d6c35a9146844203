"""The cost laboratory: what a JAX function costs, layer by layer, counted before a byte is allocated."""

from jconv.cost.analyze import analyze
from jconv.cost.compare import compare
from jconv.cost.formulas import conv_ops
from jconv.cost.hlo import hlo
from jconv.cost.measure import measure, this_device
from jconv.cost.page import page
from jconv.cost.peak import Peak, peak
from jconv.cost.receptive_field import effective_receptive_field, receptive_field
from jconv.cost.report import report
from jconv.cost.roofline import Device, devices, roofline
from jconv.cost.rules import Window, Work, register
from jconv.cost.scopes import scopes
from jconv.cost.types import Cost, Coverage, Layer, Result, Row, diff
from jconv.cost.xla import xla

__all__ = [
    "Cost",
    "Coverage",
    "Device",
    "Layer",
    "Peak",
    "Result",
    "Row",
    "Window",
    "Work",
    "analyze",
    "compare",
    "conv_ops",
    "devices",
    "diff",
    "effective_receptive_field",
    "hlo",
    "measure",
    "page",
    "peak",
    "receptive_field",
    "register",
    "report",
    "roofline",
    "scopes",
    "this_device",
    "xla",
]
