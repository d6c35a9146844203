"""What is written about where a program ran."""

import importlib.metadata
import os
import re

import pytest

from train import machine


def test_a_device_has_a_number_and_a_name() -> None:
    found = re.fullmatch(r"(\d+) (cores of|x) (\S.*?)(?:, as \d+ devices)?", machine.device())
    assert found and 1 <= int(found[1]) <= (os.cpu_count() or 1)


def test_version_of_what_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: [])
    assert machine.versions()["jconv"] is None


def test_revision_outside_of_a_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert machine.revision() is None
