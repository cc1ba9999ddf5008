# SPDX-License-Identifier: Apache-2.0
"""What looks wrong."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from nodeagent.event import Event
from nodeagent.finding import Finding

__all__ = ["Detector"]


class Detector(Protocol):
    """Looks at events one by one, from memory: no I/O, no waiting, bounded state."""

    name: str

    def inspect(self, event: Event) -> Iterable[Finding]:
        """The findings that this event gives rise to."""
