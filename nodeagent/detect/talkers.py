# SPDX-License-Identifier: Apache-2.0
"""Programs that have no business with a network, and have a connection."""

from __future__ import annotations

import socket
import stat
from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from typing import ClassVar, Final

import msgspec

from nodeagent.detect import Signal
from nodeagent.detect.describe import name_of, unversioned
from nodeagent.detect.network import connection_action
from nodeagent.detect.recent import Recent
from nodeagent.detect.where import SHELLS
from nodeagent.event import Bind, Contact, Endpoint, Event, Exec, Listen, Process

__all__ = ["Talkers"]

SILENT: Final = frozenset(
    f"{folder}/{name}"
    for folder in ("/bin", "/usr/bin")
    for name in (
        *("cat", "tac", "head", "tail", "cut", "paste", "tr", "tee", "sort", "uniq", "comm", "wc"),
        *("nl", "od", "fold", "fmt", "expand", "unexpand", "split", "csplit", "shuf", "seq", "rev"),
        *("base32", "base64", "basenc", "cksum", "sum", "md5sum", "sha1sum", "sha224sum"),
        *("sha256sum", "sha384sum", "sha512sum", "b2sum", "true", "false", "echo", "printf", "yes"),
        *("sleep", "cp", "mv", "rm", "ln", "mkdir", "rmdir", "touch", "truncate", "dd", "sync"),
        *("mktemp", "readlink", "realpath", "basename", "dirname", "pwd", "expr", "factor"),
        *(
            "numfmt",
            "uname",
            "nproc",
            "tty",
            "date",
            "grep",
            "egrep",
            "fgrep",
            "sed",
            "cmp",
            "diff",
        ),
        *("gzip", "bzip2", "xz", "zstd", "xxd", "hexdump"),
    )
)
"""Programs that read, change and write data, and never ask about users, groups or machines.

Whatever does that (ls, id, find, tar, chown, ps) may speak to a directory of users by libraries of
the system. awk is left out, since that of GNU has a network, as is busybox, which has everything.
"""
INTERNET: Final = frozenset({socket.AF_INET, socket.AF_INET6})
DNS_PORT: Final = 53
TALKING_LIMIT: Final = 4096
FROM_INPUT: Final = (stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK)
"""Where code comes from that nobody types."""
INPUT_NAMES: Final = ("-", "/dev/stdin", "/dev/fd/", "/proc/self/fd/")
"""What stands in the place of a file, and is none."""


class _Options(msgspec.Struct, frozen=True):
    """What an interpreter takes, by letters of its options."""

    code: str
    """What follows is code."""
    next: str = ""
    """They take the rest of the word, or the next one."""
    rest: str = ""
    """They take the rest of the word."""
    ends: str = ""
    """They name what it runs."""
    long: frozenset[str] = frozenset()
    """Long options for code."""


NODE: Final = _Options("ep", next="rC", long=frozenset({"--eval", "--print"}))
INTERPRETERS: Final = {
    "python": _Options("c", next="WX", ends="m"),
    "pypy": _Options("c", next="WX", ends="m"),
    "perl": _Options("eE", next="I", rest="MmiFCDxV"),
    "ruby": _Options("e", next="IrCE", rest="FixKTW"),
    "node": NODE,
    "nodejs": NODE,
    "php": _Options("rBRE", next="cdgz", ends="fFSta", long=frozenset({"--run"})),
    "lua": _Options("e", next="l"),
}
"""By name, without a version."""


class Talkers:
    """Remembers which interpreters run code that is in no file."""

    name = "talkers"
    kinds: ClassVar[tuple[str, ...]] = ("exec", "connect", "sendto", "listen", "bind")

    def __init__(self) -> None:
        self._fileless: Recent[str, bool] = Recent(TALKING_LIMIT)
        """Interpreters by UUID of the process: whether that is so, and was not told yet."""

    def inspect(self, event: Event) -> Iterable[Signal]:
        """Learn what interpreters run, and look at sockets."""
        process = event.process
        if process is None:
            return ()
        if isinstance(event, Exec):
            self._learn(event, process)
            return ()
        if not isinstance(event, Contact | Listen | Bind) or event.family not in INTERNET:
            return ()
        path = process.path
        if path in SILENT:
            return _on_silent(event)
        if isinstance(event, Bind):
            return ()
        name = name_of(path)
        if name in SHELLS:
            return _on_shell(event)
        if unversioned(name) in INTERPRETERS:
            return self._on_interpreter(event, process)
        return ()

    def _learn(self, event: Exec, process: Process) -> None:
        options = INTERPRETERS.get(unversioned(name_of(event.path)))
        if options is not None and event.result >= 0:
            self._fileless.put(process.uuid, _is_fileless(event, options))

    def _on_interpreter(self, event: Contact | Listen, process: Process) -> Iterator[Signal]:
        """Once for each process: it may do so all the time."""
        told = self._fileless.get(process.uuid)
        if told is None and process.lineage and process.lineage[0].path == process.path:
            # What it forked runs the same code.
            told = self._fileless.get(process.lineage[0].uuid)
        if not told or (end := _outer_end(event)) is None:
            return
        self._fileless.put(process.uuid, value=False)
        yield _signal("fileless_code_talks", event, end)


def _on_silent(event: Contact | Listen | Bind) -> Iterator[Signal]:
    """Not even with its own machine; a name that is asked for leads to nothing yet."""
    end = event.remote if isinstance(event, Contact) else event.local
    is_packets = event.type == socket.SOCK_DGRAM
    if end is None or (isinstance(event, Bind) and not is_packets):
        return
    if not (is_packets and end.port == DNS_PORT):
        yield _signal("silent_program_talks", event, end)


def _on_shell(event: Contact | Listen) -> Iterator[Signal]:
    """By a redirection to /dev/tcp or /dev/udp, or a module."""
    if end := _outer_end(event):
        yield _signal("shell_talks", event, end)


def _outer_end(event: Contact | Listen) -> Endpoint | None:
    """What it is connected to or waits at, unless only its own machine is there."""
    end = event.remote if isinstance(event, Contact) else event.local
    if end is None or ip_address(end.address).is_loopback:
        return None
    is_name = event.type == socket.SOCK_DGRAM and end.port == DNS_PORT
    return None if is_name else end


def _signal(rule: str, event: Contact | Listen | Bind, end: Endpoint) -> Signal:
    if isinstance(event, Contact):
        key = f"port {end.port} of {end.address}"
        return Signal(rule, event, {}, connection_action(event, end), key=key)
    return Signal(rule, event, key=f"port {end.port}")


def _is_fileless(event: Exec, options: _Options) -> bool:
    """The code is in its arguments, or comes by its standard input."""
    words = iter(event.argv[1:])
    for word in words:
        if word.partition("=")[0] in options.long:
            return True
        if word in {"--", "-"} or not word.startswith("-"):
            return (next(words, "-") if word == "--" else word).startswith(INPUT_NAMES)
        if word.startswith("--"):
            continue
        for at, letter in enumerate(word[1:], 2):
            if letter in options.code:
                return True
            if letter in options.ends:
                return False
            if letter in options.next and at == len(word):
                next(words, None)
            if letter in options.next + options.rest:
                break
    return event.stdio[0].type in FROM_INPUT
