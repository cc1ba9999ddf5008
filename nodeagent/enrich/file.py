# SPDX-License-Identifier: Apache-2.0
"""What is known of the files whose code runs: their hash, where they come from, who wrote them.

The table reads no file itself: it lists questions, and is told by items of the stream, so
that a replay does the same at the same places.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeVar

import msgspec

from nodeagent.encode import file_json, show_device, timestamp
from nodeagent.event import (
    EVENTS,
    PENDING,
    AgentEvent,
    Brief,
    Code,
    Container,
    Event,
    Exec,
    FileFacts,
    Link,
    Memfd,
    Mmap,
    Open,
    Process,
    Rename,
)

__all__ = [
    "BUSY",
    "GONE",
    "HOST",
    "MEMFD",
    "MEMFD_PREFIX",
    "UNKNOWN",
    "UPPER",
    "FileKey",
    "FileQuestion",
    "FileSeen",
    "FileTable",
]

GONE: Final = "gone"
BUSY: Final = "busy"
OFF: Final = "off"

UNKNOWN: Final = "unknown"
UPPER: Final = "upper"
MEMFD: Final = "memfd"
HOST: Final = "host"

MEMFD_PREFIX: Final = "/memfd:"
MAY_WRITE: Final = os.O_WRONLY | os.O_RDWR

FILES_LIMIT: Final = 8192
CHANGES_LIMIT: Final = 8192
NEW_PATHS_LIMIT: Final = 4096
QUESTIONS_LIMIT: Final = 1024
TRIES: Final = 8
"""For one file: a later process may still have it where an earlier one has ended."""

K = TypeVar("K")
V = TypeVar("V")


class FileKey(msgspec.Struct, frozen=True, gc=False, cache_hash=True):
    """One content of one file, seen from one mount namespace."""

    device: int
    inode: int
    changed_ns: int
    bytes: int
    mount_namespace: int
    """0: not known."""


class FileQuestion(msgspec.Struct, frozen=True, gc=False):
    """Where to look for the file."""

    key: FileKey
    path: str
    """From the root of the mount namespace."""
    pids: tuple[int, ...]
    """The process that runs it, then its ancestors."""
    is_program: bool
    """It is what the first of them runs."""
    address: int
    """Where the first of them has mapped it; 0: nowhere."""
    container: Container | None


class FileSeen(msgspec.Struct, frozen=True, gc=False):
    """The answer."""

    key: FileKey
    time: int
    """Wall clock, ns since 1970."""
    sha256: str
    missing: str
    origin: str


class _Change(msgspec.Struct, frozen=True, gc=False):
    """Who changed a file."""

    time: int
    by: Brief
    container: str
    """The id of the container that it was in; empty on the host."""


class _File(msgspec.Struct):
    """One content of one file."""

    path: str
    container: str
    """Its id; empty on the host."""
    change: _Change | None
    facts: FileFacts
    may_ask: bool = True
    tries: int = 0


class _Recent(Generic[K, V]):
    """The last entries that were put in, at least half of `limit` and at most all of it."""

    def __init__(self, limit: int) -> None:
        self._half = limit // 2
        self._new: dict[K, V] = {}
        self._old: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        found = self._new.get(key)
        return found if found is not None else self._old.get(key)

    def put(self, key: K, value: V) -> None:
        # Generations, since to take single ones from the front of a dict gets slow.
        if len(self._new) >= self._half:
            self._old = self._new
            self._new = {}
        self._new[key] = value


class FileTable:
    """Sets `Code.file`; every table in it is bounded."""

    name = "file"

    def __init__(self, brief_of: Callable[[Process], Brief], *, hashes: bool = True) -> None:
        """`brief_of` names a process; with `hashes` false nobody will answer."""
        self._brief_of = brief_of
        self._missing = PENDING if hashes else OFF
        self._files: _Recent[FileKey, _File] = _Recent(FILES_LIMIT)
        self._written: _Recent[tuple[int, int], _Change] = _Recent(CHANGES_LIMIT)
        """By device and inode."""
        self._named: _Recent[tuple[int, str], _Change] = _Recent(CHANGES_LIMIT)
        """By mount namespace and path, for what does not tell the inode."""
        self._made: _Recent[tuple[int, str], _Change] = _Recent(NEW_PATHS_LIMIT)
        """The same for files that were made or written anew: a script is known by its path only."""
        self._takes: dict[type[Event], Callable[[Any], None]] = {
            Open: self._on_open,
            Rename: lambda event: self._on_name(event, event.new_path),
            Link: lambda event: self._on_name(event, event.path),
            Memfd: lambda event: self._on_name(event, MEMFD_PREFIX + event.name),
            **{kind: self._on_code for kind in EVENTS.values() if issubclass(kind, Code)},
        }
        self._questions: list[FileQuestion] = []
        self.misses = 0
        """Files of which nothing was known when an event came."""
        self.unasked = 0
        """Files that nobody was asked about because there were too many at once."""

    def enrich(self, events: Sequence[Event]) -> None:
        """Complete the events of one batch, which are in the order of time."""
        takes = self._takes
        for event in events:
            take = takes.get(type(event))
            if take is not None:
                take(event)

    def take_questions(self) -> list[FileQuestion]:
        """What somebody should answer by a `FileSeen`."""
        taken, self._questions = self._questions, []
        return taken

    def tell(self, seen: FileSeen) -> AgentEvent | None:
        """Take an answer; returns what is to be said about it."""
        file = self._files.get(seen.key)
        if file is None:
            return None
        origin = seen.origin
        change = file.change
        if origin == UNKNOWN and change is not None and file.container == change.container != "":
            # What the image and volumes hold comes from outside.
            origin = UPPER
        before = file.facts
        file.facts = _facts(seen.sha256, seen.missing, origin, file.change)
        file.may_ask = seen.missing in (GONE, BUSY) and file.tries < TRIES
        same = (before.sha256_missing, before.origin) == (seen.missing, origin)
        return None if same and not seen.sha256 else _announced(seen, file)

    def _on_open(self, event: Open) -> None:
        if not (event.flags & MAY_WRITE or event.created):
            return
        process = event.process
        if event.result >= 0 and process is not None:
            change = self._change(event, process)
            self._written.put((event.device, event.inode), change)
            if event.created or event.flags & os.O_TRUNC:
                self._made.put((_mount_namespace(process), event.path), change)

    def _change(self, event: Event, process: Process) -> _Change:
        return _Change(event.time, self._brief_of(process), _container_id(process))

    def _on_name(self, event: Event, path: str) -> None:
        process = event.process
        if event.result >= 0 and process is not None:
            key = (_mount_namespace(process), path)
            self._named.put(key, self._change(event, process))

    def _on_code(self, event: Code) -> None:
        process = event.process
        if not event.inode or process is None:
            return
        key = FileKey(
            event.device,
            event.inode,
            event.file_changed,
            event.file_bytes,
            _mount_namespace(process),
        )
        file = self._files.get(key)
        if file is None:
            file = self._add(key, event, process)
        event.file = file.facts
        if isinstance(event, Exec) and event.script_name:
            event.script_file = self._script(event, process)
        if file.may_ask:
            self._ask(file, key, event, process)

    def _add(self, key: FileKey, event: Code, process: Process) -> _File:
        self.misses += 1
        change = _later(
            self._written.get((key.device, key.inode)),
            self._named.get((key.mount_namespace, event.path)),
        )
        container = process.container
        if isinstance(event, Exec) and event.memfd:
            origin = MEMFD
        elif self._missing == OFF and container is None:
            origin = HOST
        elif change is not None and change.container == _container_id(process) != "":
            # Until somebody has looked: it may be on a volume or in memory as well.
            origin = UPPER
        else:
            origin = UNKNOWN
        facts = _facts("", self._missing, origin, change)
        file = _File(
            event.path, _container_id(process), change, facts, may_ask=self._missing == PENDING
        )
        self._files.put(key, file)
        return file

    def _script(self, event: Exec, process: Process) -> FileFacts | None:
        """Nobody is asked about a script: what runs it may have read it and be gone."""
        key = (_mount_namespace(process), event.script_path)
        change = _later(self._made.get(key), self._named.get(key))
        if change is None:
            return None
        container = _container_id(process)
        is_inside = change.container == container != ""
        origin = UPPER if is_inside else UNKNOWN if container else HOST
        return _facts("", OFF, origin, change)

    def _ask(self, file: _File, key: FileKey, event: Code, process: Process) -> None:
        if len(self._questions) >= QUESTIONS_LIMIT:
            self.unasked += 1
            return
        file.may_ask = False
        file.tries += 1
        pids = (process.task.pid, *(ancestor.pid for ancestor in process.lineage))
        address = event.address if isinstance(event, Mmap) else 0
        self._questions.append(
            FileQuestion(key, event.path, pids, isinstance(event, Exec), address, process.container)
        )


def _facts(sha256: str, missing: str, origin: str, change: _Change | None) -> FileFacts:
    by, at = (change.by, change.time) if change is not None else (None, 0)
    return FileFacts(sha256, missing, origin, by, at, file_json(sha256, missing, origin, by, at))


def _announced(seen: FileSeen, file: _File) -> AgentEvent:
    """What was still pending in events, with all that finds these events again."""
    key, facts = seen.key, file.facts
    by = facts.modified_by
    details: dict[str, object] = {
        "path": file.path,
        "inode": key.inode,
        "device": show_device(key.device),
        "file_bytes": key.bytes,
        "file_changed": timestamp(max(key.changed_ns, 0)),
        "mount_namespace": key.mount_namespace,
        "container_id": file.container or None,
        "sha256": facts.sha256 or None,
        "sha256_missing": facts.sha256_missing or None,
        "origin": facts.origin,
        "modified_by": None if by is None else msgspec.json.decode(by.json),
        "modified_at": timestamp(facts.modified_at) if by is not None else None,
    }
    return AgentEvent("agent.file", seen.time, details)


def _later(first: _Change | None, second: _Change | None) -> _Change | None:
    known = [change for change in (first, second) if change is not None]
    return max(known, key=lambda change: change.time, default=None)


def _container_id(process: Process) -> str:
    return process.container.id if process.container is not None else ""


def _mount_namespace(process: Process) -> int:
    return process.facts.namespaces.mnt if process.facts is not None else 0
