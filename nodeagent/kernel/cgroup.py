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
    "mount_point",
    "open_hierarchy",
    "open_root",
    "why_no_root",
]

FILE_SYSTEM: Final = "cgroup2"
FILE_SYSTEM_V1: Final = "cgroup"
CONTROLLERS: Final = ("memory", "pids")
"""Of version 1, in which every container runtime makes cgroups."""

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
        where = mount_point(_mounts(witness))
        if where is not None:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
            return os.open(f"{witness}/root{where}", flags)
        # A mount of ours would show the namespace that we are in.
        return open_detached(libbpf, FILE_SYSTEM)
    except OSError as error:
        raise BpfError(
            f"the root of cgroup v2 cannot be opened: {error.strerror}", error.errno or 0
        ) from error


def controller_of(wanted: str) -> str:
    """In whose hierarchy of version 1 containers are looked for; empty: in that of version 2.

    `wanted` is v1, v2 or auto, which takes version 2 wherever it is mounted. Raises BpfError
    when there is no version 1 and it has to be.
    """
    if wanted == "v2":
        return ""
    mounts = _mounts(_witness() or OWN)
    if wanted == "auto" and mount_point(mounts) is not None:
        return ""
    for controller in CONTROLLERS:
        if mount_point(mounts, controller) is not None:
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
    witness = _witness() or OWN
    where = mount_point(_mounts(witness), controller)
    try:
        return os.open(f"{witness}/root{where}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise BpfError(
            f"the cgroups of {controller} cannot be opened: {error.strerror}", error.errno or 0
        ) from error


def _mounts(process: Path) -> str:
    return (process / "mountinfo").read_text("utf-8", "surrogateescape")


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


def mount_point(mountinfo: str, controller: str = "") -> str | None:
    """Where the whole hierarchy is mounted, from the text of /proc/PID/mountinfo.

    That of a controller of version 1, or that of version 2.
    """
    for line in mountinfo.splitlines():
        mount, _, source = line.partition(" - ")
        words = mount.split(" ")
        kind, _, options = source.partition(" ")
        wanted = FILE_SYSTEM_V1 if controller else FILE_SYSTEM
        if controller and controller not in options.rpartition(" ")[2].split(","):
            continue
        if kind == wanted and words[3:4] == ["/"]:
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
