# SPDX-License-Identifier: Apache-2.0
"""Every key that there is, with its type, its default and a sentence about it."""

from __future__ import annotations

import mmap
from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, TypeGuard, get_args, get_origin

import msgspec
from msgspec import Meta
from msgspec.structs import FieldInfo

from nodeagent.event import EVENTS
from nodeagent.sink import SinkConfig


@dataclass(frozen=True, eq=False)
class Among:
    """Allows only these values, for a key or for each item of a list."""

    values: Collection[object]
    described: str
    """What they are, as the end of "must be …"."""


def among(hint: object) -> Among | None:
    """The marker of a field's type."""
    markers = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    return next((marker for marker in markers if isinstance(marker, Among)), None)


def is_struct(hint: object) -> TypeGuard[type[msgspec.Struct]]:
    """Whether a field of this type is a table with keys of its own."""
    return isinstance(hint, type) and issubclass(hint, msgspec.Struct)


def default_of(field: FieldInfo) -> Any:
    """The value of a field that nobody set; the field must not be required."""
    if field.default is not msgspec.NODEFAULT:
        return field.default
    return field.default_factory()


SMALLEST_RING: Final = mmap.PAGESIZE
LARGEST_RING: Final = 1 << 30

RING_BYTES: Final = Among(
    [1 << bit for bit in range(31) if SMALLEST_RING <= 1 << bit <= LARGEST_RING],
    f"a power of two from {SMALLEST_RING} to {LARGEST_RING}",
)


Prefix = Annotated[str, Meta(pattern="^/", max_length=128)]


class KernelConfig(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """The eBPF side."""

    high_ring_bytes: Annotated[int, RING_BYTES] = 1 << 20
    """Size of the ring buffer for exec, fork and exit; a power of two."""
    bulk_ring_bytes: Annotated[int, RING_BYTES] = 1 << 23
    """Size of the ring buffer for all other events; a power of two."""
    argv_bytes: Annotated[int, Meta(ge=64, le=8192)] = 4096
    """Copy at most this much of the arguments of a program."""
    dns_ports: Annotated[list[Annotated[int, Meta(ge=1, le=65535)]], Meta(max_length=4)] = (
        msgspec.field(default_factory=lambda: [53])
    )
    """Look for DNS messages in the packets from and to these ports."""
    hooks: Literal["auto", "trampoline", "tracepoint"] = "auto"
    """Which family of hooks to use: trampolines see more and cost less, but not every
    kernel takes them; auto tries."""
    object: str = ""
    """Path of another eBPF object; empty: the one that comes with the agent."""


class FilterConfig(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """What the kernel leaves out, and what it counts instead of reporting."""

    repeated_opens: Literal["count", "report"] = "count"
    """Opens of the same file by the same program that only read: report the first two and
    count the others, since they say nothing new, or report each. Opens that may write
    are always reported."""
    summary_seconds: Annotated[float, Meta(ge=1)] = 5.0
    """Tell how many were counted this often."""
    failed_opens: Literal["denied", "all", "none"] = "denied"
    """Which opens that failed to report: those that were refused, since programs look
    for files that do not exist all the time, or all, or none."""
    exclude_uids: list[Annotated[int, Meta(ge=0, lt=1 << 32)]] = []
    """Report nothing that these users do."""
    exclude_paths: list[Prefix] = []
    """Report no opens of files whose path starts like this; end it with / for a folder."""
    watch_paths: list[Prefix] = []
    """Report each open of files whose path starts like this; the longest prefix decides."""


class LedgerConfig(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """The counts of everything that was seen, sent and lost."""

    interval_seconds: Annotated[float, Meta(ge=0)] = 60.0
    """Write the counts into the stream this often; 0: only at the end."""


class SinkSetting(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One sink: where events go."""

    type: str
    """Which kind of sink it is; may be left out when the name of the table says it."""
    config: SinkConfig
    """An instance of the `Config` of that type."""


class Config(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Configuration of nodeagent."""

    kinds: Annotated[list[str], Meta(min_length=1), Among(EVENTS, "known kinds of events")] = (
        msgspec.field(default_factory=lambda: list(EVENTS))
    )
    """Stream these kinds of events."""
    shutdown_seconds: Annotated[float, Meta(ge=0)] = 5.0
    """At the end, wait at most this long until the sinks have taken what is queued."""
    kernel: KernelConfig = KernelConfig()
    """The eBPF side."""
    filter: FilterConfig = FilterConfig()
    """What the kernel leaves out, and what it counts instead of reporting."""
    ledger: LedgerConfig = LedgerConfig()
    """The counts of everything that was seen, sent and lost."""
    sinks: dict[str, SinkSetting] = {}
    """Where events go, by a name of your choice; standard output when there is none."""
