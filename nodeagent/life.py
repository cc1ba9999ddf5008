# SPDX-License-Identifier: Apache-2.0
"""How the run before ended: a small file, kept from one start to the next.

The agent locks the file as long as it lives, so no two of them use it. The kernel takes the
lock away with the process, however that ends; and unlike the name of an abstract socket it
holds between pods, whose networks are their own.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import logging
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final, Self

import msgspec
from msgspec import Meta

from nodeagent.errors import StartError

__all__ = ["Life", "Previous"]

log: Final = logging.getLogger(__name__)

WAIT_SECONDS: Final = 0.02
"""Between two looks whether the other agent has gone."""
BEAT_SECONDS: Final = 10.0
"""How much too long a gap may look after an end that nobody saw coming."""
LARGEST_BYTES: Final = 4096


class Previous(msgspec.Struct, frozen=True):
    """The run before, as `agent.start` tells it."""

    ended: str | None
    """What `agent.stop` gave as the reason; None: it was killed, or the machine went down."""
    alive: int
    """When it was there for sure, ns since 1970."""
    gap_seconds: float
    """From then to now."""


Nanoseconds = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]


class _Kept(msgspec.Struct):
    """What the file holds."""

    pid: int
    boot_id: str
    alive: Nanoseconds
    """Since 1970."""
    alive_boot: Nanoseconds
    """The same moment by the boot clock, which nobody can step."""
    ended: str | None


class Life:
    """The file of one agent; without a path there is none, and nothing is remembered."""

    def __init__(self, path: str, boot_id: str, *, take_over: bool = False) -> None:
        """Nothing is touched yet. `take_over`: one that has the file will be asked to go."""
        self._path = Path(path) if path else None
        self._boot_id = boot_id
        self._take_over = take_over
        self._fd: int | None = None
        self._waiting: int | None = None
        self._overlaps = False
        self._before: _Kept | None = None

    def __enter__(self) -> Self:
        """Take the file and read it; raises StartError when another agent has it.

        One that cannot be used is told, and the agent goes on without.
        """
        if self._path is not None:
            self._open(self._path)
        return self

    def __exit__(self, *_: object) -> None:
        """As `close()`."""
        self.close()

    def close(self) -> None:
        """The next one may have the file; may be called twice."""
        for fd in (self._fd, self._waiting):
            if fd is not None:
                os.close(fd)
        self._fd = self._waiting = None

    @property
    def waits(self) -> bool:
        """Another agent has the file, and this one is to take over from it."""
        return self._waiting is not None

    async def wait(self) -> None:
        """Until the other one has gone, which leaves no gap."""
        self._overlaps = True
        while not self.look():  # noqa: ASYNC110  a file lock that is free tells nobody
            await asyncio.sleep(WAIT_SECONDS)

    def look(self) -> bool:
        """Take the file when the other one has gone; whether this one has it now."""
        if self._waiting is not None:
            with suppress(BlockingIOError):
                self._lock(self._waiting)
                self._waiting = None
        return not self.waits

    def previous(self) -> Previous | None:
        """What is known of the run before, with the gap up to now."""
        kept = self._before
        if kept is None:
            return None
        if self._overlaps:
            return Previous(kept.ended, kept.alive, 0.0)
        if kept.boot_id == self._boot_id:
            gap_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - kept.alive_boot
        else:
            gap_ns = time.time_ns() - kept.alive
        return Previous(kept.ended, kept.alive, round(max(gap_ns, 0) / 1e9, 3))

    async def follow(self) -> None:
        """Say now and then that the agent is alive."""
        while self._fd is not None:
            self._write(None)
            await asyncio.sleep(BEAT_SECONDS)

    def end(self, reason: str) -> None:
        """The stream has ended in order."""
        self._write(reason)

    def _open(self, path: Path) -> None:
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            fd = os.open(path, flags, 0o600)
        except OSError as error:
            log.warning("no_state file=%s why=%s", path, error.strerror)
            return
        try:
            self._take(fd)
        except OSError as error:
            os.close(fd)
            log.warning("no_state file=%s why=%s", path, error.strerror)
        except BaseException:
            os.close(fd)
            raise

    def _take(self, fd: int) -> None:
        facts = os.fstat(fd)
        if facts.st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, "it belongs to somebody else")
        try:
            self._lock(fd)
        except BlockingIOError as error:
            if self._take_over:
                self._waiting = fd
                return
            holder = self._read(fd)
            pid = f" (pid {holder.pid})" if holder else ""
            raise StartError(
                f"another agent{pid} runs with the state file {self._path}: stop that one, take"
                " over from it with --take-over, or give this one another state.file"
            ) from error

    def _lock(self, fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.fchmod(fd, 0o600)
        self._before = self._read(fd)
        self._fd = fd

    def _read(self, fd: int) -> _Kept | None:
        raw = os.pread(fd, LARGEST_BYTES, 0)
        if not raw:
            return None
        try:
            return msgspec.json.decode(raw, type=_Kept)
        except msgspec.MsgspecError as error:
            log.warning("state_damaged file=%s why=%s, so a gap is not known", self._path, error)
            return None

    def _write(self, ended: str | None) -> None:
        """In place, since the lock is on this very file."""
        if self._fd is None:
            return
        boot = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        kept = _Kept(os.getpid(), self._boot_id, time.time_ns(), boot, ended)
        raw = msgspec.json.encode(kept)
        try:
            os.pwrite(self._fd, raw, 0)
            os.ftruncate(self._fd, len(raw))
        except OSError as error:
            log.warning("state_not_kept file=%s why=%s", self._path, error.strerror)
