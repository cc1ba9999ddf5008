# SPDX-License-Identifier: Apache-2.0
"""The way of the stream: records, events, findings, router."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Sequence
from operator import attrgetter
from typing import Final

from nodeagent.detect.engine import Engine
from nodeagent.detect.suppress import Suppressions
from nodeagent.enrich import Enricher
from nodeagent.enrich.file import FileQuestion, FileTable
from nodeagent.enrich.process import ProcessTable
from nodeagent.enrich.user import UserQuestion
from nodeagent.errors import BadRecord
from nodeagent.event import Event
from nodeagent.finding import Finding
from nodeagent.kernel.wire import Decoder, Records
from nodeagent.ledger import Ledger
from nodeagent.outlet import Router
from nodeagent.pods import PodCounts
from nodeagent.redact import Redactor
from nodeagent.sink import Batch
from nodeagent.source import (
    ContainerSeen,
    FileSeen,
    Item,
    Listing,
    ProcListing,
    Summaries,
    UserSeen,
)
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
        files: FileTable,
        excluded_uids: Collection[int] = (),
        excluded_cgroups: Collection[int] | None = None,
        enrichers: Sequence[Enricher] = (),
        engine: Engine | None = None,
        suppressions: Suppressions | None = None,
        redactor: Redactor | None = None,
        findings_only: bool = False,
        recorder: Recorder | None = None,
        pods: PodCounts | None = None,
    ) -> None:
        """Only events of `kinds`, of users and cgroups that are not excluded, go on.

        All keep the process table right. `excluded_cgroups` may change at any time.
        """
        self._decoder = decoder
        self._processes = processes
        self._at = 0.0
        self._router = router
        self._ledger = ledger
        self._kinds = frozenset(kinds)
        self._excluded_uids = frozenset(excluded_uids)
        self._excluded_cgroups = excluded_cgroups or ()
        self._withholds = (
            bool(self._excluded_uids)
            or excluded_cgroups is not None
            or not self._kinds.issuperset(decoder.kinds.values())
        )
        self._files = files
        self._enrichers = (files, *enrichers)
        self._engine = engine
        self._suppressions = suppressions
        self._redactor = redactor
        self._findings_only = findings_only
        self._recorder = recorder
        self._pods = pods or PodCounts()

    def change(
        self,
        kinds: Collection[str],
        *,
        excluded_uids: Collection[int],
        suppressions: Suppressions,
        redactor: Redactor | None,
        findings_only: bool,
    ) -> None:
        """Do so with the next item."""
        self._kinds = frozenset(kinds)
        self._excluded_uids = frozenset(excluded_uids)
        # It may have shrunk, and whoever was excluded may not be any more.
        self._withholds = True
        self._suppressions = suppressions
        self._redactor = redactor
        self._findings_only = findings_only
        if self._engine is not None:
            self._engine.forget_paths()

    def feed(self, item: Item) -> None:
        """Take one item all the way to the outlets. Never waits."""
        self._at = time.thread_time()
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
        elif isinstance(item, ContainerSeen):
            self._pass_on(self._processes.containers.tell(item.cgroup, item.container))
        elif isinstance(item, FileSeen):
            said = self._files.tell(item)
            findings = self._learn_hash(item)
            if said is not None or findings:
                self._router.offer(Batch([said] if said is not None else [], findings))
        elif isinstance(item, UserSeen):
            self._processes.users.tell(item)
        else:
            if self._engine is not None:
                self._engine.hear(item)
            self._router.offer(Batch([item]))

    def _learn_hash(self, seen: FileSeen) -> list[Finding]:
        if self._engine is None:
            return []
        key = seen.key
        file = (key.device, key.inode, key.changed_ns, key.bytes)
        return self._unsuppressed(self._engine.learn_hash(file, seen.sha256))

    def _take_records(self, records: Records) -> None:
        events, bad = self._decoder.decode(records)
        self._ledger.bad.update(bad)
        self._ledger.decoded.update(map(KIND, events))
        # The two rings are read one after the other.
        events.sort(key=TIME)
        self._lap("decode")
        self._take_events(events)

    def _take_summaries(self, records: Records) -> None:
        events, _ = self._decoder.decode(records)
        for event in events:
            self._ledger.summarised[event.kind] += getattr(event, "count", 0)
        self._take_events(events)

    @property
    def known_programs(self) -> int:
        """Programs that run, or ended a moment ago."""
        return len(self._processes)

    @property
    def unknown_processes(self) -> int:
        """Processes that were seen for the first time in the middle of their life."""
        return self._processes.unknown

    def unknown_cgroups(self) -> list[tuple[int, str | None]]:
        """Those that somebody should tell of by a `ContainerSeen`, each only once.

        With the path, where the stream has told it.
        """
        return self._processes.containers.take_unknown()

    def questions_about_files(self) -> list[FileQuestion]:
        """What somebody should answer by a `FileSeen`, each only once."""
        return self._files.take_questions()

    def questions_about_users(self) -> list[UserQuestion]:
        """What somebody should answer by a `UserSeen`, each only once."""
        return self._processes.users.take_questions()

    def finish(self) -> None:
        """Let go what still waits."""
        self._pass_on(self._processes.containers.release_all())
        findings = self._unsuppressed(self._engine.finish()) if self._engine is not None else []
        if findings:
            self._router.offer(Batch((), findings))

    def _take_events(self, events: list[Event]) -> None:
        self._processes.enrich(events)
        free = self._processes.containers.hold(events)
        self._lap(self._processes.name)
        self._pass_on(free)

    def _pass_on(self, events: list[Event]) -> None:
        self._ledger.unanswered = self._processes.containers.timeouts
        self._ledger.misses[self._processes.name] = self._processes.unknown
        if self._withholds:
            events = self._wanted(events)
        for enricher in self._enrichers:
            self._guarded_enrich(enricher, events)
        if events:
            findings = self._inspect(events)
            self._lap("detect")
            self._pods.count(events)
            if self._findings_only:
                self._ledger.withheld.update(map(KIND, events))
                events = []
            if self._redactor is not None:
                self._redactor.mask(events)
            self._router.offer(Batch(events, findings))
            self._lap("route")

    def _inspect(self, events: Sequence[Event]) -> list[Finding]:
        if self._engine is None:
            return []
        return self._unsuppressed(self._engine.inspect(events))

    def _unsuppressed(self, findings: list[Finding]) -> list[Finding]:
        return self._suppressions.wanted(findings) if self._suppressions is not None else findings

    def _take_listing(self, listing: Listing) -> None:
        try:
            self._processes.fill(self._decoder.decode_listing(listing.data, listing.boot_ns))
        except BadRecord as error:
            log.warning("process_list_damaged why=%s", error)

    def _wanted(self, events: list[Event]) -> list[Event]:
        wanted = []
        for event in events:
            process = event.process
            excluded = process is not None and (
                process.task.uid in self._excluded_uids
                or process.task.cgroup in self._excluded_cgroups
            )
            if excluded or event.kind not in self._kinds:
                self._ledger.withheld[event.kind] += 1
            else:
                wanted.append(event)
        return wanted

    def _guarded_enrich(self, enricher: Enricher, events: Sequence[Event]) -> None:
        try:
            enricher.enrich(events)
            self._ledger.misses[enricher.name] = enricher.misses
        except Exception:  # noqa: BLE001  a defect of one part must not stop the others
            self._count_failure(enricher.name)
        self._lap(enricher.name)

    def _lap(self, stage: str) -> None:
        """What was spent since the last lap was spent on this."""
        now = time.thread_time()
        self._ledger.cpu_seconds[stage] += now - self._at
        self._at = now

    def _count_failure(self, name: str) -> None:
        """One that fails does not stop the others; its first failure is told in full."""
        if not self._ledger.failures[name]:
            log.error("part_failed name=%s", name)
        self._ledger.failures[name] += 1
