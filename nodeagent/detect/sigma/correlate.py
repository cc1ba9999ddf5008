# SPDX-License-Identifier: Apache-2.0
"""Rules that count the matches of others: bounded, by the times of the events."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from nodeagent.detect.recent import Recent
from nodeagent.detect.sigma.rules import Correlation

__all__ = ["COUNT_LIMIT", "TYPES", "Correlator"]

COUNT_LIMIT: Final = 1000
"""What a correlation may count up to."""
ENTRIES_LIMIT: Final = 32_768
"""Times and values that all groups of one correlation remember together."""
GROUPS_LIMIT: Final = 4096


class _Window(Protocol):
    """What was seen in one group."""

    def add(self, source: int, time: int, value: object) -> bool:
        """Whether this match of a source makes it complete."""


class _Events:
    """So many matches within the time span."""

    def __init__(self, wanted: Correlation) -> None:
        self._span = wanted.span_ns
        self._times: deque[int] = deque(maxlen=wanted.count)
        self._count = wanted.count

    def add(self, source: int, time: int, value: object) -> bool:
        del source, value
        self._times.append(time)
        return len(self._times) == self._count and time - self._times[0] <= self._span


class _Values:
    """So many different values within the time span."""

    def __init__(self, wanted: Correlation) -> None:
        self._span = wanted.span_ns
        self._count = wanted.count
        self._last: dict[object, int] = {}
        """When each was seen last, the oldest one first."""

    def add(self, source: int, time: int, value: object) -> bool:
        del source
        last = self._last
        last.pop(value, None)
        last[value] = time
        while len(last) > self._count or time - next(iter(last.values())) > self._span:
            del last[next(iter(last))]
        return len(last) == self._count


class _Together(_Values):
    """So many different rules within the time span."""

    def add(self, source: int, time: int, value: object) -> bool:
        del value
        return super().add(source, time, source)


class _InOrder:
    """All rules within the time span, in their order."""

    def __init__(self, wanted: Correlation) -> None:
        self._span = wanted.span_ns
        self._starts: list[int | None] = [None] * len(wanted.sources)
        """When the latest row that has come so far began."""

    def add(self, source: int, time: int, value: object) -> bool:
        del value
        start = time if source == 0 else self._starts[source - 1]
        if start is None or time - start > self._span:
            return False
        self._starts[source] = start
        return source == len(self._starts) - 1


TYPES: Final[Mapping[str, Callable[[Correlation], _Window]]] = {
    "event_count": _Events,
    "value_count": _Values,
    "temporal": _Together,
    "temporal_ordered": _InOrder,
}
"""By the name that Sigma gives them."""


class Correlator:
    """The windows of one correlation, by group."""

    def __init__(self, wanted: Correlation) -> None:
        self.wanted = wanted
        self._make = TYPES[wanted.type]
        size = max(wanted.count, len(wanted.sources))
        self._groups: Recent[tuple[object, ...], _Window] = Recent(
            min(ENTRIES_LIMIT // size, GROUPS_LIMIT)
        )

    def add(self, source: int, time: int, group: tuple[object, ...], value: object) -> bool:
        """Whether this match of a source makes the window of its group complete.

        The next window of the group then begins empty.
        """
        window = self._groups.get(group) or self._make(self.wanted)
        is_complete = window.add(source, time, value)
        self._groups.put(group, self._make(self.wanted) if is_complete else window)
        return is_complete
