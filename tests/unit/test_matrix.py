# SPDX-License-Identifier: Apache-2.0
"""What becomes of a case, and the table of all."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import pytest

from tests import matrix
from tests.cases import Case, all_cases, holes
from tests.cases.evasions import SIBLINGS
from tests.cases.holes import Hole

CASE = Case("open-it", "open", ("act", "open"), {"result": 3})
COVERAGE = {"kind": "agent.coverage", "kinds": {"open": {"family": "tracepoint"}}}
RIGHT = {"kind": "open", "process": {"pid": 7}, "result": 3}
WRONG = {**RIGHT, "result": 4}
SAID = {"pid": 7, "result": 3}
RELEASE = "5.10.0-32-cloud-amd64"


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The case is a hole of 5.10."""
    monkeypatch.setattr(holes, "HOLES", (Hole("open-*", "5.10.*", "*", "not there yet"),))


def judged(event: dict[str, object], release: str = RELEASE) -> None:
    matrix.judge(CASE, [COVERAGE, event], SAID, release)


def test_event_as_expected_passes() -> None:
    judged(RIGHT)


def test_event_that_differs_fails() -> None:
    with pytest.raises(AssertionError, match=r"expected {'result': 3}, found {'result': 4}"):
        judged(WRONG)


def test_known_hole_is_expected_to_fail(known: None) -> None:
    with pytest.raises(pytest.xfail.Exception, match="not there yet"):
        judged(WRONG)


def test_known_hole_that_works_fails(known: None) -> None:
    with pytest.raises(pytest.fail.Exception, match="no hole any more"):
        judged(RIGHT)


def test_hole_of_another_kernel_is_none_of_this_one(known: None) -> None:
    judged(RIGHT, release="6.1.0-50-cloud-amd64")


def test_call_that_the_kernel_does_not_have_is_skipped() -> None:
    with pytest.raises(pytest.skip.Exception):
        matrix.judge(CASE, [], {"pid": 7, "result": -38}, RELEASE)


def test_e10_every_sibling_of_a_call_has_a_case() -> None:
    assert {case.name for case in all_cases()} >= SIBLINGS


def test_every_way_to_hide_from_events_has_a_case_or_a_test() -> None:
    numbers = (*range(1, 5), 7, *range(9, 16), 17, *range(20, 26), 28)
    tests = "".join(path.read_text() for path in Path(__file__).parents[1].glob("*/test_*.py"))
    named = set(re.findall(r"def test_(e\d+)_", tests))
    named |= {case.name.partition("-")[0] for case in all_cases()}
    assert not {f"e{number}" for number in numbers} - named


def report(
    kernel: str, kind: str, outcome: Literal["passed", "failed", "skipped"], reason: str = ""
) -> pytest.TestReport:
    """Of a test that noted its cell."""
    made = pytest.TestReport(
        nodeid="test",
        location=("file", 1, "test"),
        keywords={},
        outcome=outcome,
        longrepr=None,
        when="call",
        user_properties=[(matrix.CELL, (kernel, kind))],
    )
    if reason:
        made.wasxfail = f"reason: {reason}"
    return made


def test_table_orders_kernels_by_number_and_counts_holes() -> None:
    lines = matrix.table(
        [
            report("6.12", "open", "passed"),
            report("6.1", "open", "passed"),
            report("6.1", "open", "failed"),
            report("6.12", "exec", "skipped"),
            report("6.1", "exec", "skipped", "not there yet"),
        ]
    )
    assert lines == [
        "      6.1       6.12",
        "exec  hole 1/1  -",
        "open  hole 1/2  ok 1",
        "exec, 6.1: not there yet",
    ]


def test_no_table_without_cases() -> None:
    assert matrix.table([]) == []
