# SPDX-License-Identifier: Apache-2.0
"""Makers of events for tests: complete and plausible, with the changes that a test asks for."""

from __future__ import annotations

import hashlib
import mmap
import os
import socket
import stat
from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec

from nodeagent.dns import DnsMessage, DnsQuestion
from nodeagent.encode import brief, container_json, file_json, lineage_json, process_json
from nodeagent.enrich.identity import identities
from nodeagent.event import (
    Accept,
    AgentEvent,
    Ancestor,
    Bind,
    Bpf,
    CapabilitySets,
    Capset,
    Chmod,
    Chown,
    Chroot,
    Connect,
    Container,
    Credentials,
    Dns,
    Dup,
    Endpoint,
    Event,
    Exec,
    Exit,
    FileFacts,
    Fork,
    Ids,
    IoUring,
    KernelHook,
    Keyctl,
    Kill,
    Link,
    Listen,
    Memfd,
    Mmap,
    Module,
    Mount,
    Mprotect,
    Namespaces,
    NewCgroup,
    OlderSocket,
    Open,
    Other,
    PivotRoot,
    Pod,
    Process,
    ProcessFacts,
    Ptrace,
    Rename,
    Sendto,
    Setns,
    Setuid,
    Socket,
    SocketFilter,
    Stream,
    Symlink,
    Task,
    Umount,
    Unlink,
    Unshare,
    Userfaultfd,
    VmRead,
    VmWrite,
    Workload,
)
from nodeagent.finding import Finding, Severity

E = TypeVar("E", bound=Event)

TIME: Final = 1_764_025_869_123_456_789
"""2025-11-24 23:11:09.123456789 UTC."""
BOOT: Final = TIME - 3_600 * 1_000_000_000

BOOT_ID: Final = "0b0b0b0b-0b0b-4b0b-8b0b-0b0b0b0b0b0b"
UUID: Final = identities(BOOT_ID)

UNSET: Final = 0xFFFFFFFF
ROOT: Final = Credentials(uid=0, gid=0, euid=0, egid=0)


def a_task(**changes: Any) -> Task:
    fields: dict[str, Any] = {
        "start_time": 1_000_000_000,
        "cgroup": 1,
        "pid": 1234,
        "parent_pid": 1,
        **msgspec.structs.asdict(ROOT),
        "login_uid": UNSET,
        "session_id": UNSET,
        "exec_id": 1,
        "comm": "bash",
    }
    return Task(**fields | changes)


def some_facts(**changes: Any) -> ProcessFacts:
    fields: dict[str, Any] = {
        "parent_start_time": 0,
        "capabilities": 0x1FFFFFFFFFF,
        "namespaces": Namespaces(*range(4026531834, 4026531842)),
        "namespace_pid": 1234,
        "kernel_thread": False,
    }
    return ProcessFacts(**fields | changes)


def a_process(path: str = "/usr/bin/bash", **task_changes: Any) -> Process:
    task = a_task(**task_changes)
    facts = some_facts(namespace_pid=task.pid)
    init = Ancestor(1, "/usr/lib/systemd/systemd", 0, UUID(1, 0), namespace_pid=1, uid=0, euid=0)
    process = Process(task, path, facts, (init,), UUID(task.pid, task.start_time), b"")
    process.json = process_json(process, lineage_json(process.lineage, BOOT), BOOT)
    return process


def a_container(**changes: Any) -> Container:
    fields: dict[str, Any] = {
        "id": "c" * 64,
        "runtime": "containerd",
        "enrichment": "complete",
        "name": "main",
        "image": "registry.example/web:1",
        "image_digest": f"sha256:{'d' * 64}",
        "created": "2025-11-24T23:00:00.000Z",
        "pod": Pod(
            "web-5d8f-abcde",
            "shop",
            "0a0a0a0a-0b0b-4c0c-8d0d-0e0e0e0e0e0e",
            "b" * 64,
            {"app": "web"},
            {},
            Workload("Deployment", "web"),
        ),
    }
    return Container(**fields | changes)


def inside(process: Process, container: Container) -> Process:
    """The same process in a container."""
    lineage = lineage_json(process.lineage, BOOT)
    shown = container_json(container)
    process.container = container
    process.json = process_json(process, lineage, BOOT, shown)
    return process


def an_exec(argv: tuple[str, ...] = ("ls", "-la", "/tmp"), **changes: Any) -> Exec:
    return _make(
        Exec,
        changes,
        path="/usr/bin/ls",
        argv=argv,
        argc=len(argv),
        cwd="/root",
        filename="/usr/bin/ls",
        script="",
        script_file=None,
        interpreter="",
        environment={},
        **A_PROGRAM,
        file_uid=0,
        file_gid=0,
        links=1,
        memfd=False,
        old=ROOT,
        personality=0,
        stdio=(Stream(stat.S_IFCHR, None),) * 3,
        facts=some_facts(),
    )


def a_fork(**changes: Any) -> Fork:
    return _make(
        Fork,
        changes,
        child=a_task(pid=1235, parent_pid=1234),
        flags=0x01200000,
        facts=some_facts(namespace_pid=1235),
    )


def an_exit(**changes: Any) -> Exit:
    return _make(
        Exit,
        changes,
        code=0,
        signal=0,
        core_dumped=False,
        group_exit=True,
        cpu_ns=12_000_000,
        max_rss_bytes=4 * 1024 * 1024,
    )


def an_open(**changes: Any) -> Open:
    return _make(
        Open,
        {"result": 3} | changes,
        path="/etc/passwd",
        argument="",
        flags=os.O_RDONLY | os.O_CLOEXEC,
        created=False,
        count=1,
        summary=False,
        **A_FILE,
    )


def a_connect(**changes: Any) -> Connect:
    return _make(Connect, changes, **A_SOCKET, remote=Endpoint("127.0.0.1", 80))


def a_sendto(**changes: Any) -> Sendto:
    return _make(
        Sendto,
        changes,
        family=2,
        type=2,
        protocol=17,
        local=Endpoint("0.0.0.0", 40_000),
        remote=Endpoint("192.0.2.1", 123),
    )


def a_bind(**changes: Any) -> Bind:
    return _make(Bind, changes, **A_SOCKET, remote=None)


def a_listen(**changes: Any) -> Listen:
    return _make(Listen, {"backlog": 128} | changes, **A_SOCKET, remote=None)


def an_older_socket(**changes: Any) -> OlderSocket:
    return _make(OlderSocket, {"backlog": 128, "remote": None} | changes, **A_SOCKET)


def a_socket_filter(**changes: Any) -> SocketFilter:
    return _make(
        SocketFilter,
        changes,
        family=17,
        type=3,
        protocol=0,
        fd=3,
        option=26,
        instructions=30,
        program_id=0,
    )


def a_kernel_hook(**changes: Any) -> KernelHook:
    return _make(
        KernelHook,
        {"process": a_process("", pid=0, parent_pid=0, start_time=0, comm="kernel")} | changes,
        table="sys_call_table",
        index=62,
        address=0xFFFFFFFFC0001000,
        module="rootkit",
    )


def an_accept(**changes: Any) -> Accept:
    return _make(Accept, {"result": 5} | changes, **A_SOCKET, remote=Endpoint("127.0.0.1", 5050))


def an_mmap(**changes: Any) -> Mmap:
    return _make(
        Mmap,
        changes,
        path="/usr/lib/libc.so.6",
        address=0x7F0000000000,
        length=8192,
        protection=mmap.PROT_READ | mmap.PROT_EXEC,
        flags=mmap.MAP_PRIVATE,
        **A_PROGRAM,
    )


def an_mprotect(**changes: Any) -> Mprotect:
    return _make(
        Mprotect,
        changes,
        address=0x7F0000000000,
        length=4096,
        region=4,
        protection=mmap.PROT_READ | mmap.PROT_EXEC,
        old_protection=mmap.PROT_READ | mmap.PROT_WRITE,
        path="",
    )


def a_memfd(**changes: Any) -> Memfd:
    return _make(Memfd, {"result": 3} | changes, name="code", flags=1, fd=3, secret=False)


def a_ptrace(**changes: Any) -> Ptrace:
    return _make(Ptrace, changes, **A_TARGET, request=0x10, address=0, data=0)


def a_vm_read(**changes: Any) -> VmRead:
    return _make(VmRead, {"result": 8} | changes, **A_TARGET, address=0x7F0000000000, flags=0)


def a_vm_write(**changes: Any) -> VmWrite:
    return _make(VmWrite, {"result": 8} | changes, **A_TARGET, address=0x7F0000000000, flags=0)


def a_userfaultfd(**changes: Any) -> Userfaultfd:
    return _make(Userfaultfd, {"result": 3} | changes, flags=0x80000)


def a_setuid(**changes: Any) -> Setuid:
    return _make(
        Setuid,
        changes,
        facts=some_facts(),
        call=2,
        old=Ids(*[0] * 8),
        new=Ids(uid=0, gid=0, euid=1000, egid=0, suid=0, sgid=0, fsuid=1000, fsgid=0),
        asked_real=UNSET,
        asked_effective=1000,
        asked_saved=UNSET,
        asked_fs=UNSET,
    )


def a_capset(**changes: Any) -> Capset:
    return _make(
        Capset,
        changes,
        facts=some_facts(),
        old=CapabilitySets(effective=0x3FF, permitted=0x3FF, inheritable=0),
        new=CapabilitySets(effective=0x3DF, permitted=0x3DF, inheritable=0),
    )


def an_unshare(**changes: Any) -> Unshare:
    return _make(Unshare, changes, facts=some_facts(), flags=0x10020000)


def a_setns(**changes: Any) -> Setns:
    return _make(
        Setns,
        changes,
        facts=some_facts(),
        flags=0x00020000,
        namespace_type="mnt",
        inode=4026531841,
        target_pid=0,
    )


def a_keyctl(**changes: Any) -> Keyctl:
    return _make(
        Keyctl,
        {"result": 77} | changes,
        call=0,
        operation=10,
        key=-3,
        type="user",
        description="krb5 ticket",
    )


def a_module(**changes: Any) -> Module:
    return _make(
        Module,
        changes,
        name="dummy",
        path="/lib/modules/dummy.ko",
        parameters="numdummies=2",
        flags=0,
        unloaded=False,
        **A_PROGRAM,
    )


def a_bpf(**changes: Any) -> Bpf:
    return _make(
        Bpf,
        {"result": 4} | changes,
        command=5,
        program_type=26,
        attach_type=24,
        program_id=12,
        map_id=0,
        link_id=0,
        name="hide",
        attach_point="do_filp_open",
        pathname="",
        own=False,
    )


def a_kill(**changes: Any) -> Kill:
    return _make(Kill, changes, **A_TARGET, signal=9, target_tid=0)


def a_socket(**changes: Any) -> Socket:
    return _make(
        Socket,
        {"result": 3} | changes,
        family=socket.AF_INET,
        type=socket.SOCK_STREAM,
        protocol=0,
    )


def a_dup(**changes: Any) -> Dup:
    return _make(
        Dup,
        changes,
        old_fd=4,
        new_fd=0,
        from_pid=1234,
        family=socket.AF_INET,
        type=socket.SOCK_STREAM,
        protocol=socket.IPPROTO_TCP,
        local=Endpoint("127.0.0.1", 4242),
        remote=Endpoint("127.0.0.1", 80),
        path="",
    )


def a_message(**changes: Any) -> DnsMessage:
    fields: dict[str, Any] = {
        "id": 1,
        "response": False,
        "rcode": 0,
        "question": DnsQuestion("example.org", 1),
        "answers": (),
        "answer_count": 0,
    }
    return DnsMessage(**fields | changes)


def a_dns(**changes: Any) -> Dns:
    return _make(
        Dns,
        changes,
        protocol=socket.IPPROTO_UDP,
        incoming=False,
        local=Endpoint("127.0.0.1", 4242),
        remote=Endpoint("127.0.0.1", 53),
        message_bytes=29,
        message_offset=0,
        payload=bytes(29),
        message=a_message(),
    )


def a_rename(**changes: Any) -> Rename:
    return _make(Rename, changes, **UNVERIFIED, path="/tmp/a", new_path="/tmp/b", flags=1)


def a_link(**changes: Any) -> Link:
    return _make(Link, changes, **UNVERIFIED, path="/tmp/b", target="/etc/shadow", flags=0)


def a_symlink(**changes: Any) -> Symlink:
    return _make(Symlink, changes, **UNVERIFIED, path="/tmp/b", target="../etc")


def an_unlink(**changes: Any) -> Unlink:
    return _make(Unlink, changes, **UNVERIFIED, path="/tmp/a", flags=0)


def a_chmod(**changes: Any) -> Chmod:
    return _make(Chmod, changes, **UNVERIFIED, path="/tmp/a", mode=0o4755)


def a_chown(**changes: Any) -> Chown:
    return _make(Chown, changes, **UNVERIFIED, path="/tmp/a", uid=1000, gid=UNSET)


def a_mount(**changes: Any) -> Mount:
    return _make(
        Mount,
        changes,
        **UNVERIFIED,
        source="/dev/sda1",
        path="/mnt",
        type="ext4",
        flags=1,
        attributes=0,
        cleared=0,
        call=0,
    )


def an_umount(**changes: Any) -> Umount:
    return _make(Umount, changes, **UNVERIFIED, path="/mnt", flags=2)


def a_pivot_root(**changes: Any) -> PivotRoot:
    return _make(PivotRoot, changes, **UNVERIFIED, path="/mnt", put_old="/mnt/old")


def a_new_cgroup(**changes: Any) -> NewCgroup:
    return _make(NewCgroup, changes, id=4711, path="/kubepods/pod1")


def a_chroot(**changes: Any) -> Chroot:
    return _make(Chroot, changes, path="/srv/root", unverified=False)


def an_io_uring(**changes: Any) -> IoUring:
    return _make(
        IoUring,
        changes,
        operation=18,
        flags=0,
        fd=UNSET,
        entries=0,
        path="",
        argument="/etc/shadow",
        remote=None,
    )


def an_agent_event(kind: str = "agent.start", **details: object) -> AgentEvent:
    return AgentEvent(kind, TIME, details)


def a_finding(**changes: Any) -> Finding:
    title = changes.get("title", "A shell talks to 192.0.2.1")
    fields: dict[str, Any] = {
        "id": hashlib.sha256(title.encode("utf-8", "surrogatepass")).hexdigest()[:32],
        "type": "Execution:Runtime/ReverseShell",
        "severity": Severity.HIGH,
        "title": title,
        "mitre": ("T1059.004",),
        "resource": {"node": "node-1"},
        "process": {"pid": 1234},
        "context": {"addressFamily": "AF_INET"},
        "action": None,
        "evidence": {"rule": "reverse_shell", "weight": 80},
        "first_seen": TIME,
        "last_seen": TIME,
    }
    return Finding(**fields | changes)


UNVERIFIED: Final[dict[str, Any]] = {"unverified": True}

A_FILE: Final[dict[str, Any]] = {"inode": 131, "device": 0x800001, "mode": 0o100755}

A_PROGRAM: Final[dict[str, Any]] = {
    **A_FILE,
    "file_bytes": 4096,
    "file_changed": BOOT,
    "file": FileFacts("", "gone", "host", None, 0, file_json("", "gone", "host", None, 0)),
}

A_TARGET: Final[dict[str, Any]] = {
    "target": Other(start_time=0, pid=0, passed_pid=1235),
    "target_process": brief(1235, 2_000_000_000, UUID(1235, 2_000_000_000), "/usr/bin/sleep", BOOT),
}

A_SOCKET: Final[dict[str, Any]] = {
    "family": socket.AF_INET,
    "type": socket.SOCK_STREAM,
    "protocol": socket.IPPROTO_TCP,
    "local": Endpoint("127.0.0.1", 4242),
    "path": "",
    "name": "",
    "fd": 3,
    "backlog": 0,
    "unverified": False,
}


def _make(event: type[E], changes: dict[str, Any], **fields: Any) -> E:
    common: dict[str, Any] = {
        "time": TIME,
        "sequence": 1,
        "cpu": 0,
        "tid": 1234,
        "result": 0,
        "task": b"",
        "process": a_process(),
        "incomplete": None,
        "added": None,
    }
    return event(**common | fields | changes)


MAKERS: Final[dict[str, Callable[..., Event]]] = {
    "exec": an_exec,
    "fork": a_fork,
    "exit": an_exit,
    "open": an_open,
    "rename": a_rename,
    "link": a_link,
    "symlink": a_symlink,
    "unlink": an_unlink,
    "chmod": a_chmod,
    "chown": a_chown,
    "mount": a_mount,
    "umount": an_umount,
    "socket": a_socket,
    "connect": a_connect,
    "sendto": a_sendto,
    "bind": a_bind,
    "listen": a_listen,
    "accept": an_accept,
    "older_socket": an_older_socket,
    "socket_filter": a_socket_filter,
    "dup": a_dup,
    "dns": a_dns,
    "mmap": an_mmap,
    "mprotect": an_mprotect,
    "memfd": a_memfd,
    "ptrace": a_ptrace,
    "vm_read": a_vm_read,
    "vm_write": a_vm_write,
    "userfaultfd": a_userfaultfd,
    "setuid": a_setuid,
    "capset": a_capset,
    "unshare": an_unshare,
    "setns": a_setns,
    "pivot_root": a_pivot_root,
    "new_cgroup": a_new_cgroup,
    "chroot": a_chroot,
    "module": a_module,
    "bpf": a_bpf,
    "kernel_hook": a_kernel_hook,
    "keyctl": a_keyctl,
    "io_uring": an_io_uring,
    "kill": a_kill,
}
"""A maker for each kind."""
