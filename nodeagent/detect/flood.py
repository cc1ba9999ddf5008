# SPDX-License-Identifier: Apache-2.0
"""Who makes so many events that the agent leaves some out.

Nothing is counted until `agent.level` says that the agent sheds events of whoever makes most of
them. What is shown then is still mostly of those, since others stay below their share.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from nodeagent.detect import Signal
from nodeagent.event import AgentEvent, Event, Process

__all__ = ["Flood"]

SHEDDING: Final = 2
"""Level of the governor from which on events are left out."""
STEP: Final = 8
"""Of so many events in a row one is looked at."""
ENOUGH: Final = 64
"""Looked at, before anybody is named."""
LONGEST_NS: Final = 10_000_000_000
"""Fewer in this time are no flood: the agent sheds for another reason, like a lack of memory."""
SHARE: Final = 0.5
"""Part of all events that a cgroup must make; less is a busy node."""
PAUSE_NS: Final = 600_000_000_000
"""Nobody is named sooner than this after somebody was, however often the level changes."""
PROGRAMS_LIMIT: Final = 1024
"""More programs in their cgroups only count as others."""

_Who = tuple[int, str]
"""A cgroup and a program in it."""


class Flood:
    """Counts by cgroup and program while the agent sheds."""

    def __init__(self) -> None:
        self.is_counting = False
        """Only then it has to be shown events."""
        self._events: Counter[_Who] = Counter()
        self._last: dict[_Who, Event] = {}
        self._since = 0
        self._named_at = -PAUSE_NS

    def hear(self, said: AgentEvent) -> None:
        """What the agent says about itself."""
        if said.kind != "agent.level":
            return
        level = said.details.get("level")
        is_shedding = isinstance(level, int) and level >= SHEDDING
        if not is_shedding or not self.is_counting:
            self._begin()
        self.is_counting = is_shedding

    def count(self, events: Sequence[Event]) -> Signal | None:
        """Take a batch; the signal when it is clear who makes most."""
        for event in events[::STEP]:
            process = event.process
            if process is None:
                continue
            who = process.task.cgroup, process.path
            if who in self._last or len(self._last) < PROGRAMS_LIMIT:
                self._last[who] = event
            self._events[who if who in self._last else (0, "")] += 1
        if not events:
            return None
        now = events[-1].time
        self._since = self._since or now
        if self._events.total() >= ENOUGH:
            signal = self._judge() if now - self._named_at >= PAUSE_NS else None
            if signal is not None:
                self._named_at = now
                self.is_counting = False
            self._begin()
            return signal
        if now - self._since > LONGEST_NS:
            self._begin()
        return None

    def _begin(self) -> None:
        self._events.clear()
        self._last.clear()
        self._since = 0

    def _judge(self) -> Signal | None:
        """The program that makes most in the cgroup that makes most, where that is clear."""
        cgroups: Counter[int] = Counter()
        for (cgroup, _), count in self._events.items():
            cgroups[cgroup] += count
        ((cgroup, most),) = cgroups.most_common(1)
        total = self._events.total()
        inside = [who for who in self._last if who[0] == cgroup]
        if most < total * SHARE or not inside:
            return None
        who = max(inside, key=lambda each: self._events[each])
        event = self._last[who]
        context: dict[str, object] = {
            "cgroupId": cgroup,
            "cgroupShare": round(most / total, 2),
            "programShare": round(self._events[who] / total, 2),
        }
        return Signal("agent_flooded", event, context, key=_place(event.process, cgroup))


def _place(process: Process | None, cgroup: int) -> str:
    container = process.container if process is not None else None
    if container is None:
        return f"cgroup {cgroup}"
    pod = f"{container.pod.namespace}/{container.pod.name}/" if container.pod else ""
    return f"container {pod}{container.name or container.id}"
