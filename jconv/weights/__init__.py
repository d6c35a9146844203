"""Weights in torch's names and formats: `load` and `save`, and the mechanical way between a tree and a state dict."""

from jconv.weights.loading import Weights, load, save
from jconv.weights.names import check, from_torch, to_torch
from jconv.weights.preprocessing import Preprocessing

__all__ = ["Preprocessing", "Weights", "check", "from_torch", "load", "save", "to_torch"]
