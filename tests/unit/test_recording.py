# SPDX-License-Identifier: Apache-2.0
"""Recordings: what was written is read, and damage is one clear sentence."""

from __future__ import annotations

import contextlib
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.errors import RecordingError, TornRecording
from nodeagent.event import AgentEvent
from nodeagent.kernel.wire import Records
from nodeagent.source import Item, Listing
from nodeagent.source.recording import Facts, Recorder, Recording

FACTS = Facts("0.1.0", "x86_64", "6.1.0", 1_000_000_000, ["exec", "open"])
ITEMS: list[Item] = [
    AgentEvent("agent.start", 5, {"kinds": ["exec"], "hooks": {}}),
    Listing(b"processes", 1),
    Records(b"head1234head5678", [4, 12], [8, 16], 2),
    Records(b"", [], [], 3),
    AgentEvent("agent.stop", 6, {"reason": "SIGTERM"}),
]


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    path = tmp_path / "recorded"
    recorder = Recorder(path, FACTS, b"types")
    for item in ITEMS:
        recorder.write(item)
    recorder.close()
    assert recorder.failure is None
    return path


def read(path: Path) -> tuple[Recording, list[Item]]:
    recording = Recording(path)
    try:
        return recording, list(recording)
    finally:
        recording.close()


def test_what_was_written_is_read(recorded: Path) -> None:
    recording, items = read(recorded)
    assert recording.facts == FACTS
    assert recording.btf == b"types"
    assert items == ITEMS


def test_recording_is_for_its_owner_only(recorded: Path) -> None:
    assert stat.S_IMODE(recorded.stat().st_mode) == 0o600


def test_existing_file_is_not_overwritten(recorded: Path) -> None:
    with pytest.raises(RecordingError, match="File exists"):
        Recorder(recorded, FACTS, b"")


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"nowhere.*No such file"):
        Recorder(tmp_path / "nowhere/file", FACTS, b"")


def test_torn_recording_gives_everything_before_the_tear(recorded: Path) -> None:
    whole = recorded.read_bytes()
    recorded.write_bytes(whole[:-3])
    recording = Recording(recorded)
    items: list[Item] = []
    with pytest.raises(TornRecording, match="in the middle"):
        items.extend(iter_into(recording, items))
    assert items == ITEMS[:-1]
    recording.close()


def iter_into(recording: Recording, items: list[Item]) -> list[Item]:
    for item in recording:
        items.append(item)  # noqa: PERF402  what came before the error counts
    return []


def test_changed_byte_is_found_by_the_checksum(recorded: Path) -> None:
    whole = bytearray(recorded.read_bytes())
    whole[-3] ^= 1
    recorded.write_bytes(whole)
    with pytest.raises(TornRecording, match="checksum"):
        read(recorded)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is no recording"),
        (b"\x7fELF" + b"\0" * 100, "is no recording"),
        (b"nodeagent recording 9\n", "another recording format"),
        (b"nodeagent recording 1\n", "damaged at its start"),
        (b"nodeagent recording 1\n" + b"\xff" * 40, "damaged at its start"),
    ],
)
def test_foreign_file_is_refused_in_one_sentence(
    tmp_path: Path, content: bytes, sentence: str
) -> None:
    path = tmp_path / "foreign"
    path.write_bytes(content)
    with pytest.raises(RecordingError, match=sentence):
        Recording(path)


def test_folder_is_no_recording(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="directory"):
        Recording(tmp_path)


@given(at=st.integers(0, 10_000), junk=st.binary(min_size=1, max_size=40))
def test_arbitrary_damage_raises_only_our_errors(
    tmp_path_factory: pytest.TempPathFactory, at: int, junk: bytes
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "file"
    recorder = Recorder(path, FACTS, b"types")
    for item in ITEMS:
        recorder.write(item)
    recorder.close()
    whole = bytearray(path.read_bytes())
    whole[at % len(whole) : at % len(whole) + len(junk)] = junk
    path.write_bytes(whole)
    with contextlib.suppress(RecordingError, TornRecording):
        read(path)
