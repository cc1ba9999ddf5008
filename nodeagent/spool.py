# SPDX-License-Identifier: Apache-2.0
"""What a sink has not taken yet, in a bounded folder that survives the agent.

Two lanes, each a row of append-only segments: `high` for findings and for kinds that are
rare and precious, `bulk` for the rest. A segment is a row of frames, each a batch:

    magic, payload bytes, items, CRC-32 of the payload, CRC-32 of all before
    payload: msgpack [key, facts or nothing, lines by zstd]

The file `cursor` says up to where each lane was delivered. All of it is plain and blocking;
the outlet calls it from a thread of its own.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
import stat
import struct
from collections import Counter, deque
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal
from zlib import crc32

import msgspec

from nodeagent.errors import StartError
from nodeagent.identity import Facts
from nodeagent.sink import packed

__all__ = ["LANES", "Fsync", "Lane", "Spool", "Stored"]

log: Final = logging.getLogger(__name__)

Lane = Literal["high", "bulk"]
LANES: Final[tuple[Lane, ...]] = ("high", "bulk")
"""In the order in which they are sent; the last one is dropped first."""
Fsync = Literal["never", "interval", "always"]

MAGIC: Final = b"NAS1"
HEAD: Final = struct.Struct("<4sIII")
HEAD_CHECKSUM: Final = struct.Struct("<I")
HEAD_BYTES: Final = HEAD.size + HEAD_CHECKSUM.size
SLOT: Final = struct.Struct("<QQ")
SLOT_BYTES: Final = SLOT.size + HEAD_CHECKSUM.size
CURSOR: Final = "cursor"
NAME: Final = re.compile(r"(high|bulk)-(\d{10})\.spool")

SEGMENT_BYTES: Final = 8 << 20
SEGMENTS: Final = 8
"""A spool has that many at least, so that room is made in steps."""
PAYLOAD_BYTES: Final = 64 << 20
"""No frame is larger; a header that says so is damaged."""

Payload = tuple[str, list[Facts] | None, bytes]


class Stored(msgspec.Struct):
    """The oldest batch of a lane, as it waits to be sent."""

    lane: Lane
    segment: int
    end: int
    """Where the next frame begins."""
    items: int
    key: str
    facts: list[Facts]
    packed: bytes
    """Its lines by zstd."""


class _Damage(Exception):
    """A frame is not what was written."""


class _Segment:
    """One file."""

    def __init__(self, path: Path, number: int) -> None:
        self.path = path
        self.number = number
        self.bytes = 0
        self.read = 0
        """Up to here it was delivered."""
        self.items = 0
        """Behind that."""


class _Row:
    """The segments of one lane, the oldest first; only the last one is written."""

    def __init__(self) -> None:
        self.segments: deque[_Segment] = deque()
        self.number = 0
        """Of the newest segment there was."""
        self.fd: int | None = None

    def close(self) -> None:
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None


class Spool:
    """A folder of its own for one sink."""

    def __init__(
        self,
        folder: Path,
        limit_bytes: int,
        *,
        fsync: Fsync = "interval",
    ) -> None:
        """Nothing is touched yet."""
        self._folder = folder
        self._limit = limit_bytes
        self._segment_limit = min(SEGMENT_BYTES, limit_bytes // SEGMENTS)
        self._fsync = fsync
        self._rows: dict[Lane, _Row] = {lane: _Row() for lane in LANES}
        self._lock: int | None = None
        self._cursor: int | None = None
        self._turns = dict.fromkeys(LANES, 0)
        self._dirty = False

    @property
    def size_bytes(self) -> int:
        """On the disk."""
        return sum(each.bytes for row in self._rows.values() for each in row.segments)

    @property
    def items(self) -> int:
        """Not delivered yet."""
        return sum(each.items for row in self._rows.values() for each in row.segments)

    @property
    def is_open(self) -> bool:
        """Whether it can be used."""
        return self._lock is not None

    def open(self) -> Counter[str]:
        """Take what an earlier run left; returns what of it is lost, by reason.

        Raises StartError when another agent uses the folder, and OSError when the disk does
        not want to: it may be opened again later.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        lock = os.open(self._folder, flags)
        try:
            facts = os.fstat(lock)
            if facts.st_uid != os.geteuid() or facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise PermissionError(errno.EPERM, "others may write to the spool")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise StartError(
                    f"spool {self._folder} is used by another agent:"
                    " give the sink another name, or set spool.folder"
                ) from error
            lost = self._recover()
        except BaseException:
            os.close(lock)
            raise
        self._lock = lock
        return lost

    def put(
        self, lane: Lane, key: str, facts: list[Facts] | None, lines: bytes, items: int
    ) -> Counter[str]:
        """Append a batch; returns what was dropped to make room, by reason. Raises OSError."""
        payload = msgspec.msgpack.encode((key, facts, packed(lines)))
        head = HEAD.pack(MAGIC, len(payload), items, crc32(payload))
        frame = b"".join((head, HEAD_CHECKSUM.pack(crc32(head)), payload))
        dropped: Counter[str] = Counter()
        if not self._make_room(lane, len(frame), dropped):
            dropped["spool full"] += items
            return dropped
        row = self._rows[lane]
        if row.fd is None or row.segments[-1].bytes + len(frame) > self._segment_limit:
            self._begin(lane)
        segment, fd = row.segments[-1], row.fd
        if fd is None:
            raise OSError(errno.EBADF, "the spool is closed")
        try:
            _write(fd, frame, segment.bytes)
        except OSError:
            # What is there of the frame must not be taken for one.
            with suppress(OSError):
                os.ftruncate(fd, segment.bytes)
            raise
        segment.bytes += len(frame)
        segment.items += items
        self._dirty = True
        if self._fsync == "always":
            self.sync()
        return dropped

    def next(self) -> tuple[Stored | None, Counter[str]]:
        """The batch to send now, the same until it is done, and what was found damaged."""
        lost: Counter[str] = Counter()
        for lane, row in self._rows.items():
            while row.segments:
                segment = row.segments[0]
                is_written = row.fd is not None and len(row.segments) == 1
                if segment.read < segment.bytes:
                    try:
                        return self._frame(lane, segment), lost
                    except _Damage as damage:
                        log.warning("spool_damaged file=%s why=%s", segment.path, damage)
                        lost["spool damaged"] += self._remove(row)
                elif is_written:
                    break
                else:
                    self._remove(row)
        return None, lost

    def done(self, stored: Stored) -> bool:
        """It needs no more sending; false when it was dropped meanwhile."""
        segments = self._rows[stored.lane].segments
        if not segments or segments[0].number != stored.segment:
            return False
        segments[0].read = stored.end
        segments[0].items -= stored.items
        # A cursor that is not written costs a batch that comes twice, under the same key.
        with suppress(OSError):
            self._write_cursor(stored.lane, stored.segment, stored.end)
        return True

    def sync(self) -> None:
        """Bring to the disk what was written."""
        if not self._dirty:
            return
        for row in self._rows.values():
            if row.fd is not None:
                os.fdatasync(row.fd)
        self._dirty = False

    def sync_at_interval(self) -> None:
        """The same, where that was asked for."""
        if self._fsync == "interval":
            self.sync()

    def close(self) -> None:
        """Everything is on the disk and given back."""
        with suppress(OSError):
            if self._fsync != "never":
                self.sync()
        for row in self._rows.values():
            row.close()
        for fd in (self._cursor, self._lock):
            if fd is not None:
                os.close(fd)
        self._cursor = self._lock = None

    def _recover(self) -> Counter[str]:
        cursors = self._read_cursor()
        found: dict[Lane, list[_Segment]] = {lane: [] for lane in LANES}
        for path in sorted(self._folder.iterdir()):
            name = NAME.fullmatch(path.name)
            if name is not None and not path.is_symlink():
                lane: Lane = "high" if name[1] == "high" else "bulk"
                found[lane].append(_Segment(path, int(name[2])))
            elif path.name != CURSOR:
                log.warning("spool_foreign_file path=%s", path)
        lost: Counter[str] = Counter()
        for lane, segments in found.items():
            row = self._rows[lane]
            row.segments.clear()
            number, offset = cursors[lane]
            row.number = number
            for segment in segments:
                row.number = max(row.number, segment.number)
                if segment.number < number:
                    segment.path.unlink()
                    continue
                start = offset if segment.number == number else 0
                # Only the last one can have been in the middle of a write.
                lost += _survey(segment, start, whole=segment is segments[-1])
                row.segments.append(segment)
        return lost

    def _make_room(self, lane: Lane, needed: int, dropped: Counter[str]) -> bool:
        while self.size_bytes + needed > self._limit:
            # A high lane never gives way to bulk.
            victims = LANES[::-1] if lane == "high" else ("bulk",)
            row = next((self._rows[each] for each in victims if self._rows[each].segments), None)
            if row is None:
                return False
            if lost := self._remove(row):
                dropped["spool full"] += lost
        return True

    def _remove(self, row: _Row) -> int:
        """Let go the oldest segment; returns how many items were still in it."""
        if len(row.segments) == 1:
            row.close()
        segment = row.segments.popleft()
        with suppress(FileNotFoundError):
            segment.path.unlink()
        return segment.items

    def _begin(self, lane: Lane) -> None:
        row = self._rows[lane]
        if row.fd is not None and self._fsync != "never":
            os.fdatasync(row.fd)
        row.close()
        row.number += 1
        path = self._folder / f"{lane}-{row.number:010}.spool"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        row.fd = os.open(path, flags, 0o600)
        row.segments.append(_Segment(path, row.number))

    def _frame(self, lane: Lane, segment: _Segment) -> Stored:
        with segment.path.open("rb") as file:
            file.seek(segment.read)
            size, items, checksum = _head(file.read(HEAD_BYTES))
            payload = file.read(size)
        if len(payload) != size or crc32(payload) != checksum:
            raise _Damage("a batch fails its checksum")
        try:
            key, facts, lines = msgspec.msgpack.decode(payload, type=Payload)
        except msgspec.DecodeError as error:
            raise _Damage(str(error)) from error
        end = segment.read + HEAD_BYTES + size
        return Stored(lane, segment.number, end, items, key, facts or [], lines)

    def _write_cursor(self, lane: Lane, number: int, offset: int) -> None:
        if self._cursor is None:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._cursor = os.open(self._folder / CURSOR, flags, 0o600)
        slot = SLOT.pack(number, offset)
        # Two slots take turns, so that one that is torn leaves the other.
        self._turns[lane] = 1 - self._turns[lane]
        where = (LANES.index(lane) * 2 + self._turns[lane]) * SLOT_BYTES
        os.pwrite(self._cursor, slot + HEAD_CHECKSUM.pack(crc32(slot)), where)

    def _read_cursor(self) -> dict[Lane, tuple[int, int]]:
        try:
            data = (self._folder / CURSOR).read_bytes()
        except FileNotFoundError:
            data = b""
        cursors = {}
        for index, lane in enumerate(LANES):
            newest = (0, 0)
            for turn in range(2):
                slot = data[(index * 2 + turn) * SLOT_BYTES :][:SLOT_BYTES]
                content = slot[: SLOT.size]
                if len(slot) == SLOT_BYTES and slot[SLOT.size :] == HEAD_CHECKSUM.pack(
                    crc32(content)
                ):
                    newest = max(newest, SLOT.unpack(content))
            cursors[lane] = newest
        return cursors


def _write(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


def _head(data: bytes) -> tuple[int, int, int]:
    """Bytes of the payload, its items and its checksum; raises _Damage."""
    if len(data) < HEAD_BYTES:
        raise _Damage("it ends in the middle of a batch")
    head = data[: HEAD.size]
    magic, size, items, checksum = HEAD.unpack(head)
    if magic != MAGIC or data[HEAD.size :] != HEAD_CHECKSUM.pack(crc32(head)):
        raise _Damage("a batch has no valid head")
    if size > PAYLOAD_BYTES:
        raise _Damage("a batch is too large")
    return size, items, checksum


def _survey(segment: _Segment, start: int, *, whole: bool) -> Counter[str]:
    """Count what is in a segment behind `start`, and cut what is no frame off its end.

    Where the heads alone are looked at, payloads are checked when they are sent. Returns
    the items of a torn frame whose head is there.
    """
    lost: Counter[str] = Counter()
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(segment.path, flags), "r+b") as file:  # noqa: PTH123  no symlinks
        length = file.seek(0, os.SEEK_END)
        at = 0
        while at < length:
            file.seek(at)
            items = 0
            try:
                size, items, checksum = _head(file.read(HEAD_BYTES))
                if at + HEAD_BYTES + size > length or (
                    whole and crc32(file.read(size)) != checksum
                ):
                    raise _Damage("a batch is torn")
            except _Damage as damage:
                log.warning(
                    "spool_cut file=%s bytes=%d events=%s why=%s",
                    *(segment.path, length - at, items or "unknown", damage),
                )
                if items:
                    lost["spool torn"] += items
                file.truncate(at)
                break
            at += HEAD_BYTES + size
            if at > start:
                segment.items += items
    segment.bytes = at
    segment.read = min(start, at)
    return lost
