"""`agree` compares a network with torch's; the table of what it found follows the tests."""

from collections.abc import Callable
from typing import Any

import pytest

from jconv.models import Network
from tests.models.parity import EXACT, Agree, Difference, compare


@pytest.fixture
def agree(record_property: Callable[[str, object], None], request: pytest.FixtureRequest) -> Agree:
    """`compare`, asserted and noted for the table."""

    def asserted(net: Network, theirs: Any, shape: tuple[int, ...], *, exact: float = EXACT, **options: Any) -> None:
        found = compare(net, theirs, shape, **options)
        record_property("parity", (request.node.nodeid, shape, {what: tuple(d) for what, d in found.items()}))
        wrong = {what: d.wrong(exact=exact, of_gradient=what == "gradient") for what, d in found.items()}
        assert not any(wrong.values()), (wrong, found)

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
    for test, shape, found in sorted(rows, key=lambda row: row[:2]):
        differences = {what: Difference(*d) for what, d in found.items()}
        cells = [_cell(differences[c]) if c in differences else "" for c in columns]
        exact = max(d.float64 for d in differences.values())
        name = test.removeprefix("tests/models/test_")
        terminalreporter.write_line(f"| {name} | {'×'.join(map(str, shape))} | {' | '.join(cells)} | {exact:.0e} |")


def _cell(d: Difference) -> str:
    """The float32 difference; where that is much, of half of the examples too, and torch's own between the widths."""
    return f"{d.float32:.1e}" + (f" (half {d.half:.0e}, torch {d.rounding:.0e})" if d.float32 > 1e-4 else "")
