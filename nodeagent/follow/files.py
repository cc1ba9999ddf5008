# SPDX-License-Identifier: Apache-2.0
"""Hashes the files whose code runs, and finds out where they come from."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from nodeagent.config import FilesConfig
from nodeagent.enrich.file import BUSY, GONE, UNKNOWN, FileKey, FileQuestion, FileSeen
from nodeagent.follow.inside import Inside, for_reading, host_pids, namespace_of, opened
from nodeagent.follow.origin import origin_of
from nodeagent.follow.worker import StuckError, Worker

__all__ = ["FileFollower"]

log: Final = logging.getLogger(__name__)

TOO_LARGE: Final = "too large"
UNREADABLE: Final = "unreadable"
STUCK: Final = "stuck"

QUESTIONS_WAITING: Final = 4096
PATIENCE_SECONDS: Final = 2.0
CHUNK_BYTES: Final = 1 << 20
SETTLED_NS: Final = 20_000_000
"""Changes within one tick of the kernel's clock leave the same time behind."""
HELPERS_LIMIT: Final = 1024
"""Mount namespaces of which a process is remembered that is still there."""


class _Found(msgspec.Struct):
    """A file that is open."""

    descriptor: int
    written_ns: int
    """When its content was written last (mtime)."""
    origin: str


class _Way(msgspec.Struct, frozen=True):
    """Where a file may be found."""

    pid: int
    """With whose eyes."""
    look_up: Callable[[], int]
    is_held: bool = False
    """It is no name that is looked up but the file that the process holds."""


class FileFollower:
    """Answers each question that it is asked with an item."""

    def __init__(
        self,
        config: FilesConfig,
        inside: Inside,
        worker: Worker,
        tell: Callable[[FileSeen], None],
    ) -> None:
        """`tell` takes the answers."""
        self._config = config
        self._inside = inside
        self._worker = worker
        self._tell = tell
        self._questions: asyncio.Queue[FileQuestion] = asyncio.Queue(QUESTIONS_WAITING)
        self._helpers: dict[int, int] = {}
        """By mount namespace: who saw a file there last."""

    def ask(self, questions: Iterable[FileQuestion]) -> None:
        """Never waits."""
        for question in questions:
            try:
                self._questions.put_nowait(question)
            except asyncio.QueueFull:
                self._answer(question.key, "", BUSY, UNKNOWN)

    async def follow(self) -> None:
        """Answer until cancelled."""
        while True:
            question = await self._questions.get()
            try:
                await self._look(question)
            except StuckError:
                self._answer(question.key, "", STUCK, UNKNOWN)
            except OSError as error:
                log.debug("file_unreadable path=%s why=%s", question.path, error)
                self._answer(question.key, "", UNREADABLE, UNKNOWN)

    async def _look(self, question: FileQuestion) -> None:
        found = await self._worker.do(PATIENCE_SECONDS, self._find, question)
        if found is None:
            self._answer(question.key, "", GONE, UNKNOWN)
            return
        with opened(found.descriptor) as descriptor:
            key = question.key
            if key.bytes > self._config.hash_bytes:
                self._answer(key, "", TOO_LARGE, found.origin)
                return
            unsettled_ns = key.changed_ns + SETTLED_NS - time.time_ns()
            if 0 < unsettled_ns <= SETTLED_NS:
                await asyncio.sleep(unsettled_ns / 1e9)
            sha256 = await self._hash(descriptor)
            state = await self._worker.do(PATIENCE_SECONDS, os.fstat, descriptor)
            if (state.st_mtime_ns, state.st_size) == (found.written_ns, key.bytes):
                self._answer(key, sha256, "", found.origin)
            else:
                self._answer(key, "", GONE, found.origin)

    async def _hash(self, descriptor: int) -> str:
        """In pieces, each followed by a rest that keeps to the share of CPU."""
        digest = hashlib.sha256()
        rest = 100 / self._config.hash_cpu_percent - 1
        while True:
            spent, more = await self._worker.do(PATIENCE_SECONDS, _hash_piece, descriptor, digest)
            await asyncio.sleep(spent * rest)
            if not more:
                return digest.hexdigest()

    def _answer(self, key: FileKey, sha256: str, missing: str, origin: str) -> None:
        self._tell(FileSeen(key, time.time_ns(), sha256, missing, origin))

    def _find(self, question: FileQuestion) -> _Found | None:
        """Open the file with this very content; None when nobody has it any more."""
        refused: OSError | None = None
        for way in self._ways(question):
            try:
                with opened(way.look_up()) as looked_up:
                    state = os.fstat(looked_up)
                    if not _has_content(state, question.key, is_held=way.is_held):
                        continue
                    origin = self._origin(question, way.pid, looked_up)
                    found = _Found(for_reading(looked_up), state.st_mtime_ns, origin)
            except OSError as error:
                if error.errno in (errno.EACCES, errno.EPERM):
                    refused = error
                continue
            self._remember(question.key.mount_namespace, way.pid)
            return found
        if refused is not None:
            raise refused
        return None

    def _ways(self, question: FileQuestion) -> Iterator[_Way]:
        own = question.pids[0]
        if question.is_program:
            yield _Way(own, partial(_follow, f"/proc/{own}/exe"), is_held=True)
        namespace = question.key.mount_namespace
        helper = self._helpers.get(namespace)
        pids = [*question.pids, *([helper] if helper else []), *host_pids()]
        for pid in dict.fromkeys(pids):
            if not namespace or _is_in(pid, namespace):
                yield _Way(pid, partial(self._inside.look_up, pid, question.path))
        if question.address:
            yield _Way(own, partial(_mapped, own, question.address), is_held=True)

    def _origin(self, question: FileQuestion, pid: int, looked_up: int) -> str:
        try:
            return origin_of(self._inside, question, pid, looked_up)
        except OSError:
            return UNKNOWN

    def _remember(self, namespace: int, pid: int) -> None:
        if self._helpers.get(namespace) != pid:
            if len(self._helpers) >= HELPERS_LIMIT:
                self._helpers.clear()
            self._helpers[namespace] = pid


def _has_content(state: os.stat_result, key: FileKey, *, is_held: bool) -> bool:
    """Whether it is what the record spoke of.

    Device and inode are not compared: overlays and btrfs show others than the kernel has.
    What the process holds is the right file; that it was removed or renamed since then
    changed the one time but not the other.
    """
    if state.st_size != key.bytes:
        return False
    if is_held:
        return state.st_mtime_ns <= key.changed_ns or state.st_ctime_ns == key.changed_ns
    return state.st_ctime_ns == key.changed_ns


def _hash_piece(descriptor: int, digest: hashlib._Hash) -> tuple[float, bool]:
    """The CPU time that it took, and whether there is more."""
    start = time.thread_time()
    piece = os.read(descriptor, CHUNK_BYTES)
    digest.update(piece)
    return time.thread_time() - start, bool(piece)


def _is_in(pid: int, namespace: int) -> bool:
    try:
        return namespace_of(pid, "mnt") == namespace
    except OSError:
        return False


def _follow(link: str | Path) -> int:
    return os.open(link, os.O_PATH | os.O_CLOEXEC)


def _mapped(pid: int, address: int) -> int:
    """What is mapped at an address; raises OSError."""
    links = Path(f"/proc/{pid}/map_files").iterdir()
    return _follow(next((link for link in links if link.name.startswith(f"{address:x}-")), ""))
