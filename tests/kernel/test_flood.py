# SPDX-License-Identifier: Apache-2.0
"""A real flood is told with who makes it, live and in a replay; heavy work that fits is not."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nodeagent.kernel.object import find_object
from tests.detect.replaying import Recorded
from tests.detect.shapes import misfits
from tests.findings import Note, note_found, note_near
from tests.kernel.stream import Stream
from tests.kernel.test_budget import FLOOD, GRACE_SECONDS
from tests.requirement import need

TYPE = "DefenseEvasion:Runtime/AgentFlooded"
WORK_SECONDS = 6.0
TIGHT = ("--only", "exec,fork,exit,open", "--set", "budget.cpu_percent=4")
AMPLE = ("--only", "exec,fork,exit,open", "--set", "budget.cpu_percent=100")


@pytest.fixture
def recorded(tmp_path: Path) -> Recorded:
    need("kernel", os.geteuid() == 0, "eBPF programs can only be loaded by root")
    need("kernel", find_object().exists(), "bpf/nodeagent.bpf.o is not built")
    return Recorded(tmp_path)


@contextmanager
def flooding(file: Path) -> Iterator[int]:
    """Some 30,000 opens a second, by the process with this pid."""
    with subprocess.Popen([sys.executable, "-c", FLOOD, file]) as flood:
        try:
            yield flood.pid
        finally:
            flood.kill()


def test_who_floods_the_agent_is_named_live_and_in_a_replay(
    recorded: Recorded, tmp_path: Path, record_property: Note
) -> None:
    with Stream("--signals", *TIGHT, *recorded.options) as stream:
        time.sleep(GRACE_SECONDS)
        with flooding(tmp_path / "file") as pid:
            finding = stream.first(lambda event: event.get("type") == TYPE)
        assert stream.stop() == 143
    assert finding["severity"] == "low"
    assert finding["process"]["pid"] == pid
    assert finding["context"]["programShare"] > 0.5
    assert not list(misfits(finding))
    note_found(record_property, finding)
    found = recorded.findings()
    assert any(TYPE.encode() in line for line in found)
    assert recorded.replayed(()) == found


def test_the_same_load_within_the_budget_is_nothing(
    recorded: Recorded, tmp_path: Path, record_property: Note
) -> None:
    with Stream(*AMPLE, *recorded.options) as stream:
        time.sleep(GRACE_SECONDS)
        with flooding(tmp_path / "file"):
            time.sleep(WORK_SECONDS)
        assert stream.stop() == 143
    assert not [event for event in stream.events if event.get("type") == TYPE]
    note_near(record_property, TYPE)
