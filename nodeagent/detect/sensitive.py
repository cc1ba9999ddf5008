# SPDX-License-Identifier: Apache-2.0
"""Files that decide who may do what, that hold secrets, or that tell what happened."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, Final

from nodeagent.detect import Signal
from nodeagent.detect.describe import name_of
from nodeagent.detect.guards import (
    CHANGES,
    DELETE,
    GUARDED,
    GUARDS,
    LINK,
    READ,
    RENAME,
    SYMLINK,
    WRITE,
    Guard,
)
from nodeagent.detect.recent import Recent
from nodeagent.detect.where import (
    PACKAGE_MANAGERS,
    SHELLS,
    WEB_SERVERS,
    is_below,
    is_below_host,
    is_contained,
    is_runtime,
    is_system_path,
    program_of,
)
from nodeagent.event import Ancestor, Event, Link, Network, Open, Process, Rename, Symlink, Unlink

__all__ = ["Sensitive"]

WRITING: Final = os.O_WRONLY | os.O_RDWR
PATHS_LIMIT: Final = 8192
RELATED_LIMIT: Final = 25
PROCESSES_LIMIT: Final = 1024

INTERNET: Final = frozenset({socket.AF_INET, socket.AF_INET6})
SCRIPTS: Final = frozenset(
    [
        "php",
        "php5",
        "php7",
        "phtml",
        "phar",
        "jsp",
        "jspx",
        "asp",
        "aspx",
        "sh",
        "pl",
        "cgi",
        "so",
        "elf",
    ]
)
"""By the end of the name."""


class Sensitive:
    """Finds out once for each path what guards it."""

    name = "sensitive"
    kinds: ClassVar[tuple[str, ...]] = (
        *("open", "rename", "link", "symlink", "unlink"),
        *("listen", "older_socket"),
    )

    def __init__(self) -> None:
        self._guarding: Recent[str, tuple[Guard, ...]] = Recent(PATHS_LIMIT)
        self._related: Recent[str, list[str]] = Recent(PROCESSES_LIMIT)
        """What else a process changed, by its UUID."""
        self._serving: Recent[tuple[str, int], bool] = Recent(PROCESSES_LIMIT)
        """Programs that wait for connections, by UUID and `exec_id`."""
        self._takes: Mapping[type[Event], Callable[[Any], Iterable[tuple[str, str]]]] = {
            Open: _opened,
            Rename: lambda event: ((event.path, RENAME), (event.new_path, RENAME)),
            Link: lambda event: ((event.path, LINK), (event.target, "Target")),
            Symlink: lambda event: ((event.path, SYMLINK), (_target_of(event), "Target")),
            Unlink: lambda event: ((event.path, DELETE),),
        }

    def wants_path(self, path: str) -> bool:
        """What is guarded, and what a server of the web might write."""
        return _is_script(path) or bool(self._guards_of(path))

    def inspect(self, event: Event) -> Iterable[Signal]:
        """What is done to a file with this name."""
        if isinstance(event, Network):
            self._learn(event)
            return ()
        signals: list[Signal] = []
        for path, operation in self._takes[type(event)](event):
            guards = self._guards_of(path)
            if guards and event.process is not None:
                signals += self._judge(event, event.process, path, operation, guards)
            elif operation == WRITE and event.process is not None and _is_script(path):
                signals += _by_web_server(event, event.process, path)
        return signals

    def _learn(self, event: Network) -> None:
        """Whoever waits for connections has started."""
        if event.family in INTERNET and event.remote is None and event.process is not None:
            self._serving.put((event.process.uuid, event.process.task.exec_id), value=True)

    def _is_serving(self, process: Process) -> bool:
        """The start of a server is over; what it needed then it has read."""
        return self._serving.get((process.uuid, process.task.exec_id)) is True

    def _guards_of(self, path: str) -> tuple[Guard, ...]:
        guards = self._guarding.get(path)
        if guards is None:
            guards = ()
            if GUARDED.fullmatch(path):
                guards = tuple(each for each in GUARDS if each.paths.fullmatch(path))
            self._guarding.put(path, guards)
        return guards

    def _judge(
        self,
        event: Event,
        process: Process,
        path: str,
        operation: str,
        guards: tuple[Guard, ...],
    ) -> Iterator[Signal]:
        if is_runtime(process) or is_below_host(process, PACKAGE_MANAGERS):
            return
        is_packaged = operation in CHANGES and is_below(process, PACKAGE_MANAGERS)
        for guard in guards:
            if guard.of_host and is_contained(process):
                continue
            if not _is_guarded(guard, event, operation):
                continue
            is_late = False
            if _is_expected(guard, process):
                is_late = guard.only_at_start and self._is_serving(process)
                if not is_late:
                    continue
            if _is_usual(guard, event, process, path):
                continue
            context: dict[str, object] = {"filePath": path, "fileOperation": operation}
            if related := self._relate(process, path):
                context["relatedFilePaths"] = related
            if guard.rule == "sensitive_evasion" and "history" in path:
                context["shellHistoryFilePath"] = path
            rule = "packaged_change" if is_packaged else guard.rule
            if is_late:
                rule = "sensitive_read_late"
            yield Signal(rule, event, context, key=path)

    def _relate(self, process: Process, path: str) -> list[str]:
        """The other sensitive files that this process has touched."""
        known = self._related.get(process.uuid) or []
        others = [each for each in known if each != path]
        self._related.put(process.uuid, [*others, path][-RELATED_LIMIT:])
        return others


def _is_own(process: Process, path: str) -> bool:
    """It is about the process itself, or what it has started from."""
    pid = path.split("/")[2]
    own = process.facts.namespace_pid if process.facts is not None else process.task.pid
    return pid in (str(process.task.pid), str(own))


def _is_guarded(guard: Guard, event: Event, operation: str) -> bool:
    truncated = operation == WRITE and _truncates(event)
    wanted = operation in guard.operations or (truncated and DELETE in guard.operations)
    return wanted and not (guard.only_new and isinstance(event, Open) and not event.created)


def _is_expected(guard: Guard, process: Process) -> bool:
    """It is one of the programs of this system that have to do with such files."""
    program = program_of(process)
    if not is_system_path(program):
        return False
    return name_of(program) in guard.expected or program in guard.expected


def _is_usual(guard: Guard, event: Event, process: Process, path: str) -> bool:
    """Whoever does it, it is done so all day."""
    if guard.script and _is_of_script(process, guard.script):
        return True
    if guard.rule == "environment_read":
        return _is_own(process, path)
    if guard.rule == "token_read":
        # What a container was started for has a token to use it.
        return process.facts is not None and process.facts.namespace_pid == 1
    # A shell that ends writes its history anew.
    is_emptied = WRITE not in guard.operations and _truncates(event)
    return is_emptied and name_of(process.path) in SHELLS and "history" in path


def _is_of_script(process: Process, script: str) -> bool:
    """It was started on the host by a script that only root can change."""
    above: tuple[Process | Ancestor, ...] = (process, *process.lineage)
    return any(
        each.of_host and each.script == script and is_system_path(each.path) for each in above
    )


def _is_script(path: str) -> bool:
    return path.rpartition(".")[2] in SCRIPTS


def _opened(event: Open) -> Iterable[tuple[str, str]]:
    if event.flags & WRITING:
        return ((event.path or event.argument, WRITE),)
    return ((event.path or event.argument, READ),)


def _target_of(event: Symlink) -> str:
    """Where the link leads: what it says counts from its own folder."""
    target = event.target
    if not target.startswith("/"):
        target = f"{event.path.rpartition('/')[0]}/{target}" if event.path[:1] == "/" else ""
    # Two slashes at the start would be kept as they are.
    return os.path.normpath(f"/{target.lstrip('/')}")


def _truncates(event: Event) -> bool:
    return isinstance(event, Open) and bool(event.flags & os.O_TRUNC) and not event.created


def _by_web_server(event: Event, process: Process, path: str) -> Iterator[Signal]:
    if name_of(process.path) in WEB_SERVERS and isinstance(event, Open) and event.created:
        yield Signal(
            "sensitive_persistence", event, {"filePath": path, "fileOperation": WRITE}, key=path
        )
