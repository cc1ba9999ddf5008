# SPDX-License-Identifier: Apache-2.0
"""A recorded stream is the same stream, byte for byte."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kernel.stream import Acted, Stream

Do = Callable[..., Acted]
NODEAGENT = [sys.executable, "-m", "nodeagent"]


@pytest.fixture
def recorded(do: Do, tmp_path: Path) -> tuple[Path, Path]:
    """A recording and the NDJSON of the run that made it."""
    recording = tmp_path / "recording"
    live = tmp_path / "live.ndjson"
    with Stream(
        "--sink", "file", "--set", f"sinks.file.path={live}", "--record", str(recording)
    ) as stream:
        for _ in range(20):
            acted = do("exec", "/bin/true", "true")
        do("accept", "stream", "inet", "127.0.0.1", "0")
        stream.of(acted.pid, "exec")
    return recording, live


def replay(recording: Path, *options: str) -> subprocess.CompletedProcess[bytes]:
    command = [*NODEAGENT, "replay", str(recording), "--format", "json", *options]
    return subprocess.run(command, capture_output=True, check=False)


def test_replay_gives_the_same_bytes(recorded: tuple[Path, Path]) -> None:
    recording, live = recorded
    done = replay(recording)
    assert done.returncode == 0
    assert done.stdout == live.read_bytes()
    assert b"balanced: every event is accounted for" in done.stderr
    assert replay(recording).stdout == done.stdout


def test_replay_can_show_only_some_kinds(recorded: tuple[Path, Path]) -> None:
    recording, live = recorded
    wanted = [
        line
        for line in live.read_bytes().splitlines()
        if line.startswith((b'{"kind":"accept"', b'{"kind":"agent.'))
        # Nobody asks about programs then.
        and not line.startswith(b'{"kind":"agent.file"')
    ]
    assert replay(recording, "--only", "accept").stdout.splitlines() == wanted


def test_torn_recording_is_replayed_up_to_the_tear(recorded: tuple[Path, Path]) -> None:
    recording, live = recorded
    recording.write_bytes(recording.read_bytes()[:-100])
    done = replay(recording)
    assert done.returncode == 1
    assert live.read_bytes().startswith(done.stdout)
    assert len(done.stdout) > 1000
    assert b"ends in the middle of a frame" in done.stderr
    assert b"Traceback" not in done.stderr
