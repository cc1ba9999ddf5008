# SPDX-License-Identifier: Apache-2.0
"""What a sink is given, what it can be told, and what it has to do.

A sink only opens, sends and closes, and says what kind of failure it met. All the rest
is done once for all of them, in nodeagent/outlet.py.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from itertools import chain, compress
from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec

from nodeagent.encode import Encode, encode
from nodeagent.event import EVENTS, AgentEvent, Event
from nodeagent.finding import Finding
from nodeagent.identity import Facts, Item, facts_of
from nodeagent.setting import Among

__all__ = ["Batch", "Sink", "SinkConfig", "StoredBatch", "packed", "unpacked"]

LEVEL: Final = 1
"""Of zstd: lines repeat so much that more gains little."""
LINES_BYTES: Final = 512 << 20
"""What is packed unpacks to no more, or it is none of ours."""


class Batch:
    """Events and findings on their way to the sinks; nobody changes it any more."""

    __slots__ = ("_facts", "_lines", "_parts", "findings", "items", "key", "packed")

    def __init__(
        self,
        events: Sequence[Event | AgentEvent] = (),
        findings: Sequence[Finding] = (),
        *,
        key: str = "",
    ) -> None:
        """Those that have a `key` are the same batch whenever it comes again."""
        self.items: tuple[Item, ...] = (*events, *findings)
        """In the order of the lines."""
        self.findings = tuple(findings)
        self.key = key
        self.packed: bytes | None = None
        """Its lines by zstd, where that was done already."""
        self._parts: Sequence[Batch] = ()
        self._lines: dict[Encode, bytes] = {}
        self._facts: list[Facts] | None = None

    @classmethod
    def joined(cls, parts: Sequence[Batch], key: str) -> Batch:
        """All of them as one; their lines are made only once."""
        batch = cls(key=key)
        batch.items = tuple(chain.from_iterable(part.items for part in parts))
        batch.findings = tuple(chain.from_iterable(part.findings for part in parts))
        batch._parts = parts
        return batch

    def __len__(self) -> int:
        """Events and findings together."""
        return len(self.items)

    @property
    def facts(self) -> list[Facts]:
        """Of each item."""
        if self._facts is None:
            self._facts = [facts_of(item) for item in self.items]
        return self._facts

    def ndjson(self, encoder: Encode = encode) -> bytes:
        """Each item as a line of JSON with its newline; made once for all sinks."""
        lines = self._lines.get(encoder)
        if lines is None:
            if self._parts:
                lines = b"".join([part.ndjson(encoder) for part in self._parts])
            else:
                lines = encoder(self.items)
            self._lines[encoder] = lines
        return lines

    def lines(self, encoder: Encode = encode) -> list[bytes]:
        """The line of each item, without its newline."""
        return self.ndjson(encoder)[:-1].split(b"\n") if len(self) else []

    def cut(self, size: int) -> list[Batch]:
        """The same in batches of at most `size` items."""
        lines = {encoder: self.lines(encoder) for encoder in self._lines}
        pieces = []
        for start in range(0, len(self), size):
            piece = Batch()
            piece.items = self.items[start : start + size]
            piece.findings = tuple(item for item in piece.items if isinstance(item, Finding))
            for encoder, each in lines.items():
                piece._lines[encoder] = _whole(each[start : start + size])
            pieces.append(piece)
        return pieces

    def halves(self) -> list[Batch]:
        """The same in two batches; it must have two items at least."""
        return self.cut((len(self) + 1) // 2)

    def only(self, chosen: Sequence[bool]) -> Batch:
        """Those items for which `chosen` holds."""
        piece = Batch()
        piece.items = tuple(compress(self.items, chosen))
        piece.findings = tuple(item for item in piece.items if isinstance(item, Finding))
        for encoder in self._lines:
            piece._lines[encoder] = _whole(compress(self.lines(encoder), chosen))
        return piece


class StoredBatch(Batch):
    """One that has waited on a disk: its lines, as the sink makes them, are all there is."""

    __slots__ = ("_size", "_stored")

    def __init__(self, key: str, size: int, packed: bytes | None, facts: Sequence[Facts]) -> None:
        """`packed` are the lines by zstd; `facts` are there only for sinks that need them."""
        super().__init__(key=key)
        self.packed = packed
        self._size = size
        self._stored: Sequence[bytes] | None = None
        self._facts = list(facts)

    def __len__(self) -> int:
        """Events and findings together."""
        return self._size

    def ndjson(self, encoder: Encode = encode) -> bytes:
        """Each line with its newline; made by the encoder of the sink, whatever is asked for."""
        return _whole(self.lines(encoder))

    def lines(self, encoder: Encode = encode) -> list[bytes]:  # noqa: ARG002  was used before
        """The line of each item, without its newline."""
        if self._stored is None:
            self._stored = unpacked(self.packed or b"")[:-1].split(b"\n")
        return list(self._stored)

    def cut(self, size: int) -> list[Batch]:
        """The same in batches of at most `size` items."""
        lines, pieces = self.lines(), list[Batch]()
        for start in range(0, len(self), size):
            part = lines[start : start + size]
            piece = StoredBatch("", len(part), None, self.facts[start : start + size])
            piece._stored = part
            pieces.append(piece)
        return pieces


def packed(lines: bytes) -> bytes:
    """The same by zstd."""
    import zstandard  # noqa: PLC0415

    return zstandard.ZstdCompressor(level=LEVEL).compress(lines)


def unpacked(data: bytes) -> bytes:
    """Lines that were packed; raises ValueError when that fails."""
    import zstandard  # noqa: PLC0415

    try:
        return zstandard.ZstdDecompressor().decompress(data, max_output_size=LINES_BYTES)
    except zstandard.ZstdError as error:
        raise ValueError(f"no lines by zstd: {error}") from error


def _whole(lines: Iterable[bytes]) -> bytes:
    """With a newline behind each."""
    return b"\n".join([*lines, b""])


ROUTED_KINDS: Final = Among([*EVENTS, "finding", "agent"], "known kinds, finding and agent")


class SinkConfig(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """What every sink can be told."""

    kinds: Annotated[list[str], ROUTED_KINDS] = []
    """Send these kinds of events, and `finding` and `agent` where they are named; empty: all."""
    findings_only: bool = False
    """Send nothing but findings."""
    severity: Literal["informational", "low", "medium", "high", "critical"] = "informational"
    """Send findings that are at least so severe."""
    namespaces: list[str] = []
    """Send only what happens in pods of these namespaces of Kubernetes; * stands for anything."""
    pod_labels: dict[str, str] = {}
    """Send only events of pods with these labels, of those that `containers.labels` shows;
    * stands for anything."""
    sample: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    """Send this share of frequent kinds of events, whole processes at a time, and count the
    others as dropped; rare kinds and findings are always sent."""

    queue_events: Annotated[int, msgspec.Meta(ge=1)] = 20_000
    """Hold at most this many events for a slow sink, then drop the newest and count them."""
    batch_events: Annotated[int, msgspec.Meta(ge=1)] = 5_000
    """Send at most this many events at once."""
    batch_seconds: Annotated[float, msgspec.Meta(ge=0, le=300)] = 0.0
    """Wait this long for more events to send at once; 0: send what there is."""
    bytes_per_second: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Send no more than this on average, counted in lines before they are compressed; 0: no
    limit. What has to wait stays in the queue or the spool."""
    timeout_seconds: Annotated[float, msgspec.Meta(gt=0)] = 30.0
    """Give up on one attempt to send a batch after this long, then try again."""
    spool: bool = False
    """Keep on the disk what was not sent yet, so that neither a fault of the network nor
    an end of the agent loses it. Not every sink can."""
    spool_bytes: Annotated[int, msgspec.Meta(ge=1 << 20)] = 256 << 20
    """Take at most this much of the disk; then the oldest events are dropped and counted,
    those of rare and precious kinds, and findings, last."""


class Sink(ABC):
    """Where batches go. Raises `Retry`, `Rejected` or `Closed`, and nothing else on purpose."""

    Config: ClassVar[type[SinkConfig]] = SinkConfig
    FINDINGS_ONLY: ClassVar[bool] = False
    """Events, and signals that are too weak to be findings, are not routed to it."""
    NEEDS_FACTS: ClassVar[bool] = False
    """It reads `facts` of a batch."""
    encoder: Encode | None = None
    """What makes the lines that it sends, where it sends nothing but lines and facts: then
    they can wait on a disk as they are."""

    @abstractmethod
    def __init__(self, config: Any) -> None:
        """Take an instance of the own `Config`; nothing is opened yet."""

    @abstractmethod
    async def open(self) -> None:
        """Make ready; raise a `StartError` that says what to do when that is impossible."""

    @abstractmethod
    async def send(self, batch: Batch) -> None:
        """Take the whole batch or none of it, as far as the medium allows."""

    @abstractmethod
    async def close(self) -> None:
        """Give everything back; what was sent is safe now."""
