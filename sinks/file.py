# SPDX-License-Identifier: Apache-2.0
"""Events as lines of JSON in a file that rotates."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import logging
import os
import stat
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Event
from typing import Annotated, Final, Literal

from msgspec import Meta

from nodeagent.errors import Retry, StartError
from nodeagent.sink import Batch, Sink
from nodeagent.worker import Worker
from sinks.rotation import Rotation, is_at, write_whole
from sinks.schema import SchemaConfig, encoder_of

log: Final = logging.getLogger(__name__)

# O_APPEND: who truncates the file from outside must not make us write behind a hole.
# O_NONBLOCK: opening a FIFO must not wait for its reader. It means nothing for a file.
FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Errors after which the open file is still good."""

UNROTATED_PAUSE_SECONDS: Final = 60.0
"""After a rotation failed, go on in the same file for this long."""

REPLACED_TRIES: Final = 10
"""How often the file may be replaced while it is being opened."""


class File(Sink):
    """Appends each batch to a file that only its owner can read.

    A batch is in the file completely or not at all, also when the disk is full. A file
    that was moved, removed or truncated from outside is opened anew before the next
    batch. Nothing but this process may write to the file, which a lock ensures.
    """

    class Config(SchemaConfig, kw_only=True, frozen=True):
        """Where the file is, and how it rotates."""

        path: Annotated[str, Meta(pattern=r"^[^\0]+$")]
        """The file, in a folder that exists. Rotated files get .1, .2 … appended."""
        rotate_bytes: Annotated[int, Meta(ge=0)] = 100 * 1024 * 1024
        """Rotate before the file grows beyond this; 0: never because of its size."""
        rotate_seconds: Annotated[float, Meta(ge=0)] = 0
        """Begin a new file at each multiple of this in UTC (86400: at midnight); 0: never."""
        keep: Annotated[int, Meta(ge=0)] = 5
        """Keep this many rotated files, remove older ones."""
        compress: bool = True
        """Compress rotated files with gzip."""
        fsync: Literal["never", "interval", "always"] = "interval"
        """When what was written must be on the disk: whenever the kernel likes,
        `fsync_seconds` after it was written, or before a batch counts as delivered."""
        fsync_seconds: Annotated[float, Meta(gt=0)] = 5.0
        """How much a power loss may cost with `fsync = "interval"`."""

    def __init__(self, config: File.Config) -> None:
        """A relative path is relative to the working directory of now."""
        self._config = config
        self._encode = encoder_of(config)
        self._stop_packing = Event()
        self._worker = Worker("file sink")
        self._packer = Worker("file sink gzip")
        self._file = LineFile(config, on_rotated=self._pack)
        self._timer: asyncio.TimerHandle | None = None

    async def open(self) -> None:
        """Open or create the file and take its lock."""
        await self._worker.submit(self._file.open)

    async def send(self, batch: Batch) -> None:
        """Append the batch."""
        await self._worker.once(batch, partial(self._file.append, batch.ndjson(self._encode)))
        if self._config.fsync == "interval" and self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._config.fsync_seconds, self._sync)

    async def close(self) -> None:
        """Bring the file to the disk and give it back; an unfinished compression is dropped."""
        if self._timer is not None:
            self._timer.cancel()
        self._stop_packing.set()
        await self._worker.submit(self._file.close)
        await self._worker.stop()
        await self._packer.stop()

    def _sync(self) -> None:
        self._timer = None
        self._worker.post(self._file.sync)

    def _pack(self, rotation: Rotation) -> None:
        if self._config.compress:
            self._packer.post(partial(rotation.compress, self._stop_packing))


class LineFile:
    """The file itself. All calls may block and come from one thread."""

    def __init__(self, config: File.Config, on_rotated: Callable[[Rotation], None]) -> None:
        """`on_rotated` is called when there may be rotated files to compress."""
        self._path = Path(config.path).absolute()
        self._config = config
        self._on_rotated = on_rotated
        self._rotation = Rotation(self._path, config.keep)
        self._no_rotation_before = 0.0
        self._durable = config.fsync != "never"
        self._fd: int | None = None
        self._torn = False
        """The last line has no end, because its writer died."""

    def open(self) -> None:
        """Open the file and clean up behind a crash. Raises StartError."""
        self._reopen()
        try:
            # The lock is ours, so no other agent is at work on these files.
            self._rotation.clean()
        except OSError as error:
            log.warning("file_not_cleaned path=%s why=%s", self._path, error)
        self._on_rotated(self._rotation)

    def append(self, data: bytes) -> None:
        """Write whole lines, all or none of them. Raises Retry."""
        try:
            fd = self._current(len(data))
            before = os.fstat(fd).st_size
        except StartError as error:
            raise Retry(str(error)) from error
        except OSError as error:
            self._drop()
            raise Retry(_sentence(self._path, error)) from error
        try:
            write_whole(fd, b"\n" + data if self._torn and before else data)
            if self._config.fsync == "always":
                os.fsync(fd)
        except OSError as error:
            # Otherwise a new descriptor gets over a file system that came back, and finds
            # what could not be cut.
            if not self._cut(fd, before) or error.errno not in FULL:
                self._drop()
            raise Retry(_sentence(self._path, error)) from error
        self._torn = False

    def sync(self) -> None:
        """Bring to the disk what was written; a failure is logged."""
        if self._fd is None or not self._durable:
            return
        try:
            os.fsync(self._fd)
        except OSError as error:
            log.warning("file_not_synced path=%s why=%s", self._path, error.strerror)

    def close(self) -> None:
        """Give the file and its lock back."""
        self.sync()
        self._drop()

    def _current(self, size: int) -> int:
        """The file to which the next `size` bytes belong."""
        if self._fd is None or not is_at(self._path, self._fd):
            return self._reopen()
        if self._is_due(os.fstat(self._fd), size) and self._shift():
            self._on_rotated(self._rotation)
            return self._reopen()
        return self._fd

    def _is_due(self, file: os.stat_result, size: int) -> bool:
        if file.st_size == 0 or time.monotonic() < self._no_rotation_before:
            return False
        if 0 < self._config.rotate_bytes < file.st_size + size:
            return True
        # The time of the last write is known after a restart too.
        period = self._config.rotate_seconds
        return period > 0 and file.st_mtime // period < time.time() // period

    def _shift(self) -> bool:
        try:
            self._rotation.shift()
        except OSError as error:
            # A file that grows too large is better than events that are lost.
            log.warning("file_not_rotated path=%s why=%s", self._path, error.strerror)
            self._no_rotation_before = time.monotonic() + UNROTATED_PAUSE_SECONDS
            return False
        return True

    def _reopen(self) -> int:
        """Take what is at the path now. Raises StartError and leaves the old file as it is."""
        fd = open_locked(self._path)
        self.close()
        self._fd = fd
        size = os.fstat(fd).st_size
        self._torn = size > 0 and os.pread(fd, 1, size - 1) != b"\n"
        if self._durable:
            _sync_folder(self._path)
        return fd

    def _cut(self, fd: int, length: int) -> bool:
        """Remove what was written of a batch that failed; False if that fails too."""
        try:
            if os.fstat(fd).st_size > length:
                os.ftruncate(fd, length)
        except OSError as error:
            log.warning("file_not_cut path=%s why=%s", self._path, error.strerror)
            return False
        return True

    def _drop(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def open_locked(path: Path) -> int:
    """Open or create the file at `path` with mode 0600 and lock it for this process.

    Raises StartError when it is no regular file, cannot be written, or is locked.
    """
    try:
        for _ in range(REPLACED_TRIES):
            fd = os.open(path, FLAGS, 0o600)
            try:
                _claim(path, fd)
                # Otherwise its owner rotated it between our open and our lock.
                claimed = is_at(path, fd)
            except BaseException:
                os.close(fd)
                raise
            if claimed:
                return fd
            os.close(fd)
    except OSError as error:
        raise StartError(_sentence(path, error)) from error
    raise StartError(f"{path} is replaced all the time by another process: choose another path")


def _claim(path: Path, fd: int) -> None:
    kind = KINDS.get(stat.S_IFMT(os.fstat(fd).st_mode))
    if kind is not None:
        raise StartError(f"{path} is {kind}: name a regular file, or one that does not exist yet")
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise StartError(
            f"{path} is being written by another process, perhaps a second agent:"
            " stop that one or choose another path"
        ) from error
    os.fchmod(fd, 0o600)


KINDS: Final = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}

SENTENCES: Final = {
    errno.ENOENT: "the folder {folder} does not exist: make it with `mkdir -p {folder}`"
    " or choose another path",
    errno.ENOTDIR: "{folder} is not a folder: choose another path",
    errno.EISDIR: "{path} is a folder: name a file in it",
    errno.ELOOP: "{path} is a symbolic link, which is not followed: name the file that is meant",
    errno.ENXIO: "{path} is a socket: name a regular file, or one that does not exist yet",
    errno.EACCES: "{path} may not be written by this user: choose another path or change its owner",
    errno.EPERM: "{path} may not be written by this user: choose another path or change its owner",
    errno.EROFS: "{path} is on a file system that is read-only: choose another path or remount it",
    errno.ENOSPC: "the disk of {path} is full: make room",
    errno.EDQUOT: "the disk quota for {path} is used up: make room or raise it",
    errno.EFBIG: "{path} has reached the largest size that is allowed: set rotate_bytes",
    errno.EIO: "the disk of {path} has failed to read or write: see the kernel's log",
}
"""What to do, by errno."""


def _sentence(path: Path, error: OSError) -> str:
    sentence = SENTENCES.get(error.errno or 0, "{path} cannot be written: {why}")
    return sentence.format(path=path, folder=path.parent, why=error.strerror)


def _sync_folder(path: Path) -> None:
    """Make the name of a new file survive a power loss, where the file system can."""
    try:
        fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        log.warning("file_folder_not_synced path=%s why=%s", path, error.strerror)
