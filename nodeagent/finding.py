# SPDX-License-Identifier: Apache-2.0
"""What a detector says."""

from __future__ import annotations

from enum import IntEnum

import msgspec

__all__ = ["Finding", "Severity"]


class Severity(IntEnum):
    """How bad it is; the order is meaningful."""

    LOW = 1
    MEDIUM = 2
    HIGH = 3
    CRITICAL = 4


class Finding(msgspec.Struct, gc=False):
    """Something looks wrong, and this is the evidence."""

    type: str
    """`Purpose:Runtime/Technique`, for example `Execution:Runtime/ReverseShell`."""
    severity: Severity
    title: str
    evidence: dict[str, object]
    first_seen: int
    """Wall clock, ns since 1970."""
    last_seen: int
    """Wall clock, ns since 1970."""
    count: int = 1
