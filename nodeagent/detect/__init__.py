# SPDX-License-Identifier: Apache-2.0
"""What looks wrong: detectors give signals, which alone or together become findings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeAlias

import msgspec

from nodeagent.event import Brief, Event, Process

__all__ = ["Detector", "OpenDetector", "ProcessOf", "Signal"]

ProcessOf: TypeAlias = Callable[[int, Process], Brief | None]
"""Finds the process to which another one gives a number."""


class Signal(msgspec.Struct, frozen=True, gc=False):
    """Something that may be wrong."""

    rule: str
    """Its name in `catalogue.RULES`, or in the `rules` of its detector: how much it weighs."""
    event: Event
    context: dict[str, object] = {}
    """What it was done to or with, by the names that findings use."""
    action: dict[str, object] | None = None
    """The connection or DNS request that it is about."""
    matches: tuple[dict[str, object], ...] = ()
    """Entries of threat lists, as `threatIntelligenceDetails` shows them."""
    key: str = ""
    """What tells it from others by the same program: a path, a domain."""
    evidence: dict[str, object] = {}
    """What else findings show of why."""


class Detector(Protocol):
    """Looks at events one by one, from memory: no I/O, no waiting, bounded state."""

    name: str

    @property
    def kinds(self) -> tuple[str, ...]:
        """It is not asked about events of others, so that these cost nothing."""

    def inspect(self, event: Any) -> Iterable[Signal]:
        """The signals that an event of one of its kinds gives rise to.

        One that looks at hashes also has a method `inspect_hash`, which is asked about a
        program when its hash comes later than its event. One with rules that are not in the
        catalogue has them in `rules`, by name, and may change them there at any time.
        """


class OpenDetector(Detector, Protocol):
    """One that has `open` among its kinds."""

    def wants_path(self, path: str) -> bool:
        """Whether it looks at opens of this path: most events are opens that nobody wants."""
