# SPDX-License-Identifier: Apache-2.0
"""Which container a cgroup is, and the events that wait until that is known.

The table never asks anybody itself: it lists the cgroups that it does not know, and is told
by items of the stream, so that a replay does the same at the same places.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from nodeagent.encode import container_json
from nodeagent.event import Container, Event, Process

__all__ = ["COMPLETE", "TIMEOUT", "UNKNOWN", "ContainerTable"]

COMPLETE: Final = "complete"
TIMEOUT: Final = "timeout"
UNKNOWN: Final = "unknown"

NO_CGROUP: Final = 0
"""Of what no process did, like a packet to a socket that nobody has used yet."""
CGROUPS_LIMIT: Final = 16384
"""Cgroups that are remembered; the one that was told first is forgotten first."""

Rewrite = Callable[[Process, str], None]
"""Puts the JSON of its container into a process."""


class _Cgroup(msgspec.Struct, gc=False):
    """What is known of one."""

    container: Container | None = None
    json: str = ""
    is_told: bool = False
    events: list[Event] = []
    """That wait for the first answer."""


class ContainerTable:
    """Sets `Process.container`, and holds events back, in order, for the cgroups it waits for."""

    def __init__(
        self, processes: Callable[[], Iterable[Process]], rewrite: Rewrite, waiting_events: int
    ) -> None:
        """`processes` are those that later events may show; a later answer completes them.

        At most `waiting_events` of one cgroup are held; 0: none.
        """
        self._processes = processes
        self._rewrite = rewrite
        self._waiting_events = waiting_events
        self._cgroups: dict[int, _Cgroup] = {NO_CGROUP: _Cgroup(is_told=True)}
        self._waiting: dict[int, _Cgroup] = {}
        self._unknown: list[tuple[int, str | None]] = []
        self._paths: dict[int, str] = {}
        """Of cgroups that were made while we looked."""
        self.timeouts = 0
        """Events that went on without an answer."""

    @property
    def waiting(self) -> int:
        """Events that are held back."""
        return sum(len(cgroup.events) for cgroup in self._waiting.values())

    def learn_path(self, number: int, path: str) -> None:
        """Take the path of a new cgroup."""
        if len(self._paths) >= CGROUPS_LIMIT:
            del self._paths[next(iter(self._paths))]
        self._paths[number] = path

    def take_unknown(self) -> list[tuple[int, str | None]]:
        """The cgroups that nobody has told of, each only once, with the path where it is known."""
        unknown, self._unknown = self._unknown, []
        return unknown

    def describe(self, process: Process) -> str:
        """Set the container of a new process; returns it as JSON."""
        number = process.task.cgroup
        cgroup = self._cgroups.get(number)
        if cgroup is None:
            cgroup = self._add(number, _Cgroup())
            self._waiting[number] = cgroup
            self._unknown.append((number, self._paths.pop(number, None)))
        process.container = cgroup.container
        return cgroup.json

    def hold(self, events: Sequence[Event]) -> list[Event]:
        """The events that need not wait, with those whose turn has come by their number."""
        if not self._waiting:
            return list(events)
        free = []
        for event in events:
            process = event.process
            cgroup = self._waiting.get(process.task.cgroup) if process is not None else None
            if cgroup is None:
                free.append(event)
                continue
            cgroup.events.append(event)
            if len(cgroup.events) > self._waiting_events:
                free += self._release(event.process.task.cgroup)  # type: ignore[union-attr]
        return free

    def tell(self, number: int, container: Container | None) -> list[Event]:
        """Take an answer; returns the events that waited for it."""
        cgroup = self._cgroups.get(number)
        if cgroup is None:
            cgroup = self._add(number, _Cgroup())
        cgroup.container = container
        cgroup.json = container_json(container)
        cgroup.is_told = True
        self._complete(self._processes(), number, cgroup)
        self._complete((event.process for event in cgroup.events), number, cgroup)
        if container is not None and container.enrichment == TIMEOUT:
            self.timeouts += len(cgroup.events)
        return self._release(number)

    def _complete(self, processes: Iterable[Process | None], number: int, cgroup: _Cgroup) -> None:
        for process in processes:
            if process is None or process.task.cgroup != number:
                continue
            if process.container is not cgroup.container:
                process.container = cgroup.container
                self._rewrite(process, cgroup.json)

    def release_all(self) -> list[Event]:
        """At the end: the events that still wait, as they are."""
        numbers = list(self._waiting)
        return [event for number in numbers for event in self._release(number)]

    def _release(self, number: int) -> list[Event]:
        cgroup = self._waiting.pop(number, None)
        if cgroup is None:
            return []
        if not cgroup.is_told:
            self.timeouts += len(cgroup.events)
        events, cgroup.events = cgroup.events, []
        return events

    def _add(self, number: int, cgroup: _Cgroup) -> _Cgroup:
        if len(self._cgroups) >= CGROUPS_LIMIT:
            oldest = next(iter(each for each in self._cgroups if each not in self._waiting), None)
            if oldest is not None:
                del self._cgroups[oldest]
        self._cgroups[number] = cgroup
        return cgroup
