"""`agree` compares a network with torch's, and with what torch computed once; a table follows the former."""

import collections
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from jconv.models import Network
from tests.models import record
from tests.models.parity import EXACT, Agree, Difference, Theirs, compare, ours


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record", action="store_true", help="keep what torch computes, where ours agrees with it")


@pytest.fixture(params=[pytest.param("torch", marks=pytest.mark.parity), "record"])
def agree(record_property: Callable[[str, object], None], request: pytest.FixtureRequest) -> Agree:
    """Ours beside torch's, asserted and noted for the table; or beside the record, in float64 and without torch."""
    parameters = [str(value) for name, value in request.node.callspec.params.items() if name != "agree"]
    test = request.node.originalname + (f"[{', '.join(parameters)}]" if parameters else "")

    def with_torch(
        net: Network, theirs: Theirs, shape: tuple[int, ...], *, exact: float = EXACT, **options: Any
    ) -> None:
        found, right = compare(net, theirs, shape, **options)
        row = (f"{request.path.stem.removeprefix('test_')} {test}", shape, {w: tuple(d) for w, d in found.items()})
        record_property("parity", row)
        wrong = {what: d.wrong(exact=exact, of_gradient=what == "gradient") for what, d in found.items()}
        assert not any(wrong.values()), (wrong, found)
        digests = {what: rows.tolist() for what, rows in record.digests(right).items()}
        record_property("record", (request.path.stem, test, digests))

    def with_record(
        net: Network,
        theirs: Theirs,
        shape: tuple[int, ...],
        *,
        exact: float = EXACT,
        rename: Any = None,
        **options: Any,
    ) -> None:
        right = record.read(request.path.stem, test)
        found = record.differences(record.digests(ours(net, shape, **options)), right)
        assert max(found.values()) <= exact, found

    return with_torch if request.param == "torch" else with_record


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """A row for each network compared: float32 beside torch's, and the worst in float64. With --record, its record."""
    reports = [r for key in ("passed", "failed") for r in terminalreporter.stats.get(key, [])]
    properties = [entry for r in reports for entry in getattr(r, "user_properties", [])]
    rows = [value for name, value in properties if name == "parity"]
    if not rows:
        return
    columns = ("evaluation", "gradient", "training", "statistics")
    terminalreporter.section("the same numbers as torch: the largest difference over the largest value")
    terminalreporter.write_line(f"| test | input | {' | '.join(columns)} | in float64 |\n|---|---|" + "---:|" * 5)
    for test, shape, found in sorted(rows, key=lambda row: row[:2]):
        differences = {what: Difference(*d) for what, d in found.items()}
        cells = [_cell(differences[c]) if c in differences else "" for c in columns]
        exact = max(d.float64 for d in differences.values())
        terminalreporter.write_line(f"| {test} | {'×'.join(map(str, shape))} | {' | '.join(cells)} | {exact:.0e} |")
    if config.getoption("--record"):
        files = collections.defaultdict(dict)
        for file, test, digests in (value for name, value in properties if name == "record"):
            files[file][test] = {what: np.asarray(rows) for what, rows in digests.items()}
        for file, tests in files.items():
            record.write(file, tests)


def _cell(d: Difference) -> str:
    """The float32 difference; where that is much, of half of the examples too, and torch's own between the widths."""
    return f"{d.float32:.1e}" + (f" (half {d.half:.0e}, torch {d.rounding:.0e})" if d.float32 > 1e-4 else "")
