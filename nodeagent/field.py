# SPDX-License-Identifier: Apache-2.0
"""What a field of an event means: how its bytes are read and how its value is shown.

A class in event.py annotates each field with one of these markers.
kernel/wire.py turns them into code that reads a record, encode.py into code that
writes JSON, schema.py into JSON Schema. Without a marker a field is a plain integer.
"""

from __future__ import annotations

import os
import platform
import signal
import socket
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

UNKNOWN_ID: Final = 0xFFFFFFFF
"""What the kernel writes for a user or group id that is not set."""


@dataclass(frozen=True)
class At:
    """The field of the C record, where it has another name or lies in a nested struct."""

    path: str


@dataclass(frozen=True)
class Hidden:
    """A number that is not shown."""


@dataclass(frozen=True)
class Text:
    """`struct text`: one string; empty when there is none."""


@dataclass(frozen=True)
class Path:
    """`struct path_text`: an absolute path; empty when there is none."""


@dataclass(frozen=True)
class Strings:
    """`struct strings`: a list of strings."""


@dataclass(frozen=True)
class Variables:
    """`struct strings` of the form NAME=value: a mapping."""


@dataclass(frozen=True)
class Address:
    """`struct endpoint`: an Internet address and port, or None."""


@dataclass(frozen=True)
class Comm:
    """`char[16]`: a name that ends at the first NUL."""


@dataclass(frozen=True)
class Shared:
    """A struct, or a tuple of them, whose values repeat: each is read and shown once."""


@dataclass(frozen=True)
class Yes:
    """An integer that is 0 or not."""


@dataclass(frozen=True)
class Id:
    """A user or group id, None when not set."""


@dataclass(frozen=True)
class Device:
    """The kernel's dev_t, shown as major:minor."""


@dataclass(frozen=True)
class Octal:
    """Permission bits, shown in octal."""


@dataclass(frozen=True, eq=False)
class Bits:
    """A set of flags, shown as a list of names."""

    names: Mapping[int, str]
    unknown: int | None = None
    """This value means that the flags are not known; shown as null."""
    access: tuple[str, ...] = ()
    """Names of the values of the two lowest bits, which are a number and no flags."""
    silent: int = 0
    """Bits that say nothing and are not shown."""

    def show(self, value: int) -> list[str] | None:
        """The names of the bits of `value`; bits without a name as one hexadecimal number."""
        if value == self.unknown:
            return None
        shown = [self.access[value & 3]] if self.access else []
        rest = value & ~self.silent & (~3 if self.access else ~0)
        # A name may stand for several bits, so the widest go first.
        for bits, name in sorted(self.names.items(), key=lambda item: -item[0].bit_count()):
            if rest & bits == bits:
                shown.append(name)
                rest &= ~bits
        if rest:
            shown.append(hex(rest))
        return shown


@dataclass(frozen=True, eq=False)
class Choice:
    """One of a list of names; a value without a name is shown as its number."""

    names: Mapping[int, str]

    def show(self, value: int) -> str | int:
        """The name of `value`."""
        return self.names.get(value, value)


Marker = (
    Hidden
    | Text
    | Path
    | Strings
    | Variables
    | Address
    | Comm
    | Shared
    | Yes
    | Id
    | Device
    | Octal
    | Bits
    | Choice
)


def _named(module: object, *names: str) -> dict[int, str]:
    return {int(getattr(module, name)): name for name in names}


OPEN_FLAGS: Final = Bits(
    _named(
        os,
        *("O_CREAT", "O_EXCL", "O_NOCTTY", "O_TRUNC", "O_APPEND", "O_NONBLOCK", "O_DSYNC"),
        *("O_ASYNC", "O_DIRECT", "O_DIRECTORY", "O_NOFOLLOW", "O_NOATIME", "O_CLOEXEC"),
        *("O_SYNC", "O_PATH", "O_TMPFILE"),
    ),
    access=("O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE"),
    # O_LARGEFILE, which the kernel adds to every open of a 64-bit process.
    silent=0o100000 if platform.machine() == "x86_64" else 0o400000,
)
"""Flags of open(2). Their values differ between architectures, as in the `os` module."""

CLONE_FLAGS: Final = Bits(
    {
        0x00000080: "CLONE_NEWTIME",
        0x00000100: "CLONE_VM",
        0x00000200: "CLONE_FS",
        0x00000400: "CLONE_FILES",
        0x00000800: "CLONE_SIGHAND",
        0x00001000: "CLONE_PIDFD",
        0x00002000: "CLONE_PTRACE",
        0x00004000: "CLONE_VFORK",
        0x00008000: "CLONE_PARENT",
        0x00010000: "CLONE_THREAD",
        0x00020000: "CLONE_NEWNS",
        0x00040000: "CLONE_SYSVSEM",
        0x00080000: "CLONE_SETTLS",
        0x00100000: "CLONE_PARENT_SETTID",
        0x00200000: "CLONE_CHILD_CLEARTID",
        0x00400000: "CLONE_DETACHED",
        0x00800000: "CLONE_UNTRACED",
        0x01000000: "CLONE_CHILD_SETTID",
        0x02000000: "CLONE_NEWCGROUP",
        0x04000000: "CLONE_NEWUTS",
        0x08000000: "CLONE_NEWIPC",
        0x10000000: "CLONE_NEWUSER",
        0x20000000: "CLONE_NEWPID",
        0x40000000: "CLONE_NEWNET",
        0x80000000: "CLONE_IO",
        0x100000000: "CLONE_CLEAR_SIGHAND",
        0x200000000: "CLONE_INTO_CGROUP",
    },
    unknown=0xFFFFFFFFFFFFFFFF,
)
"""Flags of clone(2) and clone3(2), from include/uapi/linux/sched.h."""

FAMILIES: Final = Choice({int(family): family.name for family in socket.AddressFamily})
"""Address families of socket(2)."""

SOCKET_TYPES: Final = Choice(
    _named(socket, "SOCK_STREAM", "SOCK_DGRAM", "SOCK_RAW", "SOCK_RDM", "SOCK_SEQPACKET")
)
"""Socket types of socket(2)."""

PROTOCOLS: Final = Choice(
    {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6", 132: "sctp", 136: "udplite", 262: "mptcp"}
)
"""Names of the IANA protocol numbers that sockets commonly have, as in /etc/protocols."""

FILE_TYPES: Final = Choice(
    {
        0: "closed",
        stat.S_IFIFO: "pipe",
        stat.S_IFCHR: "character device",
        stat.S_IFDIR: "directory",
        stat.S_IFBLK: "block device",
        stat.S_IFREG: "file",
        stat.S_IFLNK: "symbolic link",
        stat.S_IFSOCK: "socket",
    }
)
"""What a descriptor refers to, by the type bits of stat(2)."""

SIGNALS: Final = Choice({0: "", **{int(number): number.name for number in signal.Signals}})
"""Names of signals; empty for none."""
