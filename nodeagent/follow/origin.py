# SPDX-License-Identifier: Apache-2.0
"""Where a file comes from: the image of its container, or what was changed since."""

from __future__ import annotations

import os
import re
from datetime import datetime
from typing import Final

import msgspec

from nodeagent.enrich.file import HOST, MEMFD, MEMFD_PREFIX, UNKNOWN, UPPER, FileQuestion
from nodeagent.follow.inside import Inside, host_pids, mount_of

__all__ = ["MountEntry", "origin_of", "parse_mount"]

IMAGE: Final = "image"
VOLUME: Final = "volume"
TMPFS: Final = "tmpfs"

IN_MEMORY: Final = frozenset({"tmpfs", "ramfs"})
MOUNTINFO_BYTES: Final = 1 << 20

ESCAPED: Final = re.compile(rb"\\([0-7]{3})")


class MountEntry(msgspec.Struct, frozen=True):
    """A line of /proc/PID/mountinfo, as far as it matters."""

    id: str
    root: str
    """What of the file system is mounted."""
    point: str
    type: str
    upper: str
    """The folder of an overlay that takes changes; empty without one."""


def parse_mount(line: bytes) -> MountEntry | None:
    """None for a line of another form, see proc_pid_mountinfo(5)."""
    left, _, right = line.partition(b" - ")
    match left.split(b" "), right.split(b" "):
        case [number, _, _, root, point, *_], [kind, _, said, *_]:
            options = map(_unescaped, said.split(b","))
        case _:
            return None
    upper = next((each for each in options if each.startswith(b"upperdir=")), b"")
    return MountEntry(
        os.fsdecode(number),
        os.fsdecode(_unescaped(root)),
        os.fsdecode(_unescaped(point)),
        os.fsdecode(kind),
        os.fsdecode(upper.removeprefix(b"upperdir=")),
    )


def origin_of(inside: Inside, question: FileQuestion, pid: int, found: int) -> str:
    """Where the file `found` comes from, which was looked up with the eyes of `pid`.

    Raises OSError.
    """
    state = os.fstat(found)
    if question.path.startswith(MEMFD_PREFIX) and not state.st_nlink:
        return MEMFD
    number = mount_of(found)
    mounts = _mounts(pid)
    mount = next((each for each in mounts if each.id == number), None)
    if mount is None:
        return HOST if question.container is None else UNKNOWN
    if mount.type in IN_MEMORY:
        return TMPFS
    container = question.container
    if container is None:
        return HOST
    if mount.point != "/":
        return VOLUME
    if mount.type != "overlay":
        return _by_time(container.created, state.st_ctime_ns)
    if not mount.upper:
        return IMAGE
    if not state.st_nlink:
        # It was removed, and its name may stand for another file by now.
        return UNKNOWN
    return _in_overlay(inside, mount, question.path)


def _in_overlay(inside: Inside, mount: MountEntry, path: str) -> str:
    for pid in host_pids():
        try:
            # Where this folder is not there, nothing in it says anything.
            os.close(inside.look_up(pid, mount.upper))
        except OSError:
            continue
        try:
            os.close(inside.look_up(pid, f"{mount.upper}/{mount.root}/{path}", follow=False))
        except FileNotFoundError:
            return IMAGE
        return UPPER
    return UNKNOWN


def _by_time(created: str, changed_ns: int) -> str:
    """For file systems that are a copy of the image."""
    try:
        since = datetime.fromisoformat(created)
    except ValueError:
        return UNKNOWN
    return UPPER if changed_ns > since.timestamp() * 1e9 else IMAGE


def _mounts(pid: int) -> list[MountEntry]:
    with open(f"/proc/{pid}/mountinfo", "rb") as file:  # noqa: PTH123  read(n) needs a file
        lines = file.read(MOUNTINFO_BYTES).splitlines()
    return [entry for entry in map(parse_mount, lines) if entry is not None]


def _unescaped(text: bytes) -> bytes:
    return ESCAPED.sub(lambda match: bytes([int(match[1], 8) & 0xFF]), text)
