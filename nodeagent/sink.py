# SPDX-License-Identifier: Apache-2.0
"""How batches reach their sinks: the Sink contract, the Outlet in front of each, the Router.

A sink only opens, sends and closes, and says what kind of failure it met. Queue,
timeout and retry are written here, once for all of them.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import Annotated, Any, ClassVar, Final

import msgspec

from nodeagent.encode import Encode, encode
from nodeagent.errors import Closed, Rejected, Retry
from nodeagent.event import AgentEvent, Event
from nodeagent.finding import Finding
from nodeagent.ledger import SinkCounts

__all__ = ["Batch", "Outlet", "Router", "Sink", "SinkConfig"]

log: Final = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS: Final = 0.2
LONGEST_PAUSE_SECONDS: Final = 30.0
PROMPT_SECONDS: Final = 0.1
CLOSE_SECONDS: Final = 5.0
"""A sink that takes longer to close is left alone, so that the agent can end."""


class Batch:
    """Events and findings on their way to the sinks; nobody changes it any more."""

    __slots__ = ("_lines", "events", "findings")

    def __init__(
        self, events: Sequence[Event | AgentEvent], findings: Sequence[Finding] = ()
    ) -> None:
        """Take over both lists."""
        self.events = events
        self.findings = findings
        self._lines: dict[Encode, bytes] = {}

    def __len__(self) -> int:
        """Events and findings together."""
        return len(self.events) + len(self.findings)

    @property
    def items(self) -> tuple[Event | AgentEvent | Finding, ...]:
        """All of it, in the order of the lines."""
        return (*self.events, *self.findings)

    def ndjson(self, encoder: Encode = encode) -> bytes:
        """Each item as a line of JSON with its newline; made once for all sinks."""
        lines = self._lines.get(encoder)
        if lines is None:
            lines = self._lines[encoder] = encoder(self.items)
        return lines

    def lines(self, encoder: Encode = encode) -> list[bytes]:
        """The line of each item, without its newline."""
        return self.ndjson(encoder)[:-1].split(b"\n") if len(self) else []


class SinkConfig(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """What every sink can be told."""

    queue_events: Annotated[int, msgspec.Meta(ge=1)] = 20_000
    """Hold at most this many events for a slow sink, then drop the newest and count them."""
    timeout_seconds: Annotated[float, msgspec.Meta(gt=0)] = 30.0
    """Give up on one attempt to send a batch after this long, then try again."""


class Sink(ABC):
    """Where batches go. Raises `Retry`, `Rejected` or `Closed`, and nothing else on purpose."""

    Config: ClassVar[type[SinkConfig]] = SinkConfig
    FINDINGS_ONLY: ClassVar[bool] = False
    """Events, and signals that are too weak to be findings, are not routed to it."""

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


class Outlet:
    """A bounded queue and one task in front of one sink.

    A slow or dead sink fills its own queue and slows nobody else.
    """

    def __init__(
        self,
        name: str,
        sink: Sink,
        config: SinkConfig,
        counts: SinkCounts,
        on_closed: Callable[[str, str], None],
    ) -> None:
        """Call `on_closed(name, why)` when the sink says that nobody reads any more."""
        self.name = name
        self._sink = sink
        self._config = config
        self._counts = counts
        self._on_closed = on_closed
        self._queue: deque[Batch] = deque()
        self._filled = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._finished: str | None = None
        self._prompt = True
        """The sink takes a batch in no time, so it is worth waiting for."""

    async def open(self) -> None:
        """Open the sink."""
        await self._sink.open()

    def offer(self, batch: Batch) -> None:
        """Queue the batch, or drop and count it when there is no room. Never waits."""
        if self._sink.FINDINGS_ONLY:
            findings = [each for each in batch.findings if each.severity]
            if not findings:
                return
            batch = Batch((), findings)
        size = len(batch)
        self._counts.routed += size
        if self._finished is not None:
            self._counts.dropped[self._finished] += size
        elif self._counts.queued + size > self._config.queue_events and self._queue:
            self._counts.dropped["queue full"] += size
        else:
            self._counts.queued += size
            self._queue.append(batch)
            self._idle.clear()
            self._filled.set()

    async def run(self) -> None:
        """Send what is queued until cancelled."""
        while True:
            await self._filled.wait()
            while self._queue:
                await self._deliver(self._queue[0])
            self._filled.clear()
            self._idle.set()

    async def settle(self) -> None:
        """Wait until the queue is empty."""
        await self._idle.wait()

    async def relax(self) -> None:
        """Wait a moment until the queue is empty, unless the sink is known to be slow."""
        if not self._prompt or self._idle.is_set():
            return
        try:
            async with asyncio.timeout(PROMPT_SECONDS):
                await self._idle.wait()
        except TimeoutError:
            self._prompt = False

    async def drain(self, deadline_seconds: float) -> None:
        """Wait until the queue is empty, at most this long.

        What is left is dropped and counted, and so is what is offered from then on.
        """
        try:
            async with asyncio.timeout(deadline_seconds):
                await self.settle()
        except TimeoutError:
            log.warning("sink_not_drained sink=%s events=%d", self.name, self._counts.queued)
        # Otherwise a batch that waits for its retry would be sent and counted once more.
        self._finished = self._finished or "shutdown"
        self._drop_queue(self._finished)

    async def close(self) -> None:
        """Close the sink; its failure is told, and stops nobody."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._sink.close()
        except TimeoutError:
            log.warning("sink_not_closed sink=%s seconds=%g", self.name, CLOSE_SECONDS)
        except Exception as error:  # noqa: BLE001  one sink must not keep the others open
            log.warning("sink_close_failed sink=%s why=%s", self.name, error)

    async def _deliver(self, batch: Batch) -> None:
        pause = FIRST_PAUSE_SECONDS
        while self._finished is None:
            started = time.monotonic()
            try:
                async with asyncio.timeout(self._config.timeout_seconds):
                    await self._sink.send(batch)
            except (Retry, TimeoutError) as error:
                self._prompt = False
                after = getattr(error, "after_seconds", None)
                wait = pause * random.uniform(0.5, 1.0) if after is None else after  # noqa: S311  no secret
                why = str(error) or "slow"
                log.warning("sink_retry sink=%s in=%.1fs why=%s", self.name, wait, why)
                await asyncio.sleep(wait)
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
            except Rejected as error:
                refused = len(batch) if error.items is None else error.items
                log.warning("sink_rejected sink=%s events=%d why=%s", self.name, refused, error)
                self._leave(batch, "rejected", refused)
                return
            except Closed as error:
                self._finish("closed", str(error))
            except Exception:
                # A defect of one sink must not stop the agent or the other sinks.
                log.exception("sink_failed sink=%s events=%d", self.name, len(batch))
                self._leave(batch, "sink error")
                return
            else:
                self._leave(batch, None)
                self._prompt = time.monotonic() - started < PROMPT_SECONDS
                return

    def _leave(self, batch: Batch, dropped: str | None, items: int | None = None) -> None:
        """The batch leaves the queue, delivered or for the reason `dropped`.

        Where only so many `items` of it were dropped, the others were delivered.
        """
        if not self._queue or self._queue[0] is not batch:
            # A send that outlived the deadline: counted when the queue was dropped.
            return
        self._queue.popleft()
        self._counts.queued -= len(batch)
        lost = 0
        if dropped is not None:
            lost = len(batch) if items is None else min(items, len(batch))
            self._counts.dropped[dropped] += lost
        self._counts.delivered += len(batch) - lost

    def _finish(self, reason: str, why: str) -> None:
        self._finished = reason
        self._drop_queue(reason)
        self._on_closed(self.name, why)

    def _drop_queue(self, reason: str) -> None:
        while self._queue:
            self._leave(self._queue[0], reason)
        self._idle.set()


class Router:
    """Hands each batch to every outlet that wants it."""

    def __init__(self, outlets: Sequence[Outlet]) -> None:
        """All outlets take everything for now."""
        self.outlets = outlets

    def offer(self, batch: Batch) -> None:
        """Never waits."""
        for outlet in self.outlets:
            outlet.offer(batch)

    async def relax(self) -> None:
        """Let the outlets that keep up empty their queues, so that nothing is decoded in vain.

        One that does not is not waited for until it is prompt again.
        """
        for outlet in self.outlets:
            await outlet.relax()

    async def settle(self) -> None:
        """Wait until all queues are empty: for a source that can wait, like a recording."""
        for outlet in self.outlets:
            await outlet.settle()
