# SPDX-License-Identifier: Apache-2.0
"""A stream in a file, to be replayed without root and without the kernel it came from.

The file starts with a line that names the format. Then come frames, each with its type,
length and CRC-32; the first holds facts about the run, the second the object's
BTF, so that the records can be decoded wherever the file is read.
"""

from __future__ import annotations

import io
import logging
import os
import struct
import zlib
from array import array
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import Final

import msgspec
import orjson

from nodeagent.errors import RecordingError, TornRecording
from nodeagent.event import AgentEvent
from nodeagent.kernel.wire import Records
from nodeagent.source import (
    ContainerSeen,
    FileSeen,
    Item,
    Listing,
    ProcListing,
    Summaries,
    UserSeen,
)

__all__ = ["Facts", "Recorder", "Recording"]

log: Final = logging.getLogger(__name__)

FORMAT: Final = b"nodeagent recording 1\n"
FORMAT_NAME: Final = b"nodeagent recording "
FRAME: Final = struct.Struct("<BII")
TIMED: Final = struct.Struct("<qI")
FRAME_LIMIT_BYTES: Final = 64 << 20


class FrameType(IntEnum):
    """What a frame holds."""

    FACTS = 1
    BTF = 2
    RECORDS = 3
    LISTING = 4
    SAID = 5
    PROC_LISTING = 6
    SUMMARIES = 7
    CONTAINER = 8
    FILE = 9
    USER = 10


PLAIN: Final = {
    FrameType.PROC_LISTING: ProcListing,
    FrameType.CONTAINER: ContainerSeen,
    FrameType.FILE: FileSeen,
    FrameType.USER: UserSeen,
}
"""Items that a frame holds as JSON."""


class Facts(msgspec.Struct):
    """What a recording says about its run."""

    version: str
    """Of the agent."""
    machine: str
    """Architecture as in uname(1)."""
    kernel: str
    boot_ns: int
    """The wall clock at boot, ns since 1970."""
    kinds: list[str]
    """What was asked for."""
    waiting_events: int = 0
    """How many events of a cgroup waited at most until it was known what it is."""
    node_name: str = ""
    """In every event."""
    boot_id: str = ""
    """What makes the UUIDs of processes unique."""
    hashes: bool = False
    """Somebody was asked about files."""
    summary_seconds: float = 5.0
    """How often counts were told."""


class Recorder:
    """Writes items to a file as they come."""

    def __init__(self, path: Path, facts: Facts, btf: bytes) -> None:
        """Make the file, mode 0600; raises RecordingError when it exists or cannot be made."""
        self._path = path
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._file = io.BufferedWriter(io.FileIO(os.open(path, flags, 0o600), "w"), 1 << 20)
        except OSError as error:
            raise RecordingError(
                f"the recording {path} cannot be made: {error.strerror}"
            ) from error
        self.failure: str | None = None
        """Why it ended early, None as long as all is written."""
        self._file.write(FORMAT)
        self._frame(FrameType.FACTS, msgspec.json.encode(facts))
        self._frame(FrameType.BTF, btf)

    def write(self, item: Item) -> None:
        """Add one item. A full disk ends the recording, not the run."""
        if self.failure is not None:
            return
        try:
            self._frame(*_payload(item))
        except OSError as error:
            self._fail(error)

    def close(self) -> None:
        """Finish the file."""
        try:
            self._file.close()
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        if self.failure is None:
            self.failure = f"the recording {self._path} is incomplete: {error.strerror}"
            log.error("recording_ended why=%s", error.strerror)

    def _frame(self, kind: FrameType, payload: bytes) -> None:
        self._file.write(FRAME.pack(kind, len(payload), zlib.crc32(payload)))
        self._file.write(payload)


class Recording:
    """A file to be replayed. Iterate over it for its items."""

    def __init__(self, path: Path) -> None:
        """Read the head; raises RecordingError when it is no recording of this format."""
        self._path = path
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise RecordingError(f"{path} cannot be read: {error.strerror}") from error
        try:
            self._read_head()
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Let the file go."""
        self._file.close()

    def __iter__(self) -> Iterator[Item]:
        """The items in order; raises TornRecording where the file is damaged."""
        while (frame := self._read_frame()) is not None:
            kind, payload = frame
            try:
                item = _item(kind, payload)
            except (struct.error, orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
                raise TornRecording(f"{self._path} is damaged: {error}") from error
            if item is not None:
                yield item

    def _read_head(self) -> None:
        try:
            line = self._file.read(len(FORMAT))
        except OSError as error:
            raise RecordingError(f"{self._path} cannot be read: {error.strerror}") from error
        if line != FORMAT:
            if line.startswith(FORMAT_NAME):
                raise RecordingError(
                    f"{self._path} has another recording format than this version reads:"
                    " replay it with the version that made it"
                )
            raise RecordingError(f"{self._path} is no recording; make one with `run --record`")
        try:
            facts = self._expect(FrameType.FACTS)
            self.facts = msgspec.json.decode(facts, type=Facts)
            self.btf = self._expect(FrameType.BTF)
        except (TornRecording, msgspec.MsgspecError) as error:
            raise RecordingError(f"{self._path} is damaged at its start: {error}") from error

    def _expect(self, kind: FrameType) -> bytes:
        frame = self._read_frame()
        if frame is None or frame[0] != kind:
            raise TornRecording("a frame is missing")
        return frame[1]

    def _read_frame(self) -> tuple[int, bytes] | None:
        head = self._file.read(FRAME.size)
        if not head:
            return None
        torn = TornRecording(
            f"{self._path} ends in the middle of a frame; everything before it was replayed"
        )
        if len(head) < FRAME.size:
            raise torn
        kind, length, checksum = FRAME.unpack(head)
        if length > FRAME_LIMIT_BYTES:
            raise TornRecording(f"{self._path} is damaged: a frame of {length} bytes")
        payload = self._file.read(length)
        if len(payload) < length:
            raise torn
        if zlib.crc32(payload) != checksum:
            raise TornRecording(f"{self._path} is damaged: a frame fails its checksum")
        return kind, payload


def _payload(item: Item) -> tuple[FrameType, bytes]:
    if isinstance(item, Records):
        return FrameType.RECORDS, _packed(item)
    if isinstance(item, Summaries):
        return FrameType.SUMMARIES, _packed(item.records)
    if isinstance(item, Listing):
        return FrameType.LISTING, TIMED.pack(item.boot_ns, 0) + item.data
    if isinstance(item, AgentEvent):
        return FrameType.SAID, orjson.dumps([item.kind, item.time, item.details])
    frame = next(frame for frame, kind in PLAIN.items() if isinstance(item, kind))
    return frame, msgspec.json.encode(item)


def _packed(records: Records) -> bytes:
    spans = array("I", [*records.starts, *records.ends])
    head = TIMED.pack(records.boot_ns, len(records.starts))
    return head + spans.tobytes() + records.data


def _item(kind: int, payload: bytes) -> Item | None:
    if kind == FrameType.SAID:
        said, time_ns, details = orjson.loads(payload)
        return AgentEvent(str(said), int(time_ns), dict(details))
    if kind in PLAIN:
        plain: Item = msgspec.json.decode(payload, type=PLAIN[FrameType(kind)])
        return plain
    boot_ns, count = TIMED.unpack_from(payload)
    body = payload[TIMED.size :]
    if kind == FrameType.LISTING:
        return Listing(body, boot_ns)
    if kind in (FrameType.RECORDS, FrameType.SUMMARIES):
        spans = array("I")
        spans.frombytes(body[: 8 * count])
        if len(spans) != 2 * count:
            raise ValueError("a batch is cut off")
        starts, ends = spans[:count].tolist(), spans[count:].tolist()
        records = Records(body[8 * count :], starts, ends, boot_ns)
        return records if kind == FrameType.RECORDS else Summaries(records)
    # A later version of the same format may add types.
    return None
