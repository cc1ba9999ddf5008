# SPDX-License-Identifier: Apache-2.0
"""Which class and activity of OCSF each kind of event is, and where its fields go.

What is in quotes is Python over the event `e`, in the words of `encoder.py`; members give
JSON, activities a number. All fields of a kind that are not named in `whole` are in `unmapped`
besides, so that nothing is lost on the way.
"""

from __future__ import annotations

import mmap
import socket
from collections.abc import Mapping
from typing import Final, NamedTuple

from nodeagent.names import PROTECTIONS

__all__ = ["ROWS", "Class", "Row"]


class Class(NamedTuple):
    """A class of OCSF."""

    uid: int
    category: int
    has_actor: bool = True


FILE: Final = Class(1001, 1)
EXTENSION: Final = Class(1002, 1)
KERNEL: Final = Class(1003, 1)
MEMORY: Final = Class(1004, 1)
MODULE: Final = Class(1005, 1)
PROCESS: Final = Class(1007, 1)
NETWORK: Final = Class(4001, 4)
DNS: Final = Class(4003, 4)
FINDING: Final = Class(2004, 2, has_actor=False)
APPLICATION: Final = Class(6002, 6, has_actor=False)


class Row(NamedTuple):
    """How an event becomes one of OCSF."""

    ocsf: Class
    activity: int | str
    members: Mapping[str, str] = {}
    when: str = "True"
    """The first row of a kind whose condition holds is taken."""
    activity_name: str = ""
    """Of an activity that OCSF has no number for (99)."""
    newer: Mapping[str, str] = {}
    """Members that 1.3.0 does not have."""
    whole: frozenset[str] = frozenset()
    """Fields that are nowhere else, since members hold all they say."""
    process: str | None = None
    """Further members of the process that did it, where it is a member of its own."""
    newer_process: str = ""
    """More of them where the version is newer than 1.3.0."""


def _call(name: str, when: str = "True") -> Row:
    """A system call that OCSF has no class for."""
    kernel = f'{{"name":"{name}","type_id":2,"system_call":"{name}"}}'
    return Row(KERNEL, 4, {"kernel": f"{kernel!r}"}, when)


def _file(activity: int, name: str = "path", result: str = "") -> Row:
    """What the field `name` names, and what it became."""
    members = {"file": f"paths[e.{name}]"}
    if result:
        members["file_result"] = f"paths[e.{result}]"
    return Row(FILE, activity, members, whole=frozenset({name, result}))


def _socket(
    kind: str, activity: int | str, direction: int, ends: tuple[str, str], name: str = ""
) -> tuple[Row, ...]:
    """Sockets with an address are network activity, those with a name are files."""
    source, destination = ends
    members = {
        "dst_endpoint": f"end(e.{destination})",
        "connection_info": f"connections[e.protocol, {direction}]",
    }
    if source:
        members["src_endpoint"] = f"end(e.{source})"
    return (
        Row(
            NETWORK,
            activity,
            members,
            f"e.{destination} is not None",
            activity_name=name,
            whole=frozenset({"local", "remote"}),
        ),
        Row(
            FILE,
            OPEN,
            {"file": "sockets[e.path or e.name]"},
            f"e.family == {socket.AF_UNIX:d} and (e.path or e.name)",
        ),
        _call(kind),
    )


INBOUND: Final = 1
OUTBOUND: Final = 2
NEITHER: Final = 0

OPEN: Final = 14
POKES: Final = frozenset({0x4, 0x5, 0x6, 0xD, 0xF, 0x13, 0x4205})
"""Requests of ptrace(2) that change another process: POKE* and SET*REGS."""

MEMORY_OF: Final = {
    "base_address": 'text(f"{e.address:#x}")',
    "process": "target(e.target, e.target_process)",
}

ROWS: Final[dict[str, tuple[Row, ...]]] = {
    "exec": (
        Row(
            PROCESS,
            1,
            process=',"cmd_line":{text(" ".join(e.argv))}',
            newer={"launch_type_id": '"3"'},
            newer_process=',"working_directory":{text(e.cwd)}',
        ),
    ),
    "fork": (
        Row(
            PROCESS,
            1,
            {"process": "child(e)"},
            newer={"launch_type_id": '"2"'},
        ),
    ),
    "exit": (
        Row(
            PROCESS,
            2,
            {"exit_code": "e.code"},
            process=',"terminated_time":{e.time // 1000000}',
            whole=frozenset({"code"}),
        ),
    ),
    "open": (
        Row(
            FILE,
            f"1 if e.created else {OPEN}",
            {
                "file": "file(e.path or e.argument, e.mode)",
                "access_mask": "e.flags",
                "count": "e.count",
            },
            whole=frozenset({"count", "path", "created"}),
        ),
    ),
    "rename": (_file(5, result="new_path"),),
    "link": (_file(1, "target", result="path"),),
    "symlink": (Row(FILE, 1, {"file": "links[e.path]"}, whole=frozenset({"path"})),),
    "unlink": (_file(4),),
    "chmod": (_file(7),),
    "chown": (_file(7),),
    "mount": (_file(12),),
    "umount": (_file(13),),
    "connect": _socket("connect", "opened(e.result)", OUTBOUND, ("local", "remote")),
    "sendto": (_socket("sendto", 6, OUTBOUND, ("local", "remote"))[0], _call("sendto")),
    "accept": _socket("accept", "opened(e.result)", INBOUND, ("remote", "local")),
    "bind": _socket("bind", 99, NEITHER, ("", "local"), "Bind"),
    "listen": _socket("listen", 7, INBOUND, ("", "local")),
    "older_socket": (
        _socket("socket", 99, NEITHER, ("local", "remote"), "Open")[0],
        *_socket("socket", 7, INBOUND, ("", "local")),
    ),
    "socket": (_call("socket"),),
    "socket_filter": (_call("setsockopt"),),
    "dup": (_call("dup"),),
    "dns": (
        Row(
            DNS,
            "6 if e.message is None else 2 if e.message.response else 1",
            {
                "src_endpoint": "end(e.remote if e.incoming else e.local)",
                "dst_endpoint": "end(e.local if e.incoming else e.remote)",
                "connection_info": "connections[e.protocol, 1 if e.incoming else 2]",
                "query": "question(e.message)",
                "answers": "answered(e.message)",
                "rcode_id": "rcode(e.message)",
            },
            "e.local or e.remote",
            whole=frozenset({"local", "remote"}),
        ),
        _call("dns"),
    ),
    "mmap": (
        Row(
            MODULE,
            1,
            {
                # Mapped.
                "module": '\'{"load_type_id":4,"file":\' + file(e.path, e.mode)'
                ' + f\',"base_address":"{e.address:#x}"}}\'',
            },
            f"e.path and e.protection & {mmap.PROT_EXEC}",
        ),
        Row(
            MEMORY,
            1,
            {
                "base_address": 'text(f"{e.address:#x}")',
                "size": "e.length",
                "requested_permissions": "e.protection",
            },
            process="",
        ),
    ),
    "mprotect": (
        Row(
            MEMORY,
            # Disable DEP, where what could be written becomes executable.
            f"5 if e.old_protection & {mmap.PROT_WRITE | mmap.PROT_EXEC} == {mmap.PROT_WRITE}"
            " else 2",
            {
                "base_address": 'text(f"{e.address:#x}")',
                "size": "e.length",
                "requested_permissions": "e.protection",
                "actual_permissions": f"known(e.old_protection, {PROTECTIONS.unknown})",
            },
            process="",
        ),
    ),
    "memfd": (_call("memfd_create"),),
    "ptrace": (
        Row(
            PROCESS,
            f"4 if e.request in {set(POKES)} else 3",
            {"process": "target(e.target, e.target_process)"},
        ),
    ),
    "vm_read": (Row(MEMORY, 7, {**MEMORY_OF, "size": "max(e.result, 0)"}),),
    "vm_write": (Row(MEMORY, 8, {**MEMORY_OF, "size": "max(e.result, 0)"}),),
    "userfaultfd": (_call("userfaultfd"),),
    "setuid": (
        Row(
            PROCESS,
            5,
            {"process": '\'{\' + p.members + f\',"user":{{"uid":"{e.new.euid}"}}}}\''},
        ),
    ),
    "capset": (_call("capset"),),
    "unshare": (_call("unshare"),),
    "setns": (_call("setns"),),
    "pivot_root": (_call("pivot_root"),),
    "chroot": (_call("chroot"),),
    "module": (
        Row(
            EXTENSION,
            "2 if e.unloaded else 1",
            {"driver": "'{\"file\":' + paths[e.path or e.name] + '}'"},
        ),
    ),
    "bpf": (_call("bpf"),),
    "kernel_hook": (
        Row(
            KERNEL,
            99,
            {"kernel": '\'{"name":\' + text(e.table) + \',"type_id":99,"type":"Table"}\''},
            activity_name="Hook",
        ),
    ),
    "keyctl": (_call("keyctl"),),
    "io_uring": (_call("io_uring"),),
    "kill": (
        Row(
            PROCESS,
            99,
            {"process": "target(e.target, e.target_process)"},
            activity_name="Signal",
        ),
    ),
    "new_cgroup": (
        Row(
            KERNEL,
            1,
            {
                "kernel": "'{\"name\":' + text(e.path or '/')"
                ' + \',"type_id":99,"type":"Control Group"}\''
            },
        ),
    ),
}
"""By kind."""
