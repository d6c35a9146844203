"""Measured speed: one program and one table a question. Run them as `python -m benchmarks.lowerings`."""
