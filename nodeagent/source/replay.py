# SPDX-License-Identifier: Apache-2.0
"""A recording, as a source."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from nodeagent.errors import TornRecording
from nodeagent.kernel.wire import Decoder, Records
from nodeagent.ledger import UNKNOWN_KIND, KernelCounts, Ledger
from nodeagent.source import Item, Summaries
from nodeagent.source.recording import Recording

__all__ = ["ReplaySource"]


class ReplaySource:
    """The items of a recording, as fast as they are taken."""

    def __init__(self, recording: Recording, decoder: Decoder, ledger: Ledger) -> None:
        """What the file holds counts as sent by the kernel in `ledger`."""
        self._recording = recording
        self._decoder = decoder
        self._ledger = ledger
        self._stopping = False
        self.damage: TornRecording | None = None
        """Set when the file ended before its end."""

    def stop(self) -> None:
        """End after the current item."""
        self._stopping = True

    async def items(self) -> AsyncIterator[Item]:
        """The stream."""
        try:
            for item in self._recording:
                if self._stopping:
                    return
                if isinstance(item, Records):
                    self._count(item)
                elif isinstance(item, Summaries):
                    self._count_summaries(item.records)
                yield item
                # The sinks get their turn.
                await asyncio.sleep(0)
        except TornRecording as error:
            self.damage = error

    def _count(self, records: Records) -> None:
        for start, end in zip(records.starts, records.ends, strict=True):
            kind = self._decoder.kind_of(records.data, start, end) or UNKNOWN_KIND
            counts = self._ledger.kernel.setdefault(kind, KernelCounts())
            counts.seen += 1
            counts.sent += 1

    def _count_summaries(self, records: Records) -> None:
        for event in self._decoder.decode(records)[0]:
            counts = self._ledger.kernel.setdefault(event.kind, KernelCounts())
            repeats = getattr(event, "count", 0)
            counts.seen += repeats
            counts.aggregated += repeats
