# SPDX-License-Identifier: Apache-2.0
"""The table of what works where: kinds of events by kernels and families of hooks.

Each test of a case notes its cell; the table is made of the reports of all tests.
"""

from __future__ import annotations

import errno
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, cast

import pytest

from tests.cases import Case, family_of, fault, result_of
from tests.cases.holes import hole_of

CELL: Final = "cell"
"""The name of the property that a test notes."""
ABSENT: Final = "the kernel has no such call"
GAP: Final = "  "
NUMBERS: Final = re.compile(r"(\d+)")

Note = Callable[[str, object], None]
"""pytest's record_property."""


def note_cell(note: Note, case: Case, kernel: str, family: str) -> None:
    """Say where in the table this test belongs."""
    note(CELL, (f"{kernel} {family}", case.kind))


def judge(
    case: Case, events: Sequence[Mapping[str, Any]], said: Mapping[str, Any], release: str
) -> None:
    """Pass, fail, or say why it is known to fail. What a kernel does not have is skipped."""
    if -errno.ENOSYS in (said.get("result"), result_of(case, said)):
        pytest.skip(ABSENT)
    family = family_of(events, case.kind)
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
    reasons: dict[str, None] = {}
    for report in reports:
        for name, value in report.user_properties:
            if name != CELL:
                continue
            column, kind = cast("tuple[str, str]", value)
            known = getattr(report, "wasxfail", None)
            cells[kind, column].append("hole" if known or report.failed else report.outcome)
            if known:
                reasons[f"{kind}, {column}: {str(known).removeprefix('reason: ')}"] = None
    columns = sorted({column for _, column in cells}, key=_by_number)
    rows = [["", *columns]]
    rows += [
        [kind, *(_cell(cells.get((kind, column), [])) for column in columns)]
        for kind in sorted({kind for kind, _ in cells})
    ]
    return [*_aligned(rows), *reasons] if cells else []


def _by_number(text: str) -> list[tuple[int, str]]:
    """Orders 6.12 behind 6.1."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in NUMBERS.split(text)]


def _cell(outcomes: Sequence[str]) -> str:
    worked, holes = outcomes.count("passed"), outcomes.count("hole")
    if holes:
        return f"hole {holes}/{worked + holes}"
    return f"ok {worked}" if worked else "-"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
