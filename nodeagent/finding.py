# SPDX-License-Identifier: Apache-2.0
"""What detection says."""

from __future__ import annotations

from enum import IntEnum

import msgspec

__all__ = ["Finding", "Severity"]


class Severity(IntEnum):
    """How bad it is; the order is meaningful."""

    INFORMATIONAL = 0
    """A signal: too weak to be a finding by itself."""
    LOW = 1
    MEDIUM = 2
    HIGH = 3
    CRITICAL = 4


class Finding(msgspec.Struct, gc=False):
    """Something looks wrong, and this is the evidence."""

    id: str
    """The same whenever the same thing is seen again on this node."""
    type: str
    """`Purpose:Runtime/Technique`, for example `Execution:Runtime/ReverseShell`."""
    severity: Severity
    title: str
    mitre: tuple[str, ...]
    """Techniques of MITRE ATT&CK, for example T1059.004."""
    resource: dict[str, object]
    """Where it was: node, container, pod."""
    process: dict[str, object] | None
    """Who did it, with its lineage."""
    context: dict[str, object]
    """What it was done to or with, by the names that GuardDuty gives them."""
    action: dict[str, object] | None
    """The connection or DNS request that it is about."""
    evidence: dict[str, object]
    """Why: the rule and its weight, the signals that led to it, matches of threat lists."""
    first_seen: int
    """Wall clock, ns since 1970."""
    last_seen: int
    """Wall clock, ns since 1970."""
    count: int = 1

    @property
    def details(self) -> dict[str, object]:
        """All that is said besides type, severity, title and times."""
        parts = {
            "mitre": list(self.mitre),
            "resource": self.resource,
            "process": self.process,
            "context": self.context,
            "action": self.action,
            "evidence": self.evidence,
        }
        return {name: part for name, part in parts.items() if part}
