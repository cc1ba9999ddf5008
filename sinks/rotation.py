# SPDX-License-Identifier: Apache-2.0
"""The rotated files beside a file: PATH.1 is the newest, then PATH.2 and so on.

A file is PATH.N until it is compressed, then PATH.N.gz. Each step is one rename or
one unlink, so that a crash between any two of them leaves nothing that the next
start cannot put right:

* PATH.gz.partial is an unfinished compression and is removed;
* PATH.N beside PATH.N.gz was compressed completely and is removed;
* PATH.N alone is compressed;
* a free number between others is where a rotation stopped, and is closed up.
"""

from __future__ import annotations

import logging
import os
import stat
import zlib
from contextlib import suppress
from io import FileIO
from pathlib import Path
from threading import Event, Lock
from typing import Final

log: Final = logging.getLogger(__name__)

CHUNK_BYTES: Final = 256 * 1024

LEVEL: Final = 1
"""Of zlib: a third of the CPU time of level 6, and events still shrink to an eighth."""

GZIP: Final = 31
"""zlib's `wbits` for a gzip header and the largest window."""


class Rotation:
    """Renames, compresses and removes the rotated files of one path; safe to use from threads."""

    def __init__(self, path: Path, keep: int) -> None:
        """Keep this many; 0 removes a file when it would be rotated."""
        self._path = path
        self._keep = keep
        self._lock = Lock()
        self._partial = _beside(path, ".gz.partial")

    def shift(self) -> None:
        """Make PATH the number 1, push up the others and remove the oldest. Raises OSError."""
        with self._lock:
            used: list[list[Path]] = []
            while names := self._names(len(used) + 1):
                used.append(names)
            for number, names in reversed(list(enumerate(used, start=1))):
                for name in names:
                    if number >= self._keep:
                        name.unlink()
                    else:
                        name.rename(self._moved(name, number, +1))
            if self._keep:
                self._path.rename(self._plain(1))
            else:
                self._path.unlink()

    def clean(self) -> None:
        """Put right what a crash left behind. Raises OSError."""
        with self._lock:
            self._remove_partial()
            number = 1
            while names := self._names(number):
                if names == [self._plain(number), self._packed(number)]:
                    self._plain(number).unlink()
                number += 1
            # The files above a free number move down, the lowest first.
            while names := self._names(number + 1):
                for name in names:
                    name.rename(self._moved(name, number + 1, -1))
                number += 1

    def compress(self, stop: Event) -> None:
        """Compress what is not compressed yet, the oldest first, until `stop` is set.

        What cannot be compressed is logged and stays as it is.
        """
        try:
            while not stop.is_set() and (source := self._oldest_plain()) is not None:
                with source:
                    if self._pack(source, stop):
                        self._put_in_place(source)
        except OSError as error:
            log.warning("file_not_compressed path=%s why=%s", self._path, error.strerror)
        finally:
            with suppress(OSError):
                self._remove_partial()

    def _plain(self, number: int) -> Path:
        return _beside(self._path, f".{number}")

    def _packed(self, number: int) -> Path:
        return _beside(self._path, f".{number}.gz")

    def _moved(self, name: Path, number: int, step: int) -> Path:
        to = self._plain if name == self._plain(number) else self._packed
        return to(number + step)

    def _names(self, number: int) -> list[Path]:
        both = (self._plain(number), self._packed(number))
        return [name for name in both if os.path.lexists(name)]

    def _remove_partial(self) -> None:
        self._partial.unlink(missing_ok=True)

    def _oldest_plain(self) -> FileIO | None:
        with self._lock:
            number, oldest = 1, None
            while names := self._names(number):
                if self._plain(number) in names and _is_regular(self._plain(number)):
                    oldest = self._plain(number)
                number += 1
            return None if oldest is None else FileIO(os.fspath(oldest), opener=_open_source)

    def _pack(self, source: FileIO, stop: Event) -> bool:
        """Write the partial file; False when told to stop before its end."""
        self._remove_partial()
        packer = zlib.compressobj(LEVEL, zlib.DEFLATED, GZIP)
        with FileIO(os.fspath(self._partial), "w", opener=_open_target) as target:
            os.fchmod(target.fileno(), 0o600)
            while chunk := source.read(CHUNK_BYTES):
                if stop.is_set():
                    return False
                write_whole(target.fileno(), packer.compress(chunk))
            write_whole(target.fileno(), packer.flush())
            os.fsync(target.fileno())
            times = os.fstat(source.fileno())
            os.utime(target.fileno(), ns=(times.st_atime_ns, times.st_mtime_ns))
        return True

    def _put_in_place(self, source: FileIO) -> None:
        """Swap the source for the partial file under the number that it has by now."""
        with self._lock:
            number = 1
            while names := self._names(number):
                plain = self._plain(number)
                if plain in names and is_at(plain, source.fileno()):
                    self._partial.rename(self._packed(number))
                    plain.unlink()
                    return
                number += 1


def is_at(path: Path, fd: int) -> bool:
    """Whether the file that is open as `fd` is what stands at `path`, not through a link."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(fd))
    except FileNotFoundError:
        return False


def write_whole(fd: int, data: bytes) -> None:
    """Write all of it. Raises OSError, after which a part may be written."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _is_regular(path: Path) -> bool:
    return stat.S_ISREG(path.lstat().st_mode)


def _open_source(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _open_target(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_EXCL | os.O_NOFOLLOW, 0o600)
