# SPDX-License-Identifier: Apache-2.0
"""Every case of tests/cases, on this machine."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from nodeagent.kernel.libbpf import Libbpf
from nodeagent.kernel.object import find_object
from nodeagent.kernel.probe import refuses_trampolines
from tests.cases import FAMILIES, TRAMPOLINE, Case, all_cases
from tests.kernel.stream import Stream, act, build_acts, holding
from tests.matrix import Note, judge, note_cell
from tests.requirement import need

Spoken = dict[str, Any]
"""What an act says."""


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The compiled act programs, by name."""
    return build_acts(tmp_path_factory.mktemp("acts"))


@pytest.fixture(scope="module")
def held(
    programs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Spoken]]:
    """What acts said that go on from before the agent, by case."""
    with ExitStack() as stack:
        yield {
            case.name: stack.enter_context(
                holding(
                    programs[case.act[0]], *case.act[1:], cwd=tmp_path_factory.mktemp(case.name)
                )
            )
            for case in all_cases()
            if case.is_held
        }


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    """A family of hooks."""
    return str(request.param)


@pytest.fixture(scope="module")
def stream(kernel: None, family: str, held: object) -> Iterator[Stream]:
    """An agent that uses one family of hooks."""
    if family == TRAMPOLINE:
        refused = refuses_trampolines(Libbpf(), find_object())
        need("trampolines", not refused, f"this kernel takes no trampolines: {refused}")
    with Stream(*FAMILIES[family]) as running:
        yield running


@pytest.fixture(scope="module")
def done(stream: Stream) -> dict[tuple[str, ...], Spoken]:
    """What acts said that were done under the eyes of this agent; cases may share one."""
    return {}


@pytest.fixture
def perform(
    programs: dict[str, Path],
    held: dict[str, Spoken],
    stream: Stream,
    done: dict[tuple[str, ...], Spoken],
    tmp_path: Path,
) -> Callable[[Case], Spoken]:
    """Runs the act of a case in a folder of its own, and waits for its events."""

    def said(case: Case) -> Spoken:
        if case.act in done:
            return done[case.act]
        if case.is_held:
            done[case.act] = held[case.name]
        else:
            acted = act(programs[case.act[0]], *case.act[1:], cwd=tmp_path)
            assert acted.code == case.code, acted.said
            done[case.act] = acted.said
        stream.catch_up()
        return done[case.act]

    return said


@pytest.mark.parametrize("case", all_cases(), ids=lambda case: case.name)
def test_case(
    stream: Stream,
    perform: Callable[[Case], Spoken],
    case: Case,
    family: str,
    record_property: Note,
) -> None:
    release = platform.release()
    note_cell(record_property, case, release, family)
    judge(case, stream.events, perform(case), release)
