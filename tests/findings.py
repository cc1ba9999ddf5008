# SPDX-License-Identifier: Apache-2.0
"""The table of what proves each type of finding: the tests, and the evidence that they saw.

Tests note what was found and what was not, rightly; the table is made of their reports.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, cast

import pytest

from nodeagent.detect.catalogue import RULES
from tests.matrix import Note

__all__ = ["Note", "holes", "note_found", "note_near", "table"]

FOUND: Final = "finding found"
NEAR: Final = "finding not found"
"""Names of the properties that a test notes."""
OWN: Final = ("action", "context", "evidence")
"""Parts of a finding that depend on its type."""
COMMON: Final = {"evidence.rule", "evidence.weight", "evidence.event", "action.actionType"}
TYPES: Final = sorted({rule.type for rule in RULES.values()})


def note_found(note: Note, finding: Mapping[str, Any]) -> None:
    """The real behaviour gave this finding."""
    places = {f"{part}.{name}" for part in OWN for name in finding.get(part) or ()}
    note(FOUND, (finding["type"], sorted(places - COMMON)))


def note_near(note: Note, *types: str) -> None:
    """Something that only looks similar gave no finding of these types."""
    for each in types:
        note(NEAR, (each, []))


def table(reports: Iterable[pytest.TestReport]) -> list[str]:
    """A paragraph for each type that some test was about."""
    found, near, evidence = _sorted(reports)
    lines = []
    for each in TYPES:
        if found[each] or near[each]:
            lines.append(each)
            lines.append(f"  found: {', '.join(found[each]) or '-'}")
            lines.append(f"  near miss: {', '.join(near[each]) or '-'}")
            lines.append(f"  evidence: {', '.join(sorted(evidence[each])) or 'process'}")
    return lines


def holes(reports: Iterable[pytest.TestReport]) -> Iterator[str]:
    """What no test that passed has shown, one line each."""
    found, near, _ = _sorted(reports)
    for each in TYPES:
        if not found[each]:
            yield f"{each}: no test does it and sees it found"
        if not near[each]:
            yield f"{each}: no test does what looks like it and sees it not found"


def _sorted(
    reports: Iterable[pytest.TestReport],
) -> tuple[dict[str, list[str]], dict[str, list[str]], dict[str, set[str]]]:
    """By type: tests that saw it found, those of near misses, and places of its evidence."""
    found: dict[str, list[str]] = defaultdict(list)
    near: dict[str, list[str]] = defaultdict(list)
    evidence: dict[str, set[str]] = defaultdict(set)
    for report in reports:
        for name, value in report.user_properties if report.passed else ():
            if name in {FOUND, NEAR}:
                type_, places = cast("tuple[str, list[str]]", value)
                (found if name == FOUND else near)[type_].append(_short(report.nodeid))
                evidence[type_].update(places)
    return found, near, evidence


def _short(nodeid: str) -> str:
    """detect/scenes[fileless] for tests/detect/test_scenes.py::test_…[fileless]."""
    path, _, test = nodeid.partition("::")
    folder, _, file = path.removeprefix("tests/").rpartition("/")
    where = f"{folder}/{file.removeprefix('test_').removesuffix('.py')}"
    _, bracket, case = test.partition("[")
    return f"{where}{bracket}{case}"
