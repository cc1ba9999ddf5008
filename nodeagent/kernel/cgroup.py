# SPDX-License-Identifier: Apache-2.0
"""The root of the cgroup v2 hierarchy: programs that sit there see all processes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from nodeagent.errors import BpfError
from nodeagent.kernel.libbpf import Libbpf
from nodeagent.kernel.mount import open_detached

__all__ = ["mount_point", "open_root", "why_no_root"]

FILE_SYSTEM: Final = "cgroup2"

INITIAL_NAMESPACE: Final = 0xEFFFFFFB
"""The inode number of the first cgroup namespace, PROC_CGROUP_INIT_INO of the kernel."""

OWN: Final = Path("/proc/self")
WITNESSES: Final = (OWN, Path("/proc/1"))
"""Whose mounts are looked at. In a container that has the pids of the host, 1 is outside."""


def why_no_root() -> str | None:
    """Why the root cannot be opened; None when it can."""
    if FILE_SYSTEM not in Path("/proc/filesystems").read_text(encoding="ascii").split():
        return "no cgroup v2"
    if _witness() is None:
        return "in a cgroup namespace of its own and without the pids of the host"
    return None


def open_root(libbpf: Libbpf) -> int:
    """A descriptor of the root; raises BpfError."""
    witness = _witness()
    if witness is None:
        raise BpfError(f"the root of cgroup v2 cannot be opened: {why_no_root()}")
    try:
        where = mount_point((witness / "mountinfo").read_text("utf-8", "surrogateescape"))
        if where is not None:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
            return os.open(f"{witness}/root{where}", flags)
        # A mount of ours would show the namespace that we are in.
        return open_detached(libbpf, FILE_SYSTEM)
    except OSError as error:
        raise BpfError(
            f"the root of cgroup v2 cannot be opened: {error.strerror}", error.errno or 0
        ) from error


def mount_point(mountinfo: str) -> str | None:
    """Where the whole hierarchy is mounted, from the text of /proc/PID/mountinfo."""
    for line in mountinfo.splitlines():
        mount, _, source = line.partition(" - ")
        words = mount.split(" ")
        if source.split(" ")[0] == FILE_SYSTEM and words[3:4] == ["/"]:
            # Blanks in a path are written as three octal digits, see proc_pid_mountinfo(5).
            raw = words[4].encode("utf-8", "surrogateescape")
            return raw.decode("unicode_escape").encode("latin-1").decode("utf-8", "surrogateescape")
    return None


def _witness() -> Path | None:
    """A process of the first cgroup namespace, where the root is the root of the machine."""
    for process in WITNESSES:
        try:
            if (process / "ns/cgroup").stat().st_ino == INITIAL_NAMESPACE:
                return process
        except OSError:
            continue
    return None
