# SPDX-License-Identifier: Apache-2.0
"""Every case of tests/cases, on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cases import TRACEPOINT, Case, all_cases, fault
from tests.kernel.stream import Stream, act, build

ACTS = Path(__file__).parents[1] / "cases" / "acts"


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The compiled act programs, by name."""
    folder = tmp_path_factory.mktemp("acts")
    return {source.stem: build(source, folder / source.stem) for source in ACTS.glob("*.c")}


@pytest.mark.parametrize("case", all_cases(), ids=lambda case: case.name)
def test_case(stream: Stream, programs: dict[str, Path], case: Case, tmp_path: Path) -> None:
    program, *arguments = case.act
    acted = act(programs[program], *arguments, cwd=tmp_path)
    assert acted.code == 0, acted.said
    stream.catch_up()
    assert not fault(case, stream.events, acted.said, TRACEPOINT)
