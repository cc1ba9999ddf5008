# SPDX-License-Identifier: Apache-2.0
"""Shells that take commands from a connection by way of pipes.

Both ends of a pipe have the same inode, and each program says at its start which pipes are
its standard input and output. So it is known where what a program receives goes on to, through
others in between; a pipe that is opened by its name later is not seen.
"""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Iterable, Iterator
from typing import ClassVar, Final

import msgspec

from nodeagent.detect import Signal
from nodeagent.detect.describe import name_of
from nodeagent.detect.network import endpoint_action
from nodeagent.detect.recent import Recent
from nodeagent.detect.where import is_shell
from nodeagent.event import Connect, Endpoint, Event, Exec, Process

__all__ = ["Pipes"]

ENDS_LIMIT: Final = 4096
SHELLS_LIMIT: Final = 512
STEPS: Final = 4
"""So many programs may be between a connection and a shell."""
INTERPRETERS: Final = re.compile(r"(?:python|perl|ruby|node|php)[\d.]*")


class _Talk(msgspec.Struct, frozen=True):
    """A connection of a program between pipes."""

    remote: Endpoint
    process: Process
    inlet: int
    """Its standard input, if that is a pipe; else 0."""
    outlet: int
    """The same for its standard output."""

    def shown(self) -> dict[str, object]:
        """As findings show it."""
        process = self.process
        return {
            "pid": process.task.pid,
            "uuid": process.uuid,
            "name": name_of(process.path),
            "executablePath": process.path,
        }


class Pipes:
    """Remembers pipes by their inodes, and what is at their ends."""

    name = "pipes"
    kinds: ClassVar[tuple[str, ...]] = ("exec", "connect")

    def __init__(self) -> None:
        self._ends: Recent[str, tuple[int, int]] = Recent(ENDS_LIMIT)
        """Standard input and output of programs, by the UUID of the process; 0: no pipe."""
        self._onward: Recent[int, int] = Recent(ENDS_LIMIT)
        """What comes out of a pipe goes into this one."""
        self._before: Recent[int, int] = Recent(ENDS_LIMIT)
        """The other way round."""
        self._filled: Recent[int, _Talk] = Recent(ENDS_LIMIT)
        """What goes into a pipe comes from a connection."""
        self._emptied: Recent[int, _Talk] = Recent(ENDS_LIMIT)
        """What comes out of a pipe goes to a connection."""
        self._shells: Recent[int, Exec] = Recent(SHELLS_LIMIT)
        """That read commands from a pipe, or write into one."""
        self._told: Recent[tuple[str, str], bool] = Recent(SHELLS_LIMIT)
        """Rules by the UUID of a shell."""

    def inspect(self, event: Event) -> Iterable[Signal]:
        """A program between pipes starts, or connects to somewhere."""
        process = event.process
        if process is None:
            return ()
        if isinstance(event, Exec):
            return self._on_exec(event, process) if event.result >= 0 else ()
        if isinstance(event, Connect) and event.remote is not None:
            return self._on_connect(event, process, event.remote)
        return ()

    def _on_exec(self, event: Exec, process: Process) -> Iterable[Signal]:
        stdin, stdout, _ = event.stdio
        ends = inlet, outlet = stdin.inode, stdout.inode
        if not inlet and not outlet:
            if self._ends.get(process.uuid):
                self._ends.put(process.uuid, ends)
            return ()
        if _takes_commands(event, process):
            for pipe in filter(None, ends):
                self._shells.put(pipe, event)
            return self._judge(event, process)
        self._ends.put(process.uuid, ends)
        if inlet and outlet:
            self._onward.put(inlet, outlet)
            self._before.put(outlet, inlet)
        remote = next((each.remote for each in event.stdio if each.remote is not None), None)
        if remote is not None:
            return self._learn(_Talk(remote, process, inlet, outlet))
        # It may stand between what is known already.
        source, sink = self._filled.get(inlet), self._emptied.get(outlet)
        return [
            signal for talk in (source, sink) if talk is not None for signal in self._learn(talk)
        ]

    def _on_connect(self, event: Connect, process: Process, remote: Endpoint) -> Iterable[Signal]:
        ends = self._ends.get(process.uuid)
        is_open = event.result >= 0 or event.result == -errno.EINPROGRESS
        if ends is None or ends == (0, 0) or not is_open or event.type != socket.SOCK_STREAM:
            return ()
        return self._learn(_Talk(remote, process, *ends))

    def _learn(self, talk: _Talk) -> Iterator[Signal]:
        """Follow the pipes of a program with a connection to shells, and look at these."""
        pipes = []
        for pipe in _follow(talk.outlet, self._onward):
            self._filled.put(pipe, talk)
            pipes.append(pipe)
        for pipe in _follow(talk.inlet, self._before):
            self._emptied.put(pipe, talk)
            pipes.append(pipe)
        for pipe in pipes:
            shell = self._shells.get(pipe)
            if shell is not None and shell.process is not None:
                yield from self._judge(shell, shell.process)

    def _judge(self, shell: Exec, process: Process) -> Iterator[Signal]:
        inlet, outlet = shell.stdio[0].inode, shell.stdio[1].inode
        source = self._filled.get(inlet) if inlet else None
        sink = self._emptied.get(outlet) if outlet else None
        if source is not None and sink is not None:
            rule, talk = "piped_shell", source
        elif source is not None:
            rule, talk = "piped_commands", source
        elif sink is not None and inlet and sink.outlet:
            # Its answers go there; what comes from there goes into a pipe that has a name.
            rule, talk = "relayed_shell", sink
        else:
            return
        if self._told.get((process.uuid, rule)):
            return
        self._told.put((process.uuid, rule), value=True)
        action, context = endpoint_action(talk.remote, "OUTBOUND")
        context["connectedProcess"] = talk.shown()
        context["pipes"] = [pipe for pipe in (inlet, outlet) if pipe]
        yield Signal(rule, shell, context, action, key=talk.remote.address)


def _follow(pipe: int, links: Recent[int, int]) -> Iterator[int]:
    """A pipe and those behind it."""
    for _ in range(STEPS):
        if not pipe:
            return
        yield pipe
        pipe = links.get(pipe) or 0


def _takes_commands(event: Exec, process: Process) -> bool:
    """It runs what it reads from its standard input."""
    if is_shell(process, event.argv):
        return not event.script_name and not any(map(_has_code, event.argv[1:]))
    others = event.argv[1:]
    is_interpreter = INTERPRETERS.fullmatch(name_of(process.path)) is not None
    return is_interpreter and all(word == "-" for word in others)


def _has_code(word: str) -> bool:
    """An option of a shell whose value is the code."""
    return word[:1] == "-" and word[:2] != "--" and "c" in word
