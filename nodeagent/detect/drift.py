# SPDX-License-Identifier: Apache-2.0
"""Code that was not there before, and rights that a process did not have."""

from __future__ import annotations

import mmap
import stat
from collections.abc import Iterable, Iterator
from typing import ClassVar, Final

from nodeagent.detect import Signal
from nodeagent.detect.describe import name_of
from nodeagent.detect.planted import is_planted, is_trusting
from nodeagent.detect.recent import Recent
from nodeagent.detect.where import (
    PACKAGE_MANAGERS,
    POWERS_OF_ROOT,
    is_below,
    is_below_host,
    is_contained,
    is_program,
    is_runtime,
    is_runtime_above,
    is_system_path,
    powers_of,
)
from nodeagent.encode import timestamp
from nodeagent.event import (
    Ancestor,
    Bpf,
    Capset,
    Event,
    Exec,
    FileFacts,
    IoUring,
    Mmap,
    Module,
    Process,
    Setuid,
)

__all__ = ["Drift"]

WRITTEN_INSIDE: Final = frozenset({"upper", "tmpfs"})
"""Origins of files that somebody in the container has written."""
TEMPORARY: Final = ("/tmp/", "/var/tmp/", "/dev/shm/", "/run/shm/")  # noqa: S108  only looked at
DOWNLOADERS: Final = frozenset({"curl", "wget", "fetch", "aria2c", "lwp-download", "tftp", "ftp"})
SETUID_PROGRAMS: Final = frozenset(
    {
        "sudo",
        "su",
        "pkexec",
        "passwd",
        "chsh",
        "chfn",
        "chage",
        "expiry",
        "newgrp",
        "gpasswd",
        "mount",
        "umount",
        "fusermount",
        "fusermount3",
        "ping",
        "at",
        "crontab",
        "doas",
        "newuidmap",
        "newgidmap",
        "ssh-keysign",
        "unix_chkpwd",
        "dbus-daemon-launch-helper",
        "polkit-agent-helper-1",
        "snap-confine",
        "chrome-sandbox",
        "Xorg.wrap",
        "exim4",
        "sendmail",
        "pppd",
        "ntfs-3g",
        "mount.nfs",
        "mount.cifs",
        "bwrap",
        "VBoxHeadless",
        "vmware-user-suid-wrapper",
    }
)
"""Programs of the usual systems that run with the rights of root."""
SYSTEM_MODULES: Final = ("/lib/modules/", "/usr/lib/modules/")
MODULE_LOADERS: Final = frozenset(
    {"modprobe", "kmod", "systemd", "systemd-udevd", "systemd-modules-load"}
)
ANY_MODULE: Final = "insmod"
"""What kmod is called when it loads whatever file it is given."""
BPF_LOADERS: Final = frozenset({"systemd", "bpftool", "NetworkManager", "systemd-networkd"})
DROPPERS: Final = frozenset(
    {"setpriv", "capsh", "su", "sudo", "runuser", "systemd", "systemd-executor"}
)
"""Programs that leave to others what root has chosen."""
CAPABLE_LIMIT: Final = 2048
PLANTED_LIMIT: Final = 2048
NOT_SEEN: Final = 0xFFFFFFFFFFFFFFFF
"""What `Capset.old` is when the start of the call was not seen."""
PROGRAM_LOADED: Final = 5
"""BPF_PROG_LOAD."""


class Drift:
    """Looks at code as it begins to run."""

    name = "drift"
    kinds: ClassVar[tuple[str, ...]] = (
        *("exec", "mmap", "module", "bpf", "io_uring"),
        *("setuid", "capset"),
    )

    def __init__(self) -> None:
        self._capable: Recent[str, bool] = Recent(CAPABLE_LIMIT)
        """Processes of users that have capabilities, by their UUID; they hand them on."""
        self._planted: Recent[tuple[str, int], bool] = Recent(PLANTED_LIMIT)
        """Programs of the host that are new themselves, by UUID and `exec_id`."""

    def inspect(self, event: Event) -> Iterable[Signal]:
        """What runs now."""
        process = event.process
        if process is None:
            return ()
        if isinstance(event, Mmap):
            return self._on_mmap(event, process) if event.file is not None else ()
        if isinstance(event, Exec):
            return self._on_exec(event, process) if event.result >= 0 else ()
        if isinstance(event, Module):
            return self._on_module(event, process)
        if isinstance(event, Bpf):
            return self._on_bpf(event, process)
        if isinstance(event, Setuid):
            return _on_setuid(event)
        if isinstance(event, Capset):
            return _on_capset(event, process)
        if isinstance(event, IoUring) and (path := event.path or event.argument):
            return (Signal("io_uring", event, {"filePath": path}),)
        return ()

    def _on_exec(self, event: Exec, process: Process) -> Iterator[Signal]:
        if event.mode & stat.S_ISUID and _has_no_argument(event):
            yield Signal("pkexec_exploit", event, key=event.path)
        yield from self._elevation(event, process)
        held = event.facts.capabilities
        if held and process.task.euid and (powers := powers_of(event.facts, held, POWERS_OF_ROOT)):
            yield from self._capable_program(event, process, powers)
        if preloaded := event.environment.get("LD_PRELOAD"):
            yield Signal("preload", event, {"ldPreloadValue": preloaded}, key=preloaded)
        yield from self._on_code(event, process, event.path, event.file)
        if event.script_name and not is_below_host(process, PACKAGE_MANAGERS):
            new = "packaged_script" if is_below(process, PACKAGE_MANAGERS) else "new_binary"
            yield from self._on_code(event, process, event.script_path, event.script_file, new)

    def _on_code(
        self,
        event: Exec,
        process: Process,
        path: str,
        file: FileFacts | None,
        new: str = "new_binary",
    ) -> Iterator[Signal]:
        """A program or a script, what is known of it, and the rule for one that is new."""
        if name_of(path).startswith(".") and not is_below_host(process, PACKAGE_MANAGERS):
            yield Signal("hidden_file", event, {"threatFilePath": path}, key=path)
        writer = _writer(file)
        if writer in DOWNLOADERS:
            yield Signal("downloaded", event, _found(path, file), key=writer)
        if process.container is not None and file is not None and _is_new(file, process):
            yield Signal(new, event, _found(path, file), key=writer)
        elif path.startswith(TEMPORARY) and not is_below_host(process, PACKAGE_MANAGERS):
            yield Signal("temporary_file", event, {"threatFilePath": path}, key=path)
        elif not is_contained(process) and is_planted(path, file):
            self._planted.put((process.uuid, process.task.exec_id), value=True)
            yield Signal("host_binary", event, _found(path, file), key=writer)

    def _elevation(self, event: Exec, process: Process) -> Iterator[Signal]:
        is_elevated = event.old.euid not in (0, None) and process.task.euid == 0
        if not is_elevated or not event.mode & stat.S_ISUID:
            return
        usual = is_program(event.path, SETUID_PROGRAMS)
        if not usual:
            yield Signal(
                "elevation", event, {"threatFilePath": event.path}, key=str(event.old.euid)
            )

    def _capable_program(
        self, event: Exec, process: Process, powers: list[str]
    ) -> Iterator[Signal]:
        """By capabilities of its file, or what somebody has left to it."""
        parent = process.lineage[0] if process.lineage else None
        known = self._capable.get(process.uuid)
        self._capable.put(process.uuid, value=True)
        if known or (parent is not None and (self._capable.get(parent.uuid) or _gives(parent))):
            return
        if name_of(event.path) not in SETUID_PROGRAMS or not is_system_path(event.path):
            context: dict[str, object] = {"threatFilePath": event.path, "capabilities": powers}
            yield Signal("capable_program", event, context, key=", ".join(powers))

    def _on_mmap(self, event: Mmap, process: Process) -> Iterator[Signal]:
        file = event.file
        if (
            file is None
            or file.modified_by is None
            or event.path == process.path
            or not event.protection & mmap.PROT_EXEC
        ):
            return
        rule = ""
        if process.container is not None:
            rule = "new_library" if _is_new(file, process) else ""
        elif not is_contained(process) and is_planted(event.path, file):
            rule = "host_library"
            is_new = self._planted.get((process.uuid, process.task.exec_id))
            by_itself = file.modified_by.uuid == process.uuid
            if not is_new and not by_itself and is_trusting(event.path, process):
                rule = "planted_library"
        if rule:
            context = {"libraryPath": event.path, **_modified(file)}
            yield Signal(rule, event, context, key=event.path)

    def _on_module(self, event: Module, process: Process) -> Iterator[Signal]:
        if event.unloaded:
            return
        context: dict[str, object] = {"moduleName": event.name, "moduleFilePath": event.path}
        if event.file is not None and event.file.sha256:
            context["moduleSha256"] = event.file.sha256
        # A compressed module comes from memory, and without a path, where kmod unpacks it.
        known = event.path.startswith(SYSTEM_MODULES) or (
            not event.path and process.task.comm != ANY_MODULE
        )
        of_system = known and not is_contained(process) and _is_module_loader(process)
        rule = "module_of_system" if of_system else "module"
        yield Signal(rule, event, context, key=event.name or event.path)

    def _on_bpf(self, event: Bpf, process: Process) -> Iterator[Signal]:
        if event.command != PROGRAM_LOADED or event.own or event.result < 0:
            return
        usual = is_program(process.path, BPF_LOADERS)
        if not usual or is_contained(process):
            yield Signal("bpf_program", event, key=event.name)


def _gives(parent: Ancestor) -> bool:
    """It is there to start programs with what their units or containers say."""
    is_master = name_of(parent.path) == "systemd" and is_system_path(parent.path)
    return is_master or is_runtime_above(parent)


def _on_setuid(event: Setuid) -> Iterator[Signal]:
    """Who was root before, or may be again, takes nothing."""
    old = event.old
    if event.result == 0 and event.new.euid == 0 and 0 not in (old.uid, old.euid, old.suid):
        yield Signal("became_root", event, key=str(old.euid))


def _on_capset(event: Capset, process: Process) -> Iterator[Signal]:
    """What it may do at once, and only might have done before."""
    if event.result or not process.task.euid or event.old.effective == NOT_SEEN:
        return
    if is_program(process.path, DROPPERS):
        return
    taken = event.new.effective & ~event.old.effective
    powers = powers_of(event.facts, taken, POWERS_OF_ROOT)
    if powers:
        yield Signal("capabilities_taken", event, {"capabilities": powers}, key=", ".join(powers))


def _is_module_loader(process: Process) -> bool:
    return is_program(process.path, MODULE_LOADERS)


def _has_no_argument(event: Exec) -> bool:
    """Since v5.18 the kernel gives a program that gets none an empty one."""
    is_read = event.incomplete is None or "argv" not in event.incomplete.unread
    return is_read and not any(event.argv)


def _is_new(file: FileFacts, process: Process) -> bool:
    """Somebody wrote it while this container ran."""
    return (
        file.modified_by is not None
        and file.origin in WRITTEN_INSIDE
        # What makes a container may have to copy its image.
        and not is_runtime_above(file.modified_by)
        and not is_runtime(process)
    )


def _writer(file: FileFacts | None) -> str:
    by = file.modified_by if file is not None else None
    return name_of(by.path) if by is not None else ""


def _found(path: str, file: FileFacts | None) -> dict[str, object]:
    return {"threatFilePath": path, **_modified(file)}


def _modified(file: FileFacts | None) -> dict[str, object]:
    if file is None or (by := file.modified_by) is None:
        return {}
    modifier = {
        "pid": by.pid,
        "uuid": by.uuid,
        "name": name_of(by.path),
        "executablePath": by.path,
    }
    return {"modifyingProcess": modifier, "modifiedAt": timestamp(file.modified_at)}
