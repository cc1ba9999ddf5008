# SPDX-License-Identifier: Apache-2.0
"""Which pod or container causes the work: counted only while somebody looks."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from nodeagent.event import Container, Event

__all__ = ["PodCounts"]

LOOK_SECONDS: Final = 600.0
"""After a question it is counted for so long."""
CONTAINERS_LIMIT: Final = 4096
"""More of them are counted together with the host."""
SHORT_ID: Final = 12
"""Of a container that has no name, as the runtimes show it."""

_Where = tuple[str, str, str]
"""Namespace, pod, container; all empty for what runs in none."""
HOST: Final[_Where] = ("", "", "")


class PodCounts:
    """Events by pod and container."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing is counted until somebody asks; `clock` is in seconds."""
        self._clock = clock
        self._until = 0.0
        self._counts: dict[_Where, int] = {}

    def count(self, events: Sequence[Event]) -> None:
        """Take what goes on to the sinks."""
        if not self._until:
            return
        if self._clock() > self._until:
            self._until = 0.0
            self._counts.clear()
            return
        counts = self._counts
        for event in events:
            container = event.process.container if event.process is not None else None
            where = _where(container) if container is not None else HOST
            if where not in counts and len(counts) >= CONTAINERS_LIMIT:
                where = HOST
            counts[where] = counts.get(where, 0) + 1

    def report(self) -> dict[str, object]:
        """What was counted since the first look, and the CPU of this process so far."""
        self._until = self._clock() + LOOK_SECONDS
        return {
            "time": time.time(),
            "cpu_seconds": time.process_time(),
            "pods": [
                {"namespace": namespace, "pod": pod, "container": container, "events": events}
                for (namespace, pod, container), events in self._counts.items()
            ],
        }


def _where(container: Container) -> _Where:
    name = container.name or container.id[:SHORT_ID]
    pod = container.pod
    return (pod.namespace, pod.name, name) if pod is not None else ("", "", name)
