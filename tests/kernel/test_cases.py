# SPDX-License-Identifier: Apache-2.0
"""Every case of tests/cases, on this machine."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from tests.cases import TRACEPOINT, Case, all_cases
from tests.kernel.stream import Stream, act, build_acts
from tests.matrix import Note, judge, note_cell


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The compiled act programs, by name."""
    return build_acts(tmp_path_factory.mktemp("acts"))


@pytest.mark.parametrize("case", all_cases(), ids=lambda case: case.name)
def test_case(
    stream: Stream, programs: dict[str, Path], case: Case, tmp_path: Path, record_property: Note
) -> None:
    release = platform.release()
    note_cell(record_property, case, release, TRACEPOINT)
    program, *arguments = case.act
    acted = act(programs[program], *arguments, cwd=tmp_path)
    assert acted.code == case.code, acted.said
    stream.catch_up()
    judge(case, stream.events, acted.said, release, TRACEPOINT)
