# SPDX-License-Identifier: Apache-2.0
"""What tells agents, events and findings apart, the same whenever one is sent again."""

from __future__ import annotations

import os
import socket
import uuid
from pathlib import Path
from typing import Final, NamedTuple

from nodeagent.event import AgentEvent, Event
from nodeagent.finding import Finding, Severity

__all__ = ["Facts", "Item", "agent_id", "event_id", "facts_of", "node_name", "time_of", "what_of"]

Item = Event | AgentEvent | Finding
"""What a batch is made of."""

MACHINE_ID: Final = Path("/etc/machine-id")


def agent_id() -> str:
    """The same in each run on this machine, without telling the machine id itself."""
    try:
        machine = MACHINE_ID.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        machine = ""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"nodeagent {machine}") if machine else uuid.uuid4())


def node_name() -> str:
    """What this node is called by whoever runs it: NODE_NAME, else the name of the host."""
    return os.environ.get("NODE_NAME") or socket.gethostname()


def event_id(item: Item) -> str:
    """Which event of a node it is; a finding that was told again has another one.

    Two agents, of which one takes over from the other, give the same to what both have seen.
    """
    if isinstance(item, Event):
        return f"{item.kind}-{item.time}-{item.tid}"
    if isinstance(item, AgentEvent):
        return f"{item.kind}-{item.time}"
    return f"{item.id}-{item.last_seen}-{item.count}"


def time_of(item: Item) -> int:
    """When it was, ns since 1970."""
    return item.last_seen if isinstance(item, Finding) else item.time


def what_of(item: Item) -> str:
    """The `kind` of its line."""
    return "finding" if isinstance(item, Finding) else item.kind


class Facts(NamedTuple):
    """What a sink may have to know of an item beside its line."""

    time: int
    """When it was, ns since 1970."""
    what: str
    """The `kind` of its line."""
    id: str
    """See `event_id`; of a finding, that of this telling of it."""
    severity: int | None
    """Of a finding."""
    finding: str
    """Which finding it is, whenever it is told; empty for an event."""
    pid: int | None
    """Of an event, who did it."""

    @property
    def level(self) -> Severity:
        """How bad it is; an event is informational."""
        return Severity(self.severity or 0)


def facts_of(item: Item) -> Facts:
    """Those of one item."""
    severity, finding, pid = None, "", None
    if isinstance(item, Finding):
        severity, finding = int(item.severity), item.id
    elif isinstance(item, Event) and item.process is not None:
        pid = item.process.task.pid
    return Facts(time_of(item), what_of(item), event_id(item), severity, finding, pid)
