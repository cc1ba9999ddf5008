# SPDX-License-Identifier: Apache-2.0
"""The roots of the cgroup hierarchies.

Programs that sit at the root of version 2 see all processes. Containers are looked for
there, too, or in the hierarchy of a controller where there is version 1 alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from nodeagent.errors import BpfError
from nodeagent.kernel.libbpf import Libbpf
from nodeagent.kernel.mount import open_detached

__all__ = [
    "CONTROLLERS",
    "controller_of",
    "ids_below",
    "mount_points",
    "open_hierarchy",
    "open_root",
    "whole_hierarchy",
    "why_no_root",
]

FILE_SYSTEM: Final = "cgroup2"
FILE_SYSTEM_V1: Final = "cgroup"
CONTROLLERS: Final = ("memory", "pids")
"""Of version 1, in which every container runtime makes cgroups."""

INITIAL_NAMESPACE: Final = 0xEFFFFFFB
"""The inode number of the first cgroup namespace, PROC_CGROUP_INIT_INO of the kernel."""
ROOT_INODE: Final = 1
"""Of the root of a hierarchy, and of nothing below it."""

OWN: Final = Path("/proc/self")
WITNESSES: Final = (OWN, Path("/proc/1"))
"""Whose mounts are looked at. In a container that has the pids of the host, 1 is outside."""


def why_no_root() -> str | None:
    """Why the root cannot be opened; None when it can."""
    if FILE_SYSTEM not in Path("/proc/filesystems").read_text(encoding="ascii").split():
        return "no cgroup v2"
    if whole_hierarchy() is None and not _is_in_first_namespace():
        return "in a cgroup namespace of its own, and it sees /sys/fs/cgroup of the node nowhere"
    return None


def open_root(libbpf: Libbpf) -> int:
    """A descriptor of the root; raises BpfError."""
    where = whole_hierarchy()
    if where is not None:
        return _open(where)
    if not _is_in_first_namespace():
        # A mount of ours would show the namespace that we are in.
        raise BpfError(f"the root of cgroup v2 cannot be opened: {why_no_root()}")
    try:
        return open_detached(libbpf, FILE_SYSTEM)
    except OSError as error:
        raise BpfError(
            f"the root of cgroup v2 is mounted nowhere that the agent sees, and it may not mount it"
            f" ({error.strerror}): show it /sys/fs/cgroup of the node, or give it CAP_SYS_ADMIN",
            error.errno or 0,
        ) from error


def controller_of(wanted: str) -> str:
    """In whose hierarchy of version 1 containers are looked for; empty: in that of version 2.

    `wanted` is v1, v2 or auto, which takes version 2 wherever it is mounted. Raises BpfError
    when there is no version 1 and it has to be.
    """
    if wanted == "v2" or (wanted == "auto" and whole_hierarchy() is not None):
        return ""
    for controller in CONTROLLERS:
        if whole_hierarchy(controller) is not None:
            return controller
    if wanted == "v1":
        raise BpfError(
            'kernel.cgroups = "v1", but none of the hierarchies of'
            f' {" and ".join(CONTROLLERS)} is mounted: set it to "auto"'
        )
    return ""


def open_hierarchy(libbpf: Libbpf, controller: str) -> int:
    """A descriptor of the root of that of a controller, or of version 2; raises BpfError."""
    if not controller:
        return open_root(libbpf)
    where = whole_hierarchy(controller)
    if where is None:
        raise BpfError(f"the cgroups of {controller} are mounted nowhere that the agent sees")
    return _open(where)


def _open(where: Path) -> int:
    try:
        return os.open(where, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise BpfError(f"{where} cannot be opened: {error.strerror}", error.errno or 0) from error


def ids_below(root: int, paths: Iterable[str]) -> Iterator[int]:
    """The ids of the cgroups at these paths, where there are some, and of all below them.

    `root` is a descriptor of the root. An id is the inode number of the cgroup's folder.
    """
    for path in paths:
        yield from _ids(root, path.strip("/") or ".")


def _ids(parent: int, name: str) -> Iterator[int]:
    try:
        folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent)
    except OSError:
        # Not there yet, or gone by now.
        return
    try:
        yield os.fstat(folder).st_ino
        with os.scandir(folder) as entries:
            below = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        for each in below:
            yield from _ids(folder, each)
    finally:
        os.close(folder)


def mount_points(mountinfo: str, controller: str = "") -> Iterator[str]:
    """Where a hierarchy, or a part of it, is mounted, from the text of /proc/PID/mountinfo.

    That of a controller of version 1, or that of version 2.
    """
    wanted = FILE_SYSTEM_V1 if controller else FILE_SYSTEM
    for line in mountinfo.splitlines():
        mount, _, source = line.partition(" - ")
        kind, _, options = source.partition(" ")
        if kind != wanted:
            continue
        if controller and controller not in options.rpartition(" ")[2].split(","):
            continue
        # Blanks in a path are written as three octal digits, see proc_pid_mountinfo(5).
        raw = mount.split(" ")[4].encode("utf-8", "surrogateescape")
        yield raw.decode("unicode_escape").encode("latin-1").decode("utf-8", "surrogateescape")


def whole_hierarchy(controller: str = "") -> Path | None:
    """Where the root of a hierarchy can be opened; None where it is mounted nowhere.

    A container sees a part of it, its own cgroup, in the usual place, and maybe all of it in
    another, or through a process outside.
    """
    for process in WITNESSES:
        mounts = (process / "mountinfo").read_text("utf-8", "surrogateescape")
        for place in mount_points(mounts, controller):
            where = process / "root" / place.lstrip("/")
            try:
                if where.stat().st_ino == ROOT_INODE:
                    return where
            except OSError:
                # Mounted over, or of a process that may not be looked into.
                continue
    return None


def _is_in_first_namespace() -> bool:
    try:
        return (OWN / "ns/cgroup").stat().st_ino == INITIAL_NAMESPACE
    except OSError:
        return False
