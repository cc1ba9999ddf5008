# SPDX-License-Identifier: Apache-2.0
"""Shells whose standard streams are a connection, and shells of programs that serve others."""

from __future__ import annotations

import errno
import re
import socket
import stat
from collections.abc import Iterable, Iterator
from typing import ClassVar, Final

from nodeagent.detect import Signal
from nodeagent.detect.describe import name_of
from nodeagent.detect.network import endpoint_action
from nodeagent.detect.recent import Recent
from nodeagent.detect.where import BUSYBOX, is_below, is_runtime, is_runtime_above, is_shell
from nodeagent.encode import timestamp
from nodeagent.event import (
    Accept,
    Connect,
    Dup,
    Endpoint,
    Event,
    Exec,
    OlderSocket,
    Process,
    Stream,
)

__all__ = ["Shells"]

REMOTES_LIMIT: Final = 8192
CONTAINERS_LIMIT: Final = 2048
UNDECIDED_LIMIT: Final = 256
"""Connections of one port."""
TAR: Final = "tar"
OPTIONS: Final = re.compile(r"-?[A-Za-z]+")
"""Those of tar, with or without a hyphen."""
STANDARD_STREAMS: Final = 3
PIPES: Final = (stat.S_IFIFO, stat.S_IFSOCK)
RELAY_NS: Final = 10_000_000_000
"""So soon what sends and receives comes after its shell."""
SYSTEM_USERS: Final = range(1, 100)
"""Those that each system has for its services; people come later, and users of packages."""
LOGINS: Final = frozenset({"sshd", "sshd-session", "login", "dropbear", "systemd", "agetty"})
"""Servers whose work it is to start shells."""


class Shells:
    """Remembers who accepted connections from where."""

    name = "shells"
    kinds: ClassVar[tuple[str, ...]] = ("exec", "dup", "accept", "connect", "older_socket")

    def __init__(self) -> None:
        self._incoming: Recent[Endpoint, bool] = Recent(REMOTES_LIMIT)
        """Remote ends: of a connection that was accepted, or that was made."""
        self._servers: Recent[str, str] = Recent(REMOTES_LIMIT)
        """Programs that accepted a connection, by the UUID of the process."""
        self._started: Recent[str, bool] = Recent(CONTAINERS_LIMIT)
        """Containers of which the first program was seen."""
        self._clients: Recent[str, Endpoint] = Recent(REMOTES_LIMIT)
        """Other ends of connections that a process made, by its UUID."""
        self._piped: Recent[str, Exec] = Recent(UNDECIDED_LIMIT)
        """Shells that take commands by pipes on purpose, by the UUID of what started them."""
        self._since = 0
        """When the first event came."""
        self._listened: Recent[int, bool] = Recent(REMOTES_LIMIT)
        """Ports that somebody listened on before the agent was there."""
        self._undecided: Recent[int, list[tuple[Endpoint, str, str]]] = Recent(REMOTES_LIMIT)
        """Connections from before, by their own port: the other end, process and program."""

    def inspect(self, event: Event) -> Iterable[Signal]:
        """Learn from connections, and look at programs that start."""
        self._since = self._since or event.time
        if isinstance(event, Exec):
            return self._on_exec(event)
        if isinstance(event, Dup):
            return self._on_dup(event)
        if isinstance(event, Accept):
            if event.remote is not None and event.process is not None:
                self._learn(event.remote, event.process.uuid, event.process.path)
        elif isinstance(event, Connect):
            if event.remote is not None:
                self._incoming.put(event.remote, value=False)
                return self._on_connect(event, event.remote)
        elif isinstance(event, OlderSocket):
            self._learn_older(event)
        return ()

    def _on_connect(self, event: Connect, remote: Endpoint) -> Iterator[Signal]:
        """A shell between pipes, and beside it what sends and receives."""
        process = event.process
        is_open = event.result >= 0 or event.result == -errno.EINPROGRESS
        if process is None or event.type != socket.SOCK_STREAM or not is_open:
            return
        self._clients.put(process.uuid, remote)
        shell = self._piped.get(process.lineage[0].uuid) if process.lineage else None
        if shell is not None and event.time - shell.time < RELAY_NS:
            yield self._connected(shell, remote, "relayed_shell")

    def _relay(self, event: Exec, process: Process) -> Iterator[Signal]:
        """A program with a connection that started a shell, to copy from one to the other."""
        if not process.lineage or is_below(process, LOGINS):
            return
        parent = process.lineage[0].uuid
        remote = self._clients.get(parent)
        if remote is not None:
            yield self._connected(event, remote, "relayed_shell")
        elif any(word.startswith("-") and "i" in word for word in event.argv[1:]):
            self._piped.put(parent, event)

    def _learn_older(self, event: OlderSocket) -> None:
        """A connection that is older than the agent was accepted where somebody listens."""
        if event.local is None or event.process is None or event.type != socket.SOCK_STREAM:
            return
        port = event.local.port
        if event.remote is None:
            self._listened.put(port, value=True)
            for known in self._undecided.get(port) or ():
                self._learn(*known)
            self._undecided.put(port, [])
            return
        connection = (event.remote, event.process.uuid, event.process.path)
        if self._listened.get(port):
            self._learn(*connection)
            return
        undecided = self._undecided.get(port) or []
        self._undecided.put(port, undecided)
        if len(undecided) < UNDECIDED_LIMIT:
            undecided.append(connection)

    def _learn(self, remote: Endpoint, uuid: str, path: str) -> None:
        """A process, known by its UUID and program, accepted a connection."""
        self._incoming.put(remote, value=True)
        self._servers.put(uuid, path)

    def _on_exec(self, event: Exec) -> Iterator[Signal]:
        process = event.process
        if process is None or event.result < 0:
            return
        is_first = self._is_first(process)
        if not is_shell(process, event.argv):
            if not is_first and process.container is not None and _name(event) == TAR:
                yield from _copied(event, process)
            return
        remote = next((each.remote for each in event.stdio if each.remote is not None), None)
        if remote is not None:
            yield self._connected(event, remote)
            return
        is_interactive = _is_interactive(event.argv, event.stdio)
        if is_interactive and all(each.type in PIPES for each in event.stdio[:2]):
            yield from self._relay(event, process)
        uid = process.task.uid
        if is_interactive and uid is not None and uid in SYSTEM_USERS:
            yield Signal("system_user_shell", event, key=process.user or str(uid))
        if server := self._server_above(process):
            if is_interactive:
                yield Signal("network_shell", event, key=server)
        elif process.container is not None and not is_first and _comes_from_outside(process):
            yield Signal("container_shell", event)

    def _is_first(self, process: Process) -> bool:
        """It is what the container was started for."""
        container, facts = process.container, process.facts
        if container is None or is_runtime(process) or self._started.get(container.id):
            return False
        self._started.put(container.id, value=True)
        # One that is older than the agent runs already, unless it starts anew just now.
        is_older = bool(container.created) and container.created < timestamp(self._since)
        return not is_older or (facts is not None and facts.namespace_pid == 1)

    def _on_dup(self, event: Dup) -> Iterator[Signal]:
        """A shell that runs already takes a connection as its standard stream."""
        process = event.process
        if (
            process is not None
            and event.remote is not None
            and event.new_fd in range(STANDARD_STREAMS)
            and is_shell(process, ())
            and event.result >= 0
        ):
            yield self._connected(event, event.remote)

    def _connected(self, event: Exec | Dup, remote: Endpoint, rule: str = "") -> Signal:
        incoming = self._incoming.get(remote) is True
        action, context = endpoint_action(remote, "INBOUND" if incoming else "OUTBOUND")
        rule = rule or ("bind_shell" if incoming else "reverse_shell")
        return Signal(rule, event, context, action, key=remote.address)

    def _server_above(self, process: Process) -> str:
        """The program that takes connections and started the shell, unless it is there for that."""
        if is_below(process, LOGINS - {"systemd"}) or not process.lineage:
            return ""
        return self._servers.get(process.lineage[0].uuid) or ""


def _name(event: Exec) -> str:
    """Of the program, which is what it calls itself where one file is many."""
    name = name_of(event.path)
    return name_of(event.argv[0]) if name == BUSYBOX and event.argv else name


def _copied(event: Exec, process: Process) -> Iterator[Signal]:
    """`kubectl cp`: an archive goes through the pipes of a program that is started from outside."""
    if not _comes_from_outside(process) or "-" not in event.argv:
        return
    options = "".join(word for word in event.argv[1:3] if OPTIONS.fullmatch(word))
    if "c" in options:
        yield Signal("container_copied_out", event, key="files")
    elif "x" in options:
        yield Signal("container_copied_in", event, key="files")


def _is_interactive(argv: tuple[str, ...], stdio: tuple[Stream, ...]) -> bool:
    """It waits for what somebody types, on a terminal, a pipe or a socket."""
    takes_commands = not any(word.startswith("-c") or not word.startswith("-") for word in argv[1:])
    live = (stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK)
    return takes_commands and stdio[0].type in live


def _comes_from_outside(process: Process) -> bool:
    """Its parent is a container runtime."""
    parent = process.lineage[0] if process.lineage else None
    is_copy = parent is not None and parent.of_host and parent.path.startswith("/memfd:")
    return is_copy or (parent is not None and is_runtime_above(parent))
