# SPDX-License-Identifier: Apache-2.0
"""Keeps the agent within its budget by shedding work in the kernel, a step at a time.

Level 0 shows everything. At level 1 opens that repeat are counted instead of shown, where
that is not so anyhow. At level 2 each cgroup may show only so many events a second of each
kind, so that a noisy pod takes nothing from a quiet one. At level 3 only what is rare and
precious is shown. What is precious is never shed.
"""

from __future__ import annotations

from collections import deque
from enum import IntEnum
from typing import Final

import msgspec

__all__ = ["Budget", "Governor", "Level", "Reading", "Step"]

WINDOW_SECONDS: Final = 1.0
"""CPU is looked at over this long."""
SHORT_SECONDS: Final = 0.5
FAR_BEYOND: Final = 3.0
"""So many times the budget is enough reason after a shorter time."""
BACKLOG: Final = 4.0
"""What an event costs in all, at most, as a multiple of what it costs before it is delivered."""
BACKLOG_SECONDS: Final = 10.0
"""What was let through before is delivered after this long."""
AIM: Final = 0.9
"""Part of the budget that limits aim at."""
LEAST_RATE: Final = 1.0
"""Events a second of a kind in a cgroup; when that is too much, the kind is shed."""
HIGHEST_RATE: Final = 1_000_000.0
"""A limit that nothing reaches."""
DROP: Final = 0.25
RISE: Final = 1.3
"""At most so much a limit is lowered or raised at once."""
CALM: Final = 0.7
"""Part of the budget below which it is time to show more."""
QUIET_SECONDS: Final = 2.0
"""Nothing was shed for this long: the limit is of no use any more."""
HOLD_SECONDS: Final = 3.0
LONGEST_HOLD_SECONDS: Final = 12.0
"""A level is kept this long at least; longer each time it came back soon."""
SOON_SECONDS: Final = 60.0


class Level(IntEnum):
    """How much is shed."""

    FULL = 0
    AGGREGATE = 1
    SAMPLE = 2
    ESSENTIAL = 3


class Budget(msgspec.Struct, frozen=True):
    """What may be used."""

    cpu: float
    """Cores; 0: no limit."""
    memory_bytes: int
    """Resident; 0: no limit."""


class Reading(msgspec.Struct, frozen=True):
    """What was measured at one moment."""

    at: float
    """Seconds of a clock that only goes forward."""
    cpu_seconds: float
    """Spent so far."""
    memory_bytes: int
    memory_budget_bytes: int
    """Of two limits that which is nearer; 0: there is none."""
    shown: int
    """Events so far of the kinds that can be shed."""
    shed: int
    """The same for those that were."""


class Step(msgspec.Struct, frozen=True):
    """What to do from now on."""

    level: Level
    events_per_second: float
    """Of each kind in each cgroup; 0: any number."""
    why: str


class Governor:
    """Decides; others measure and act."""

    def __init__(self, budget: Budget, *, aggregates: bool) -> None:
        """`aggregates`: repeats are counted at all levels, so that level 1 is none."""
        self._budget = budget
        self._aggregates = aggregates
        self._readings: deque[Reading] = deque()
        self.level = Level.FULL
        self._rate = 0.0
        self._since = 0.0
        self._left_at = -SOON_SECONDS
        self._hold_seconds = HOLD_SECONDS
        self._shed_at = 0.0
        self._event_seconds = 0.0
        """CPU for each event when shedding began."""

    def judge(self, reading: Reading) -> Step | None:
        """What to change now; None when all is well as it is."""
        readings = self._readings
        if readings and reading.shed > readings[-1].shed:
            self._shed_at = reading.at
        readings.append(reading)
        while readings[0].at < reading.at and readings[1].at <= reading.at - WINDOW_SECONDS:
            readings.popleft()
        seconds = reading.at - readings[0].at
        if seconds < SHORT_SECONDS:
            return None
        cpu = (reading.cpu_seconds - readings[0].cpu_seconds) / seconds
        shown = (reading.shown - readings[0].shown) / seconds
        pressure, why = self._pressure(cpu, reading)
        # A moment of work is no reason to begin.
        if self.level == Level.FULL and seconds < WINDOW_SECONDS and pressure < FAR_BEYOND:
            return None
        before = self.level, self._rate
        if pressure > 1:
            self._tighten(reading.at, pressure, shown, cpu)
        elif self.level:
            self._loosen(reading.at, pressure)
        if (self.level, self._rate) == before:
            return None
        # What was spent under other rules says nothing of these.
        readings.clear()
        readings.append(reading)
        return Step(self.level, self._rate, why)

    def _pressure(self, cpu: float, reading: Reading) -> tuple[float, str]:
        """The use of what is used most, as a part of what may be used."""
        budget = self._budget
        of_cpu = cpu / budget.cpu if budget.cpu else 0.0
        limit = reading.memory_budget_bytes
        of_memory = reading.memory_bytes / limit if limit else 0.0
        if of_memory > max(of_cpu, 1):
            used, allowed = reading.memory_bytes >> 20, limit >> 20
            return of_memory, f"{used} MiB of memory, budget {allowed}"
        return of_cpu, f"{cpu:.1%} of a core, budget {budget.cpu:.1%}"

    def _tighten(self, now: float, pressure: float, shown: float, cpu: float) -> None:
        if self.level == Level.FULL:
            soon = now - self._left_at < SOON_SECONDS
            hold = self._hold_seconds * 2 if soon else HOLD_SECONDS
            self._hold_seconds = min(hold, LONGEST_HOLD_SECONDS)
            if not self._aggregates:
                self._go(Level.AGGREGATE, now)
                return
        if self.level < Level.SAMPLE:
            # One cgroup and kind may have made all of it; where there are more, this is lowered.
            self._rate = max(shown * AIM / pressure, LEAST_RATE)
            self._event_seconds = cpu / shown if shown else 0.0
            self._go(Level.SAMPLE, now)
        elif self.level == Level.SAMPLE:
            if self._is_backlog(now, shown):
                return
            if self._rate <= LEAST_RATE:
                self._rate = 0.0
                self._go(Level.ESSENTIAL, now)
            else:
                self._rate = max(self._rate * max(AIM / pressure, DROP), LEAST_RATE)

    def _is_backlog(self, now: float, shown: float) -> bool:
        """What is shown by now cannot be the reason: it is what was let through before."""
        could_be = shown * self._event_seconds * BACKLOG > self._budget.cpu * CALM
        return not could_be and now - self._since < BACKLOG_SECONDS

    def _loosen(self, now: float, pressure: float) -> None:
        rested = now - self._since >= self._hold_seconds
        if self.level == Level.ESSENTIAL:
            if rested and pressure < CALM:
                self._rate = LEAST_RATE
                self._go(Level.SAMPLE, now)
        elif self.level == Level.SAMPLE:
            if rested and now - self._shed_at > QUIET_SECONDS:
                self._rate = 0.0
                self._go(Level.FULL if self._aggregates else Level.AGGREGATE, now)
            elif pressure < CALM:
                self._rate = min(self._rate * RISE, HIGHEST_RATE)
        elif rested and pressure < CALM:
            self._go(Level.FULL, now)

    def _go(self, level: Level, now: float) -> None:
        if level == Level.FULL:
            self._left_at = now
        self.level = level
        self._since = now
