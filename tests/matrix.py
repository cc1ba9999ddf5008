# SPDX-License-Identifier: Apache-2.0
"""The table of what works where: kinds of events by kernels and families of hooks.

Each test of a case notes its cell; the table is made of the reports of all tests.
"""

from __future__ import annotations

import errno
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, cast

import pytest

from tests.cases import Case, fault
from tests.cases.holes import hole_of

CELL: Final = "cell"
"""The name of the property that a test notes."""
ABSENT: Final = "the kernel has no such call"
GAP: Final = "  "

Note = Callable[[str, object], None]
"""pytest's record_property."""


def note_cell(note: Note, case: Case, release: str, family: str) -> None:
    """Say where in the table this test belongs."""
    note(CELL, (f"{release} {family}", case.kind))


def judge(
    case: Case,
    events: Iterable[Mapping[str, Any]],
    said: Mapping[str, Any],
    release: str,
    family: str,
) -> None:
    """Pass, fail, or say why it is known to fail. What a kernel does not have is skipped."""
    if said.get("result") == -errno.ENOSYS:
        pytest.skip(ABSENT)
    wrong = fault(case, events, said, family)
    hole = hole_of(case, release, family)
    if hole and not wrong:
        pytest.fail(f"no hole any more, take it out of HOLES: {hole.reason}")
    if hole:
        pytest.xfail(hole.reason)
    assert not wrong, wrong


def table(reports: Iterable[pytest.TestReport]) -> list[str]:
    """Lines; none when no case was judged."""
    cells: dict[tuple[str, str], list[str]] = defaultdict(list)
    holes: dict[str, None] = {}
    for report in reports:
        for name, value in report.user_properties:
            if name != CELL:
                continue
            column, kind = cast("tuple[str, str]", value)
            outcome = "hole" if hasattr(report, "wasxfail") or report.failed else report.outcome
            cells[kind, column].append(outcome)
            if outcome == "hole":
                holes[f"hole: {report.nodeid.rpartition('::')[2]}: {_reason(report)}"] = None
    columns = list(dict.fromkeys(column for _, column in cells))
    rows = [["", *columns]]
    rows += [
        [kind, *(_cell(cells.get((kind, column), [])) for column in columns)]
        for kind in dict.fromkeys(kind for kind, _ in cells)
    ]
    return [*_aligned(rows), *holes] if cells else []


def _cell(outcomes: Sequence[str]) -> str:
    worked, holes = outcomes.count("passed"), outcomes.count("hole")
    if holes:
        return f"hole {holes}/{worked + holes}"
    return f"ok {worked}" if worked else "-"


def _reason(report: pytest.TestReport) -> str:
    if hasattr(report, "wasxfail"):
        return str(report.wasxfail).removeprefix("reason: ")
    return "not listed in HOLES"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
