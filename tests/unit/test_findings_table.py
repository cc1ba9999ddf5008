# SPDX-License-Identifier: Apache-2.0
"""The table of what proves each finding."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from tests.findings import TYPES, holes, note_found, note_near, table

TYPE = "DefenseEvasion:Runtime/FilelessExecution"
FINDING = {
    "type": TYPE,
    "context": {"threatFilePath": "/memfd:x"},
    "evidence": {"rule": "fileless", "weight": 60, "event": {}},
}


def report(
    name: str, noted: list[tuple[str, Any]], outcome: Literal["passed", "failed"] = "passed"
) -> pytest.TestReport:
    return pytest.TestReport(
        f"tests/detect/test_scenes.py::test_it[{name}]",
        ("", None, ""),
        {},
        outcome,
        None,
        "call",
        user_properties=noted,
    )


def noted(near: bool) -> list[tuple[str, Any]]:
    properties: list[tuple[str, Any]] = []
    if near:
        note_near(lambda *each: properties.append(each), TYPE)
    else:
        note_found(lambda *each: properties.append(each), FINDING)
    return properties


def test_row_has_tests_and_evidence() -> None:
    lines = table([report("a", noted(near=False)), report("b", noted(near=True))])
    start = lines.index(TYPE)
    assert lines[start + 1 : start + 4] == [
        "  found: detect/scenes[a]",
        "  near miss: detect/scenes[b]",
        "  evidence: context.threatFilePath",
    ]


def test_what_nothing_shows_is_a_hole() -> None:
    whole = [report("a", noted(near=False)), report("b", noted(near=True))]
    assert len(list(holes(whole))) == 2 * len(TYPES) - 2
    assert f"{TYPE}: no test does it and sees it found" in list(holes(whole[1:]))


def test_test_that_failed_shows_nothing() -> None:
    failed = report("a", noted(near=False), "failed")
    assert len(list(holes([failed]))) == 2 * len(TYPES)


def test_run_without_such_tests_has_no_table() -> None:
    assert table([report("a", [])]) == []
