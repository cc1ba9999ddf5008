# SPDX-License-Identifier: Apache-2.0
"""Reads records from a BPF ring buffer.

The layout is that of kernel/bpf/ringbuf.c (commit 457f44363a88, v5.8): a page with
the consumer's position, which we write; a page with the producer's position; then the
data, twice in a row. We map them once: mapped twice, all of it would count twice as
memory of ours. A record is eight bytes of header, the first four its length with two
flags, then the data.
"""

from __future__ import annotations

import ctypes
import mmap
import threading
from typing import Final

from nodeagent.errors import BpfError

__all__ = ["Ring"]

BUSY: Final = 1 << 31
DISCARDED: Final = 1 << 30
HEADER_BYTES: Final = 8

FULL_FRACTION: Final = 4
"""A ring is filling when it holds this part of its size; there the kernel wakes us."""


class Ring:
    """The reading end of one ring. `fd` becomes readable when the kernel wakes the reader."""

    def __init__(self, fd: int, size_bytes: int) -> None:
        """Map the ring; the caller keeps `fd` open. Raises BpfError."""
        self.fd = fd
        self._mask = size_bytes - 1
        self._mark_bytes = size_bytes // FULL_FRACTION
        page = mmap.PAGESIZE
        try:
            self._consumer = mmap.mmap(fd, page, mmap.MAP_SHARED, offset=0)
            self._producer = mmap.mmap(
                fd, page + size_bytes, mmap.MAP_SHARED, mmap.PROT_READ, offset=page
            )
        except OSError as error:
            raise BpfError(f"a ring buffer cannot be mapped: {error.strerror}") from error
        self._position = ctypes.c_uint64.from_buffer(self._consumer)
        # One read of eight bytes, so that the position is never seen half changed.
        self._end = memoryview(self._producer)[:8].cast("Q")
        self._words = memoryview(self._producer).cast("I")
        self._first_word = page // 4
        self._barrier = threading.Lock()

    def read(self, limit_bytes: int) -> tuple[bytes, list[int], list[int]]:
        """Take about `limit_bytes`: the bytes, and where each record in them starts and ends.

        All that is taken is copied at once, after every length in it was seen committed.
        """
        words = self._words
        mask = self._mask
        first_word = self._first_word
        begin: int = self._position.value
        end = self._end[0]
        # Taking a lock is a full barrier: the lengths are read after the position.
        with self._barrier:
            stop = min(end, begin + limit_bytes)
        starts = []
        ends = []
        position = begin
        base = begin - HEADER_BYTES
        while position < stop:
            length = words[first_word + ((position & mask) >> 2)]
            if length & BUSY:
                break
            if length & DISCARDED:
                length &= ~DISCARDED
            else:
                start = position - base
                starts.append(start)
                ends.append(start + length)
            position += (length + HEADER_BYTES + 7) & ~7
        with self._barrier:
            data = self._copy(begin & mask, position - begin)
        self._position.value = position
        return data, starts, ends

    def _copy(self, offset: int, size: int) -> bytes:
        """Bytes from the ring, around its end where they reach it."""
        start = mmap.PAGESIZE + offset
        over = offset + size - self._mask - 1
        if over <= 0:
            return self._producer[start : start + size]
        return self._producer[start:] + self._producer[mmap.PAGESIZE : mmap.PAGESIZE + over]

    @property
    def is_filling(self) -> bool:
        """A good part of the ring waits to be read."""
        return self.held_bytes >= self._mark_bytes

    @property
    def held_bytes(self) -> int:
        """Bytes that wait to be read."""
        return self._end[0] - int(self._position.value)

    def close(self) -> None:
        """Give the mappings back."""
        self._end.release()
        self._words.release()
        del self._position
        self._producer.close()
        self._consumer.close()
