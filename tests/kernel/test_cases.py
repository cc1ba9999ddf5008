# SPDX-License-Identifier: Apache-2.0
"""Every case of tests/cases, on this machine."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cases import FAMILIES, Case, all_cases
from tests.kernel.stream import Acted, Stream, act, build_acts
from tests.matrix import Note, judge, note_cell


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The compiled act programs, by name."""
    return build_acts(tmp_path_factory.mktemp("acts"))


@pytest.fixture
def perform(programs: dict[str, Path], tmp_path: Path) -> Callable[[Case], Acted]:
    """Runs the act of a case in a folder of its own."""
    return lambda case: act(programs[case.act[0]], *case.act[1:], cwd=tmp_path)


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    """A family of hooks."""
    return str(request.param)


@pytest.fixture(scope="module")
def stream(kernel: None, family: str) -> Iterator[Stream]:
    """An agent that uses one family of hooks."""
    with Stream(*FAMILIES[family]) as running:
        yield running


@pytest.mark.parametrize("case", all_cases(), ids=lambda case: case.name)
def test_case(
    stream: Stream, perform: Callable[[Case], Acted], case: Case, family: str, record_property: Note
) -> None:
    release = platform.release()
    note_cell(record_property, case, release, family)
    acted = perform(case)
    assert acted.code == case.code, acted.said
    stream.catch_up()
    judge(case, stream.events, acted.said, release, family)
