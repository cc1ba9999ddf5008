# SPDX-License-Identifier: Apache-2.0
"""What is known about an event beyond its record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from nodeagent.event import Event

__all__ = ["Enricher"]


class Enricher(Protocol):
    """Adds to events what it knows, from memory: no I/O, no waiting."""

    name: str
    misses: int
    """How often it was asked for something that it did not know."""

    def enrich(self, events: Sequence[Event]) -> None:
        """Complete the events of one batch, which are in the order of time."""
