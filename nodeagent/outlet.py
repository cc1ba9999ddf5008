# SPDX-License-Identifier: Apache-2.0
"""How batches reach their sinks: an Outlet in front of each, and the Router before them.

Queue, batching, spool, timeout and retry are written here, once for all sinks.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from nodeagent.encode import encode
from nodeagent.errors import Closed, Denied, NodeagentError, Rejected, Retry
from nodeagent.event import HIGH_VALUE, Event
from nodeagent.identity import Item, agent_id
from nodeagent.ledger import SinkCounts
from nodeagent.route import Selection
from nodeagent.sink import Batch, Sink, SinkConfig, StoredBatch
from nodeagent.spool import Lane, Spool, Stored
from nodeagent.worker import Worker

__all__ = ["Outlet", "Router"]

log: Final = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS: Final = 0.2
LONGEST_PAUSE_SECONDS: Final = 30.0
PROMPT_SECONDS: Final = 0.1
CLOSE_SECONDS: Final = 5.0
"""A sink that takes longer to close is left alone, so that the agent can end."""
REOPEN_SECONDS: Final = 10.0
"""A spool that could not be used is tried again after this long."""
PAUSE_STEP_SECONDS: Final = 0.01
BATCH_BYTES: Final = 1 << 20
"""A batch with longer lines is sent in parts."""


class _Undelivered(Exception):
    """The outlet ended before the batch was taken; it is counted already."""


class Outlet:
    """A bounded queue and one task in front of one sink.

    A slow or dead sink fills its own queue, or its spool, and slows nobody else. With a
    spool each batch is on the disk before it is sent, and leaves it when it was taken.
    """

    def __init__(
        self,
        name: str,
        sink: Sink,
        config: SinkConfig,
        counts: SinkCounts,
        on_closed: Callable[[str, str], None],
        *,
        spool: Spool | None = None,
        fsync_seconds: float = 1.0,
    ) -> None:
        """Call `on_closed(name, why)` when the sink says that nobody reads any more."""
        self.name = name
        self._counts = counts
        self._on_closed = on_closed
        self._queue: deque[Batch] = deque()
        self._under_way: deque[Batch] = deque()
        """Taken from the queue, and not yet delivered or spooled."""
        self._waiting = 0
        """Items in the queue."""
        self._filled = asyncio.Event()
        self._ripe = asyncio.Event()
        """Enough waits for a batch, or nobody should wait any longer."""
        self._idle = asyncio.Event()
        self._idle.set()
        self._going = asyncio.Event()
        self._run = f"{agent_id()}-{time.time_ns()}"
        self._sequence = 0
        self._fsync_seconds = fsync_seconds
        self._set(sink, config, spool)

    def _set(self, sink: Sink, config: SinkConfig, spool: Spool | None) -> None:
        self._sink = sink
        self._config = config
        self._selection = Selection(config, findings_only=sink.FINDINGS_ONLY)
        self._hurry = False
        self._finished: str | None = None
        self._is_immediate = not config.batch_seconds and not config.bytes_per_second
        self._prompt = self._is_immediate
        """The sink takes a batch in no time, so it is worth waiting for."""
        self._sending = asyncio.Lock()
        self._spool = spool if sink.encoder is not None else None
        self._spool_worker = Worker(f"{self.name} spool")
        self._spooled = asyncio.Event()
        self._spool_empty = asyncio.Event()
        self._reopen_at = 0.0
        self._next_at = 0.0
        self._going.set()

    async def open(self) -> None:
        """Open the sink, and take what an earlier run has left for it."""
        await self._sink.open()
        if self._spool is not None:
            await self._open_spool(self._spool)

    def offer(self, batch: Batch) -> None:
        """Queue the batch, or drop and count it when there is no room. Never waits."""
        wanted = self._selection.wanted(batch)
        if wanted is None:
            return
        self._counts.routed += len(wanted)
        batch = self._selection.sampled(wanted)
        size = len(batch)
        if size < len(wanted):
            self._counts.dropped["sampled"] += len(wanted) - size
            if not size:
                return
        if self._finished is not None:
            self._counts.dropped[self._finished] += size
        elif self._counts.queued + size > self._config.queue_events and not self._idle.is_set():
            self._counts.dropped["queue full"] += size
        else:
            self._counts.queued += size
            self._waiting += size
            self._queue.append(batch)
            self._idle.clear()
            self._filled.set()
            if self._waiting >= self._config.batch_events:
                self._ripe.set()

    async def run(self) -> None:
        """Send what is queued until cancelled."""
        if self._spool is None:
            await self._send_queue()
            return
        async with asyncio.TaskGroup() as group:
            group.create_task(self._fill_spool(self._spool))
            group.create_task(self._empty_spool(self._spool))
            group.create_task(self._sync_spool(self._spool))

    async def pause(self, deadline_seconds: float) -> None:
        """Queue what comes, and send nothing more; waits until nothing is under way.

        What is under way for longer than this goes back into the queue when the task is
        cancelled and the outlet gets another sink.
        """
        self._going.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(deadline_seconds):
                while self._under_way:  # noqa: ASYNC110  a short wait that is rare
                    await asyncio.sleep(PAUSE_STEP_SECONDS)
                await self._sending.acquire()

    async def swap(self, sink: Sink, config: SinkConfig, spool: Spool | None) -> None:
        """Go on with another sink, when this one is paused, its task over, and it is closed."""
        self._queue.extendleft(reversed(self._under_way))
        self._under_way.clear()
        self._waiting = sum(map(len, self._queue))
        self._set(sink, config, spool)
        if self._queue:
            self._filled.set()
        await self.open()

    async def settle(self) -> None:
        """Wait until the queue is empty."""
        self._make_haste()
        await self._idle.wait()
        self._hurry = False

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
        """Wait until everything is delivered, at most this long.

        What is left then stays in the spool; without one it is dropped and counted, and so
        is what is offered from then on.
        """
        self._make_haste()
        try:
            async with asyncio.timeout(deadline_seconds):
                await self._idle.wait()
                if self._spool is not None and self._spool.is_open:
                    await self._spool_empty.wait()
        except TimeoutError:
            left = self._counts.queued
            log.warning(
                "sink_not_drained sink=%s events=%d spooled=%d",
                *(self.name, left, self._counts.spooled),
            )
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
        if self._spool is not None:
            self._spool_worker.post(self._spool.close)
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._spool_worker.stop()

    def _make_haste(self) -> None:
        self._hurry = True
        self._ripe.set()

    async def _send_queue(self) -> None:
        while True:
            for batch in await self._collected():
                await self._deliver_now(batch)
            self._rest()

    async def _deliver_now(self, batch: Batch) -> None:
        """From memory."""
        with suppress(_Undelivered):
            dropped, refused = await self._deliver(batch)
            self._leave(batch, dropped, refused)

    async def _collected(self) -> Sequence[Batch]:
        """What to send next: full, or old enough."""
        await self._filled.wait()
        await self._going.wait()
        if self._config.batch_seconds and not self._hurry:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._config.batch_seconds):
                    await self._ripe.wait()
        parts: list[Batch] = []
        size = 0
        # Without an age to wait for, a batch goes on as it came.
        most = self._config.batch_events if self._config.batch_seconds else 0
        while self._queue and (not parts or size + len(self._queue[0]) <= most):
            parts.append(self._queue.popleft())
            size += len(parts[-1])
        self._waiting -= size
        if not self._queue:
            self._filled.clear()
        if self._waiting < self._config.batch_events and not self._hurry:
            self._ripe.clear()
        pieces = self._pieces(Batch.joined(parts, "")) if parts else []
        self._under_way.extend(pieces)
        return pieces

    def _pieces(self, batch: Batch) -> list[Batch]:
        """The batch, in parts where it is too long, each with the key that it keeps."""
        parts = [batch] if self._spool is None else by_lane(batch)
        pieces = [piece for part in parts for piece in self._cut(part)]
        for piece in pieces:
            piece.key = self._next_key()
        return pieces

    def _cut(self, batch: Batch) -> list[Batch]:
        encoder = self._sink.encoder
        times = 1 if encoder is None else -(-len(batch.ndjson(encoder)) // BATCH_BYTES)
        size = min(self._config.batch_events, -(-len(batch) // max(times, 1)))
        return batch.cut(size) if size < len(batch) else [batch]

    def _next_key(self) -> str:
        self._sequence += 1
        return f"{self._run}-{self._sequence}"

    def _rest(self) -> None:
        if not self._queue and not self._under_way:
            self._idle.set()

    async def _deliver(self, batch: Batch) -> tuple[str | None, int | None]:
        """Send until it is taken or refused: the reason why it was dropped, and how many of it.

        Raises _Undelivered.
        """
        async with self._sending:
            pause = FIRST_PAUSE_SECONDS
            while True:
                await self._pace(batch)
                if self._finished is not None:
                    break
                started = time.monotonic()
                try:
                    async with asyncio.timeout(self._config.timeout_seconds):
                        await self._sink.send(batch)
                except (Retry, TimeoutError) as error:
                    self._prompt = False
                    self._counts.is_denied = isinstance(error, Denied)
                    after = getattr(error, "after_seconds", None)
                    wait = pause * random.uniform(0.5, 1.0) if after is None else after  # noqa: S311  no secret
                    self._counts.trouble = why = str(error) or "slow"
                    log.warning("sink_retry sink=%s in=%.1fs why=%s", self.name, wait, why)
                    await asyncio.sleep(wait)
                    pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
                except Rejected as error:
                    self._counts.trouble = ""
                    refused = len(batch) if error.items is None else error.items
                    log.warning("sink_rejected sink=%s events=%d why=%s", self.name, refused, error)
                    return "rejected", refused
                except Closed as error:
                    self._finish("closed", str(error))
                except Exception:
                    # A defect of one sink must not stop the agent or the other sinks.
                    log.exception("sink_failed sink=%s events=%d", self.name, len(batch))
                    return "sink error", None
                else:
                    self._counts.trouble = ""
                    quick = time.monotonic() - started < PROMPT_SECONDS
                    self._prompt = quick and self._is_immediate
                    return None, None
        raise _Undelivered

    async def _pace(self, batch: Batch) -> None:
        """Wait until the bytes that were sent before are paid for."""
        limit = self._config.bytes_per_second
        if not limit:
            return
        now = time.monotonic()
        start = max(self._next_at, now)
        self._next_at = start + len(batch.ndjson(self._sink.encoder or encode)) / limit
        await asyncio.sleep(start - now)

    def _leave(self, batch: Batch, dropped: str | None, items: int | None = None) -> None:
        """The batch was delivered or dropped; see `_account`."""
        if not self._under_way or self._under_way[0] is not batch:
            # A send that outlived the deadline: counted when the queue was dropped.
            return
        self._under_way.popleft()
        self._counts.queued -= len(batch)
        self._account(len(batch), dropped, items)

    def _account(self, size: int, dropped: str | None, items: int | None = None) -> None:
        """So many items were delivered, or dropped for a reason.

        Where only so many `items` of them were dropped, the others were delivered.
        """
        lost = 0
        if dropped is not None:
            lost = size if items is None else min(items, size)
            self._counts.dropped[dropped] += lost
        self._counts.delivered += size - lost

    def _finish(self, reason: str, why: str) -> None:
        self._finished = reason
        self._drop_queue(reason)
        self._on_closed(self.name, why)

    def _drop_queue(self, reason: str) -> None:
        for batch in (*self._under_way, *self._queue):
            self._counts.queued -= len(batch)
            self._account(len(batch), reason)
        self._under_way.clear()
        self._queue.clear()
        self._waiting = 0
        self._idle.set()

    # The spool.

    async def _open_spool(self, spool: Spool) -> None:
        """A spool that cannot be used is told, counted, and tried again some time."""
        self._reopen_at = time.monotonic() + REOPEN_SECONDS
        try:
            lost = await self._spool_worker.submit(spool.open)
        except OSError as error:
            self._say_spool_failed(error)
            return
        items = spool.items
        # What this run has put there itself is counted already.
        found = items + lost.total() - self._counts.spooled
        if found:
            log.info("spool_found sink=%s events=%d", self.name, found)
        self._counts.routed += found
        self._counts.recovered += found
        self._counts.spooled = items
        self._counts.dropped.update(lost)
        self._spooled.set()

    def _say_spool_failed(self, error: Exception) -> None:
        why = getattr(error, "strerror", None) or error
        self._counts.spool_failures += 1
        log.warning("spool_failed sink=%s why=%s", self.name, why)

    async def _fill_spool(self, spool: Spool) -> None:
        while True:
            for batch in await self._collected():
                if not spool.is_open and time.monotonic() > self._reopen_at:
                    # That another agent has it now is no reason to end.
                    with suppress(NodeagentError):
                        await self._open_spool(spool)
                if not spool.is_open or not await self._put(spool, batch):
                    # What cannot wait on the disk goes straight to the sink.
                    await self._deliver_now(batch)
            self._rest()

    async def _put(self, spool: Spool, batch: Batch) -> bool:
        """Bring the batch to the disk; false when that failed."""
        encoder = self._sink.encoder or encode
        facts = batch.facts if self._sink.NEEDS_FACTS else None
        lane = lane_of(batch.items[0])
        lines = batch.ndjson(encoder)
        put = partial(spool.put, lane, batch.key, facts, lines, len(batch))
        try:
            dropped = await self._spool_worker.submit(put)
        except OSError as error:
            self._say_spool_failed(error)
            return False
        if self._under_way and self._under_way[0] is batch:
            self._under_way.popleft()
            self._counts.queued -= len(batch)
            self._counts.spooled += len(batch)
            self._drop_spooled(dropped)
        self._spool_empty.clear()
        self._spooled.set()
        return True

    async def _empty_spool(self, spool: Spool) -> None:
        while True:
            await self._spooled.wait()
            self._spooled.clear()
            while (stored := await self._next(spool)) is not None:
                batch = StoredBatch(stored.key, stored.items, stored.packed, stored.facts)
                try:
                    dropped, refused = await self._deliver(batch)
                except _Undelivered:
                    return
                if await self._spool_worker.submit(partial(spool.done, stored)):
                    self._counts.spooled -= stored.items
                    self._account(stored.items, dropped, refused)
            if not self._spooled.is_set():
                self._spool_empty.set()

    async def _next(self, spool: Spool) -> Stored | None:
        try:
            stored, lost = await self._spool_worker.submit(spool.next)
        except OSError as error:
            # What cannot be read now may be read by the next try.
            self._say_spool_failed(error)
            await asyncio.sleep(REOPEN_SECONDS)
            self._spooled.set()
            return None
        self._drop_spooled(lost)
        return stored

    def _drop_spooled(self, dropped: Counter[str]) -> None:
        self._counts.spooled -= dropped.total()
        self._counts.dropped.update(dropped)

    async def _sync_spool(self, spool: Spool) -> None:
        while True:
            await asyncio.sleep(self._fsync_seconds)
            try:
                await self._spool_worker.submit(spool.sync_at_interval)
            except OSError as error:
                self._say_spool_failed(error)


def lane_of(item: Item) -> Lane:
    """Whether it is precious."""
    if isinstance(item, Event) and item.kind not in HIGH_VALUE:
        return "bulk"
    return "high"


def by_lane(batch: Batch) -> list[Batch]:
    """The same in one batch for each lane."""
    bulk = [lane_of(item) == "bulk" for item in batch.items]
    if all(bulk) or not any(bulk):
        return [batch]
    return [batch.only([not each for each in bulk]), batch.only(bulk)]


class Router:
    """Hands each batch to every outlet that wants it."""

    def __init__(self, outlets: Sequence[Outlet]) -> None:
        """Each takes what its sink was made for."""
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
