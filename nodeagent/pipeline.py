# SPDX-License-Identifier: Apache-2.0
"""The way of the stream: records, events, findings, router."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from operator import attrgetter
from typing import Final

from nodeagent.detect import Detector
from nodeagent.enrich import Enricher
from nodeagent.enrich.process import ProcessTable
from nodeagent.errors import BadRecord
from nodeagent.event import Event
from nodeagent.finding import Finding
from nodeagent.kernel.wire import Decoder, Records
from nodeagent.ledger import Ledger
from nodeagent.sink import Batch, Router
from nodeagent.source import Item, Listing, ProcListing, Summaries
from nodeagent.source.recording import Recorder

__all__ = ["Pipeline"]

log: Final = logging.getLogger(__name__)

TIME: Final = attrgetter("time")
KIND: Final = attrgetter("kind")


class Pipeline:
    """Plain functions on one batch at a time."""

    def __init__(
        self,
        decoder: Decoder,
        processes: ProcessTable,
        router: Router,
        ledger: Ledger,
        kinds: Collection[str],
        *,
        excluded_uids: Collection[int] = (),
        enrichers: Sequence[Enricher] = (),
        detectors: Sequence[Detector] = (),
        recorder: Recorder | None = None,
    ) -> None:
        """Only events of `kinds` and of users that are not excluded reach detectors and sinks.

        All keep the process table right.
        """
        self._decoder = decoder
        self._processes = processes
        self._router = router
        self._ledger = ledger
        self._kinds = frozenset(kinds)
        self._excluded_uids = frozenset(excluded_uids)
        self._withholds = bool(self._excluded_uids) or not self._kinds.issuperset(
            decoder.kinds.values()
        )
        self._enrichers = enrichers
        self._detectors = detectors
        self._recorder = recorder

    def feed(self, item: Item) -> None:
        """Take one item all the way to the outlets. Never waits."""
        if self._recorder is not None:
            self._recorder.write(item)
        if isinstance(item, Records):
            self._take_records(item)
        elif isinstance(item, Summaries):
            self._take_summaries(item.records)
        elif isinstance(item, Listing):
            self._take_listing(item)
        elif isinstance(item, ProcListing):
            self._processes.fill_older(item.processes)
        else:
            self._router.offer(Batch([item]))

    def _take_records(self, records: Records) -> None:
        events, bad = self._decoder.decode(records)
        self._ledger.bad.update(bad)
        self._ledger.decoded.update(map(KIND, events))
        # The two rings are read one after the other.
        events.sort(key=TIME)
        self._take_events(events)

    def _take_summaries(self, records: Records) -> None:
        events, _ = self._decoder.decode(records)
        for event in events:
            self._ledger.summarised[event.kind] += getattr(event, "count", 0)
        self._take_events(events)

    def _take_events(self, events: list[Event]) -> None:
        self._processes.enrich(events)
        if self._withholds:
            events = self._wanted(events)
        for enricher in self._enrichers:
            self._guarded_enrich(enricher, events)
        findings = [finding for event in events for finding in self._inspect(event)]
        if events:
            self._router.offer(Batch(events, findings))

    def _take_listing(self, listing: Listing) -> None:
        try:
            self._processes.fill(self._decoder.decode_listing(listing.data, listing.boot_ns))
        except BadRecord as error:
            log.warning("process_list_damaged why=%s", error)

    def _wanted(self, events: list[Event]) -> list[Event]:
        wanted = []
        for event in events:
            process = event.process
            excluded = process is not None and process.task.uid in self._excluded_uids
            if excluded or event.kind not in self._kinds:
                self._ledger.withheld[event.kind] += 1
            else:
                wanted.append(event)
        return wanted

    def _guarded_enrich(self, enricher: Enricher, events: Sequence[Event]) -> None:
        try:
            enricher.enrich(events)
        except Exception:  # noqa: BLE001  a defect of one part must not stop the others
            self._count_failure(enricher.name)

    def _inspect(self, event: Event) -> list[Finding]:
        findings: list[Finding] = []
        for detector in self._detectors:
            try:
                findings += detector.inspect(event)
            except Exception:  # noqa: BLE001  as above
                self._count_failure(detector.name)
        return findings

    def _count_failure(self, name: str) -> None:
        """One that fails does not stop the others; its first failure is told in full."""
        if not self._ledger.failures[name]:
            log.error("part_failed name=%s", name)
        self._ledger.failures[name] += 1
