# SPDX-License-Identifier: Apache-2.0
"""Files as a process sees them, opened so that nothing that lies there can mislead us.

Symbolic links stay inside of the root, nothing but a regular file is read, and an open has
no side effect: a path is first only looked up (O_PATH) and looked at.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

__all__ = ["Inside", "for_reading", "host_pids", "mount_of", "namespace_of", "opened"]

SYS_OPENAT2: Final = 437
OPEN_HOW: Final = struct.Struct("<QQQ")
RESOLVE_NO_MAGICLINKS: Final = 0x02
RESOLVE_IN_ROOT: Final = 0x10

LOOK: Final = os.O_PATH | os.O_CLOEXEC
READ: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
FDINFO_BYTES: Final = 4096


@contextmanager
def opened(descriptor: int) -> Iterator[int]:
    """Closes it at the end."""
    try:
        yield descriptor
    finally:
        os.close(descriptor)


class Inside:
    """Looks files up below the root of a process."""

    def __init__(self, syscall: Callable[..., int]) -> None:
        """`syscall` raises OSError."""
        self._syscall = syscall

    def look_up(self, pid: int, path: str, *, follow: bool = True) -> int:
        """A descriptor of what `path` is to a process, not yet open; raises OSError."""
        flags = LOOK if follow else LOOK | os.O_NOFOLLOW
        how = OPEN_HOW.pack(flags, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
        with opened(os.open(f"/proc/{pid}/root", LOOK | os.O_DIRECTORY)) as root:
            return self._syscall(SYS_OPENAT2, root, os.fsencode(path), how, len(how))


def host_pids() -> tuple[int, int]:
    """Who has the folders that container runtimes speak of: the first process, or we."""
    return 1, os.getpid()


def for_reading(found: int) -> int:
    """Open what was looked up; raises OSError, also when it is no regular file."""
    if not stat.S_ISREG(os.fstat(found).st_mode):
        raise OSError("no regular file")
    return os.open(f"/proc/self/fd/{found}", READ)


def namespace_of(pid: int, kind: str) -> int:
    """The inode number of a namespace of a process; raises OSError."""
    return Path(f"/proc/{pid}/ns/{kind}").stat().st_ino


def mount_of(found: int) -> str:
    """The id of the mount that a descriptor is on, as in mountinfo; raises OSError."""
    with opened(os.open(f"/proc/self/fdinfo/{found}", os.O_RDONLY | os.O_CLOEXEC)) as info:
        text = os.read(info, FDINFO_BYTES).decode("ascii", "replace")
    lines = (line.partition(":") for line in text.splitlines())
    return next((value.strip() for name, _, value in lines if name == "mnt_id"), "")
