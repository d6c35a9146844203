"""`agree` compares a network with torch's; the table of what it found follows the tests."""

from collections.abc import Callable
from typing import Any

import pytest

from jconv.models import Network
from tests.models.parity import Agree, Difference, compare


@pytest.fixture
def agree(record_property: Callable[[str, object], None], request: pytest.FixtureRequest) -> Agree:
    """`compare`, asserted and noted for the table."""

    def asserted(net: Network, theirs: Any, shape: tuple[int, ...], **options: Any) -> None:
        found = compare(net, theirs, shape, **options)
        record_property("parity", (request.node.nodeid, shape, {k: vars(d) for k, d in found.items()}))
        wrong = {what: d for what, d in found.items() if not d.small}
        assert not wrong, wrong

    return asserted


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """A row for each network compared: float32 beside torch's, and the worst in float64."""
    reports = [r for key in ("passed", "failed") for r in terminalreporter.stats.get(key, [])]
    rows = [value for r in reports for name, value in getattr(r, "user_properties", []) if name == "parity"]
    if not rows:
        return
    columns = ("evaluation", "gradient", "training", "statistics")
    terminalreporter.section("the same numbers as torch: the largest difference over the largest value")
    terminalreporter.write_line(f"| test | input | {' | '.join(columns)} | in float64 |\n|---|---|" + "---:|" * 5)
    for test, shape, found in sorted(rows):
        differences = {what: Difference(**d) for what, d in found.items()}
        cells = [_cell(differences[c]) if c in differences else "" for c in columns]
        exact = max(d.float64 for d in differences.values())
        name = test.removeprefix("tests/models/test_")
        terminalreporter.write_line(f"| {name} | {'×'.join(map(str, shape))} | {' | '.join(cells)} | {exact:.0e} |")


def _cell(d: Difference) -> str:
    """The float32 difference, and torch's own rounding where that is what it is compared with."""
    return f"{d.float32:.1e}" + (f" ({d.rounding:.0e})" if d.float32 > 1e-4 else "")
