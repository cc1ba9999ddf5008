# SPDX-License-Identifier: Apache-2.0
"""What this process uses, and what it may use."""

from __future__ import annotations

import ctypes
import os
import time
from pathlib import Path
from typing import Final

import msgspec

__all__ = [
    "Limits",
    "Usage",
    "give_back",
    "keep_heap_small",
    "limits_of",
    "rss_bytes",
    "usage_of",
]

TICKS: Final = os.sysconf("SC_CLK_TCK")
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
NO_LIMIT: Final = 1 << 60
"""cgroup v1 says a number near this where there is none."""

M_MMAP_THRESHOLD: Final = -3
M_ARENA_MAX: Final = -8
BLOCK_BYTES: Final = 256 << 10

CGROUPS: Final = Path("/sys/fs/cgroup")


class Usage(msgspec.Struct, frozen=True):
    """At one moment."""

    cpu_seconds: float
    """User and system time of all threads so far."""
    rss_bytes: int
    memory_limit_bytes: int | None
    """Of the own cgroup and those above it; None: there is none."""
    charged_bytes: int
    """What counts against that limit and cannot be given back, eBPF maps among it."""
    cpu_limit: float | None
    """Cores; None: there is no limit."""


def give_back() -> None:
    """Return memory that is free in this process to the system, where the C library can."""
    # In glibc; see malloc_trim(3).
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def keep_heap_small() -> None:
    """Have large blocks, like the lines of a batch, given back at once and leave no holes.

    All threads share one heap. For another one glibc would look up the number of CPUs, which
    an agent that takes over sees while this one detaches.
    """
    # glibc raises the limit with each block that is freed; see mallopt(3).
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, BLOCK_BYTES)
        mallopt(M_ARENA_MAX, 1)


class Limits(msgspec.Struct, frozen=True):
    """What the own cgroup and those above it allow."""

    memory_bytes: int | None
    """The least limit; None: there is none."""
    folder: Path
    """Of the cgroup whose limit that is."""
    cores: float | None
    """The least limit; None: there is none."""

    def charged_bytes(self) -> int:
        """Memory that counts against the limit, without what is given back first."""
        return _charged(self.folder) if self.memory_bytes is not None else 0


def limits_of() -> Limits:
    """Of this process, now. Reads some twenty files, so not all the time."""
    return _limits(Path("/proc/self/cgroup").read_text("utf-8", "replace"))


def usage_of() -> Usage:
    """Of this process, now; as dear as `limits_of`."""
    limits = limits_of()
    return Usage(
        time.process_time(),
        rss_bytes(),
        limits.memory_bytes,
        limits.charged_bytes(),
        limits.cores,
    )


def rss_bytes() -> int:
    """Resident memory of this process, now."""
    return int(Path("/proc/self/statm").read_text("utf-8").split()[1]) * PAGE_BYTES


def _limits(cgroup: str, root: Path = CGROUPS) -> Limits:
    """`cgroup` is the text of /proc/self/cgroup."""
    memory: list[tuple[int, Path]] = []
    cores: list[float] = []
    for line in cgroup.splitlines():
        _, controllers, path = line.split(":", 2)
        for folder in _folders(root, controllers, path):
            memory += [(limit, folder) for limit in _memory(folder)]
            cores += _cores(folder)
    limit, folder = min(memory, default=(None, root))
    return Limits(limit, folder, min(cores, default=None))


def _charged(folder: Path) -> int:
    """Memory of a cgroup without the part of the page cache that is given back first."""
    used = _word(folder / "memory.current") or _word(folder / "memory.usage_in_bytes")
    cache = 0
    for line in _word(folder / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name in {"inactive_file", "total_inactive_file"} and value.isdigit():
            cache = int(value)
    return max(int(used) - cache, 0) if used.isdigit() else 0


def _folders(root: Path, controllers: str, path: str) -> list[Path]:
    """The own cgroup and those above it; in a container its own is mounted at the root."""
    bases = [root, root / "unified"] if not controllers else [root / controllers]
    return [
        base / folder
        for base in bases
        if base.is_dir()
        for folder in (path.strip("/"), *map(str, Path(path.strip("/")).parents))
    ]


def _memory(folder: Path) -> list[int]:
    words = [_word(folder / name) for name in ("memory.max", "memory.limit_in_bytes")]
    return [int(word) for word in words if word.isdigit() and int(word) < NO_LIMIT]


def _cores(folder: Path) -> list[float]:
    quota, _, period = _word(folder / "cpu.max").partition(" ")
    if quota.isdigit() and period.isdigit():
        return [int(quota) / int(period)]
    quota, period = _word(folder / "cpu.cfs_quota_us"), _word(folder / "cpu.cfs_period_us")
    return [int(quota) / int(period)] if quota.isdigit() and period.isdigit() else []


def _word(path: Path) -> str:
    try:
        return path.read_text("utf-8").strip()
    except OSError:
        return ""
