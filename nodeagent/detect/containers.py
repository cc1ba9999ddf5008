# SPDX-License-Identifier: Apache-2.0
"""Ways out of a container."""

from __future__ import annotations

import os
import re
import socket
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, Final

from nodeagent.detect import Signal
from nodeagent.detect.describe import name_of
from nodeagent.detect.where import RUNTIMES, is_contained, is_one, is_runtime
from nodeagent.event import (
    Connect,
    Event,
    Exec,
    Mount,
    Open,
    Process,
    Setns,
    Socket,
    Symlink,
    Unshare,
)
from nodeagent.names import CLONE_FLAGS, MOUNT_FLAGS

__all__ = ["Containers"]

WRITING: Final = os.O_WRONLY | os.O_RDWR
RUNTIME_SOCKETS: Final = frozenset(
    {"docker.sock", "containerd.sock", "containerd.sock.ttrpc", "crio.sock", "podman.sock"}
)
HELPERS: Final = frozenset(
    {
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/fs/binfmt_misc/register",
        "/sys/kernel/uevent_helper",
    }
)
"""What is written there is run by the kernel, outside of any container."""
RELEASE_AGENT: Final = "release_agent"
WRITTEN_NAMES: Final = RUNTIMES | {RELEASE_AGENT}
"""What nobody in a container should write, wherever it lies."""
HELPER_WRITERS: Final = frozenset(
    {"systemd-sysctl", "systemd-binfmt", "sysctl", "apport", "abrt-install-ccpp-hook", "systemd"}
)
DISK_TYPES: Final = frozenset(
    {"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "zfs", "ntfs", "vfat"}
)
KERNEL_TYPES: Final = frozenset({"debugfs", "tracefs", "securityfs"})
PROCESS_FOLDER: Final = re.compile(r"/proc/\d+(?:/(?!fd/).*)?")
MS_REMOUNT: Final = 0x20
PROPAGATION: Final = 0x1E0000
"""MS_UNBINDABLE, MS_PRIVATE, MS_SLAVE, MS_SHARED."""
NEW_USER_NAMESPACE: Final = 0x10000000
"""CLONE_NEWUSER."""
OWN_DESCRIPTOR: Final = re.compile(r"/proc/(?:self|thread-self|\d+)/fd/\d+(?:/|$)")
BLOCK_DEVICE: Final = re.compile(
    r"/dev/(?:sd[a-z]|vd[a-z]|xvd[a-z]|nvme\d|mmcblk\d|md[\d/]|loop\d|nbd\d|dm-\d|mapper/"
    r"|mem$|kmem$|port$)"
)


class Containers:
    """Looks only at processes in containers, and not at what makes these."""

    name = "containers"
    kinds: ClassVar[tuple[str, ...]] = (
        "exec",
        "open",
        "connect",
        "mount",
        "symlink",
        "setns",
        "socket",
        "unshare",
    )

    def __init__(self) -> None:
        self._takes: Mapping[type[Event], Callable[[Any], Iterable[Signal]]] = {
            Open: _on_open,
            Connect: _on_connect,
            Exec: _on_exec,
            Mount: _on_mount,
            Symlink: _on_symlink,
            Setns: _on_setns,
            Socket: _on_socket,
            Unshare: _on_unshare,
        }

    def wants_path(self, path: str) -> bool:
        """What leads out of a container."""
        return (
            path in HELPERS
            or name_of(path) in WRITTEN_NAMES
            or (path.startswith("/dev/") and BLOCK_DEVICE.match(path) is not None)
        )

    def inspect(self, event: Event) -> Iterable[Signal]:
        """What a contained process does."""
        process = event.process
        if process is None:
            return ()
        if isinstance(event, Mount) and PROCESS_FOLDER.fullmatch(event.path):
            return _on_hiding(event, process)
        if not is_contained(process):
            return _helper(event, process) if isinstance(event, Open) else ()
        if is_runtime(process):
            return ()
        return self._takes[type(event)](event)


def _helper(event: Open, process: Process) -> Iterable[Signal]:
    """The same file on the host: not everybody who may write it should."""
    path = event.path or event.argument
    if not event.flags & WRITING or path not in HELPERS:
        return ()
    if is_one(process, HELPER_WRITERS):
        return ()
    return (Signal("kernel_helper", event, _written(path), key=path),)


def _written(path: str) -> dict[str, object]:
    return {"filePath": path, "fileOperation": "Write"}


def _on_open(event: Open) -> Iterator[Signal]:
    path = event.path or event.argument
    if path.startswith("/dev/") and BLOCK_DEVICE.match(path):
        if stat.S_IFMT(event.mode) != stat.S_IFREG:
            yield Signal("raw_device", event, {"filePath": path}, key=path)
        return
    if not event.flags & WRITING:
        return
    name = name_of(path)
    if name == RELEASE_AGENT:
        yield Signal("release_agent", event, {"releaseAgentPath": path}, key=path)
    elif path in HELPERS:
        yield Signal("kernel_helper", event, _written(path), key=path)
    elif name in RUNTIMES and not event.created:
        yield Signal("runc_escape", event, {"runcBinaryPath": path}, key=path)


def _on_connect(event: Connect) -> Iterator[Signal]:
    path = event.path or event.name
    if event.family == socket.AF_UNIX and name_of(path) in RUNTIME_SOCKETS:
        yield Signal("docker_socket", event, {"socketPath": path}, key=path)


def _on_exec(event: Exec) -> Iterator[Signal]:
    words = (event.filename, event.cwd, *event.argv[1:])
    for word in words:
        if OWN_DESCRIPTOR.match(word) and ("/.." in word or word == event.cwd):
            yield Signal("runc_folder", event, {"filePath": word}, key=word)
            return


def _on_symlink(event: Symlink) -> Iterator[Signal]:
    """A working folder of an image that leads to a folder of the host."""
    if OWN_DESCRIPTOR.fullmatch(event.target) and not event.path.startswith(("/dev/", "/proc/")):
        yield Signal("runc_folder", event, {"filePath": event.target}, key=event.path)


def _on_mount(event: Mount) -> Iterator[Signal]:
    source = event.source
    if event.type in KERNEL_TYPES:
        yield Signal("kernel_files_mounted", event, _mounted(event), key=event.type)
    elif event.type in DISK_TYPES or BLOCK_DEVICE.match(source):
        yield Signal("host_mount", event, _mounted(event), key=source or event.type)


def _on_hiding(event: Mount, process: Process) -> Iterator[Signal]:
    """Who looks below /proc sees what was mounted; a change of flags alone hides nothing."""
    hides_nothing = MS_REMOUNT | PROPAGATION
    if not is_runtime(process) and not event.flags & hides_nothing:
        yield Signal("process_hidden", event, _mounted(event), key=event.path)


def _mounted(event: Mount) -> dict[str, object]:
    return {
        "mountSource": event.source,
        "mountTarget": event.path,
        "fileSystemType": event.type,
        "flags": MOUNT_FLAGS.show(event.flags),
    }


def _on_unshare(event: Unshare) -> Iterator[Signal]:
    if event.flags & NEW_USER_NAMESPACE:
        yield Signal("user_namespace", event, {"flags": CLONE_FLAGS.show(event.flags)})


def _on_setns(event: Setns) -> Iterator[Signal]:
    yield Signal(
        "setns_host", event, {"flags": [event.namespace_type] if event.namespace_type else []}
    )


def _on_socket(event: Socket) -> Iterator[Signal]:
    if event.family == socket.AF_PACKET:
        yield Signal("packet_socket", event, {"addressFamily": "AF_PACKET"})
