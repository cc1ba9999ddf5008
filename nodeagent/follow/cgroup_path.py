# SPDX-License-Identifier: Apache-2.0
"""From the id of a cgroup to its path, and from the path to the container."""

from __future__ import annotations

import ctypes
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from nodeagent.kernel.cgroup import ids_below

__all__ = ["CgroupPaths", "Found", "container_of"]

FILEID_KERNFS: Final = 0xFE
"""A handle that is the id of a cgroup, commit 33c5ac9175195 (v5.5)."""
HANDLE_BYTES: Final = 8


class Found(msgspec.Struct, frozen=True):
    """What the path of a cgroup says about a container."""

    id: str
    runtime: str
    """Empty when the path does not tell."""
    pod_uid: str


ID: Final = r"(?P<id>[0-9a-f]{64})"
NAMES: Final = (
    # The scope of systemd: RUNTIME-ID.scope.
    (re.compile(rf"cri-containerd-{ID}\.scope"), "containerd"),
    (re.compile(rf"crio-{ID}(\.scope)?"), "cri-o"),
    (re.compile(rf"docker-{ID}\.scope"), "docker"),
    (re.compile(rf"libpod-{ID}(\.scope)?"), "podman"),
    (re.compile(rf"nerdctl-{ID}\.scope"), "containerd"),
    # With the driver cgroupfs the folder has the id alone.
    (re.compile(ID), ""),
    # ECS names containers of tasks so: 32 digits of the task and a number.
    (re.compile(r"(?P<id>[0-9a-f]{32}-\d{6,12})"), "containerd"),
)
PARENTS: Final = {"docker": "docker", "libpod_parent": "podman", "crio": "cri-o", "ecs": "docker"}
"""What the folder above tells where the name of the container's own does not."""
POD: Final = re.compile(
    r"(?:kubepods(?:-\w+)?-)?pod(?P<uid>[0-9a-f]{8}[-_][0-9a-f-_]{27}|[0-9a-f]{32})(?:\.slice)?"
)
"""The static pods of a kubelet have a hash for a uid."""


def container_of(path: str) -> Found | None:
    """The innermost container of a cgroup, from its path in any hierarchy.

    containerd, CRI-O, Docker, Podman and ECS, with systemd or cgroupfs as the driver. What
    a container makes below its own cgroup still is that container.
    """
    folders = path.strip("/").split("/")
    for depth in range(len(folders), 0, -1):
        for pattern, runtime in NAMES:
            match = pattern.fullmatch(folders[depth - 1])
            if match:
                above = folders[: depth - 1]
                return Found(match["id"], runtime or _runtime(above), _pod_uid(above))
    return None


def _runtime(above: list[str]) -> str:
    return next((PARENTS[name] for name in reversed(above) if name in PARENTS), "")


def _pod_uid(above: list[str]) -> str:
    for name in reversed(above):
        match = POD.fullmatch(name)
        if match:
            return match["uid"].replace("_", "-")
    return ""


class _Handle(ctypes.Structure):
    """`struct file_handle` with the id of a cgroup."""

    _fields_ = (
        ("bytes", ctypes.c_uint),
        ("type", ctypes.c_int),
        ("id", ctypes.c_uint8 * HANDLE_BYTES),
    )


class CgroupPaths:
    """Opens cgroups of version 2 by their ids, so that no tree has to be walked."""

    def __init__(self, root: int) -> None:
        """`root` is a descriptor of the root of the hierarchy, which is closed with this."""
        self._root = root
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._prefix = str(Path(f"/proc/self/fd/{root}").readlink()).rstrip("/")

    def all(self) -> list[int]:
        """The ids of the cgroups that there are."""
        return list(ids_below(self._root, ["/"]))

    def path(self, cgroup: int) -> str | None:
        """From the root of the hierarchy on; None when it is gone."""
        handle = _Handle(HANDLE_BYTES, FILEID_KERNFS, (ctypes.c_uint8 * 8)(*_bytes(cgroup)))
        flags = os.O_PATH | os.O_CLOEXEC
        fd = self._libc.open_by_handle_at(self._root, ctypes.byref(handle), flags)
        if fd < 0:
            return None
        try:
            # Seen from the mount that the root was opened in.
            shown = str(Path(f"/proc/self/fd/{fd}").readlink())
            return shown.removeprefix(self._prefix) or "/"
        except OSError:
            return None
        finally:
            os.close(fd)

    def close(self) -> None:
        """Let the root go."""
        with suppress(OSError):
            os.close(self._root)


def _bytes(number: int) -> bytes:
    return number.to_bytes(HANDLE_BYTES, "little")


def is_socket(path: str) -> bool:
    """Whether there is a socket at this path."""
    try:
        return Path(path).is_socket()
    except OSError:
        return False
