# SPDX-License-Identifier: Apache-2.0
"""Where the stream comes from: the live kernel or a recording."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

import msgspec

from nodeagent.enrich.file import FileSeen
from nodeagent.enrich.user import UserSeen
from nodeagent.event import AgentEvent, Container, OlderProcess
from nodeagent.kernel.wire import Records

__all__ = [
    "ContainerSeen",
    "FileSeen",
    "Item",
    "Listing",
    "ProcListing",
    "Source",
    "Summaries",
    "UserSeen",
]


class Listing(msgspec.Struct, gc=False):
    """All processes that were alive, as the iterator wrote them."""

    data: bytes
    boot_ns: int
    """The wall clock at boot, ns since 1970."""


class ProcListing(msgspec.Struct, gc=False):
    """Processes that the iterator did not give: it is not to be had, or they are hidden from it."""

    processes: list[OlderProcess]


class Summaries(msgspec.Struct, gc=False):
    """What the kernel counted instead of sending it, as records."""

    records: Records


class ContainerSeen(msgspec.Struct, gc=False):
    """What a cgroup is."""

    cgroup: int
    """Its id."""
    container: Container | None
    """None when it is no container."""


Item = (
    Records | Summaries | Listing | ProcListing | ContainerSeen | FileSeen | UserSeen | AgentEvent
)
"""What a source gives, in the order in which it happened."""


class Source(Protocol):
    """Gives items until it is stopped or has no more."""

    def items(self) -> AsyncIterator[Item]:
        """The stream."""

    def stop(self) -> None:
        """End soon, after everything that is under way."""
