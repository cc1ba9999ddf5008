# SPDX-License-Identifier: Apache-2.0

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest

from nodeagent import outlet as outlet_module
from nodeagent.errors import Closed, Rejected, Retry
from nodeagent.finding import Severity
from nodeagent.identity import Item
from nodeagent.ledger import Ledger, SinkCounts
from nodeagent.outlet import Outlet, Router
from nodeagent.sink import Batch, Sink, SinkConfig
from tests.events import a_finding, an_exec
from tests.polling import DEADLINE_SECONDS, until


class Script(Sink):
    """Meets each attempt with the next of `answers`, and takes the batch when there is none."""

    def __init__(self, *answers: BaseException | asyncio.Event) -> None:
        self.answers = list(answers)
        self.attempts: list[float] = []
        self.taken: list[Batch] = []
        self.closed = False

    async def open(self) -> None:
        pass

    async def send(self, batch: Batch) -> None:
        self.attempts.append(asyncio.get_running_loop().time())
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, asyncio.Event):
            await answer.wait()
        elif answer is not None:
            raise answer
        self.taken.append(batch)

    async def close(self) -> None:
        self.closed = True


class Lab:
    """Outlets that run, and the ledger that has to balance in the end."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self.group = group
        self.ledger = Ledger()
        self.tasks: list[asyncio.Task[None]] = []
        self.closed: list[tuple[str, str]] = []

    def outlet(
        self,
        sink: Sink,
        name: str = "script",
        queue_events: int = 100,
        timeout_seconds: float = DEADLINE_SECONDS,
        bytes_per_second: int = 0,
    ) -> tuple[Outlet, SinkCounts]:
        counts = self.ledger.sink(name)
        config = SinkConfig(
            queue_events=queue_events,
            timeout_seconds=timeout_seconds,
            bytes_per_second=bytes_per_second,
        )
        outlet = Outlet(name, sink, config, counts, lambda *why: self.closed.append(why))
        self.tasks.append(self.group.create_task(outlet.run()))
        return outlet, counts


@asynccontextmanager
async def running() -> AsyncIterator[Lab]:
    """A lab whose outlets end with the block. Ledgers balance then, whatever happened."""
    async with asyncio.TaskGroup() as group:
        lab = Lab(group)
        yield lab
        assert lab.ledger.imbalances() == []
        for task in lab.tasks:
            task.cancel()
    assert lab.ledger.imbalances() == []


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlet_module, "FIRST_PAUSE_SECONDS", 0.01)


def events(number: int) -> Batch:
    return Batch([an_exec() for _ in range(number)])


def items(*batches: Batch) -> list[tuple[Item, ...]]:
    return [batch.items for batch in batches]


@pytest.fixture
def never() -> asyncio.Event:
    return asyncio.Event()


async def test_batches_are_delivered_in_order() -> None:
    async with running() as lab:
        script = Script()
        outlet, counts = lab.outlet(script)
        batches = [events(3) for _ in range(10)]
        for batch in batches:
            outlet.offer(batch)
        await outlet.settle()
        assert items(*script.taken) == items(*batches)
        assert counts == SinkCounts(routed=30, delivered=30)


async def test_a_full_queue_drops_the_newest_and_counts_them(never: asyncio.Event) -> None:
    async with running() as lab:
        outlet, counts = lab.outlet(Script(never), queue_events=10)
        for size in (6, 4, 1, 7):
            outlet.offer(events(size))
        assert counts.dropped == {"queue full": 8}
        assert counts.queued == 10


async def test_a_batch_larger_than_the_queue_is_taken_when_the_queue_is_empty() -> None:
    async with running() as lab:
        outlet, counts = lab.outlet(Script(), queue_events=10)
        outlet.offer(events(50))
        await outlet.settle()
        assert counts.delivered == 50


async def test_a_batch_is_tried_again_until_it_is_taken() -> None:
    async with running() as lab:
        script = Script(Retry("busy"), Retry("busy"), Retry("busy"))
        outlet, counts = lab.outlet(script)
        first, second = events(2), events(3)
        outlet.offer(first)
        outlet.offer(second)
        await outlet.settle()
        assert items(*script.taken) == items(first, second)
        assert counts == SinkCounts(routed=5, delivered=5)


async def test_a_sink_says_how_long_to_wait_before_the_next_attempt() -> None:
    async with running() as lab:
        script = Script(Retry("too many requests", after_seconds=0.15))
        outlet, _ = lab.outlet(script)
        outlet.offer(events(1))
        await outlet.settle()
        first, second = script.attempts
        assert 0.14 < second - first < 2


async def test_pauses_grow_while_a_sink_fails() -> None:
    async with running() as lab:
        script = Script(*[Retry("busy") for _ in range(5)])
        outlet, _ = lab.outlet(script)
        outlet.offer(events(1))
        await outlet.settle()
        # At least half of 10 + 20 + 40 + 80 + 160 ms.
        assert script.attempts[-1] - script.attempts[0] > 0.155


async def test_a_rejected_batch_is_dropped_and_counted() -> None:
    async with running() as lab:
        script = Script(Rejected("no such index"))
        outlet, counts = lab.outlet(script)
        outlet.offer(events(2))
        outlet.offer(events(3))
        await outlet.settle()
        assert counts.dropped == {"rejected": 2}
        assert counts.delivered == 3


async def test_an_attempt_that_takes_too_long_is_made_again(
    never: asyncio.Event, caplog: pytest.LogCaptureFixture
) -> None:
    async with running() as lab:
        script = Script(never)
        outlet, counts = lab.outlet(script, timeout_seconds=0.02)
        outlet.offer(events(2))
        await outlet.settle()
        assert len(script.attempts) == 2
        assert counts.delivered == 2
    assert "why=slow" in caplog.text


async def test_a_closed_sink_drops_what_is_queued_and_what_comes() -> None:
    async with running() as lab:
        outlet, counts = lab.outlet(Script(Closed("nobody reads")))
        outlet.offer(events(2))
        outlet.offer(events(3))
        await outlet.settle()
        outlet.offer(events(4))
        assert counts.dropped == {"closed": 9}
        assert lab.closed == [("script", "nobody reads")]


async def test_a_defect_in_one_sink_does_not_stop_it_or_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running() as lab:
        broken, broken_counts = lab.outlet(Script(ZeroDivisionError()), "broken")
        good, good_counts = lab.outlet(Script(), "good")
        router = Router([broken, good])
        router.offer(events(2))
        router.offer(events(3))
        await router.settle()
        assert broken_counts == SinkCounts(
            routed=5, delivered=3, dropped=Counter({"sink error": 2})
        )
        assert good_counts == SinkCounts(routed=5, delivered=5)
    assert "sink_failed sink=broken" in caplog.text


async def test_a_slow_sink_does_not_slow_another_one(never: asyncio.Event) -> None:
    async with running() as lab:
        slow, slow_counts = lab.outlet(Script(never), "slow", queue_events=5)
        fast, fast_counts = lab.outlet(Script(), "fast", queue_events=5)
        router = Router([slow, fast])
        for _ in range(10):
            router.offer(events(5))
            await fast.settle()
        assert fast_counts.delivered == 50
        assert slow_counts == SinkCounts(routed=50, queued=5, dropped=Counter({"queue full": 45}))


async def test_draining_waits_for_the_queue() -> None:
    async with running() as lab:
        outlet, counts = lab.outlet(Script(Retry("busy")))
        outlet.offer(events(2))
        await outlet.drain(DEADLINE_SECONDS)
        assert counts == SinkCounts(routed=2, delivered=2)


async def test_what_is_not_drained_in_time_is_dropped_and_counted(never: asyncio.Event) -> None:
    async with running() as lab:
        outlet, counts = lab.outlet(Script(never))
        outlet.offer(events(2))
        outlet.offer(events(3))
        await outlet.drain(0.02)
        assert counts == SinkCounts(routed=5, dropped=Counter({"shutdown": 5}))


async def test_a_send_that_outlives_the_deadline_is_counted_once(never: asyncio.Event) -> None:
    async with running() as lab:
        script = Script(never)
        outlet, counts = lab.outlet(script)
        outlet.offer(events(2))
        outlet.offer(events(3))
        await outlet.drain(0.02)
        never.set()
        await until(lambda: len(script.taken) == 1)
        assert counts == SinkCounts(routed=5, dropped=Counter({"shutdown": 5}))


async def test_a_retry_that_outlives_the_deadline_is_not_made() -> None:
    async with running() as lab:
        script = Script(Retry("busy", after_seconds=0.05))
        outlet, counts = lab.outlet(script)
        outlet.offer(events(2))
        await outlet.drain(0.01)
        outlet.offer(events(3))
        await asyncio.sleep(0.1)
        assert script.taken == []
        assert counts == SinkCounts(routed=5, dropped=Counter({"shutdown": 5}), trouble="busy")


async def test_a_sink_that_hangs_in_close_does_not_keep_the_agent(
    never: asyncio.Event, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Hangs(Script):
        async def close(self) -> None:
            await never.wait()

    monkeypatch.setattr(outlet_module, "CLOSE_SECONDS", 0.02)
    async with running() as lab:
        outlet, _ = lab.outlet(Hangs())
        async with asyncio.timeout(DEADLINE_SECONDS):
            await outlet.close()
    assert "sink_not_closed sink=script" in caplog.text


async def test_a_failure_in_close_is_told_and_not_raised(caplog: pytest.LogCaptureFixture) -> None:
    class Fails(Script):
        async def close(self) -> None:
            raise OSError("gone")

    caplog.set_level(logging.WARNING)
    async with running() as lab:
        outlet, _ = lab.outlet(Fails())
        await outlet.close()
    assert "sink_close_failed sink=script why=gone" in caplog.text


async def test_a_sink_for_findings_gets_neither_events_nor_signals() -> None:
    class ForFindings(Script):
        FINDINGS_ONLY = True

    async with running() as lab:
        outlet, counts = lab.outlet(sink := ForFindings())
        signal = a_finding(title="weak", severity=Severity.INFORMATIONAL)
        outlet.offer(Batch([an_exec()], [signal]))
        outlet.offer(Batch([an_exec()], [signal, a_finding()]))
        await outlet.settle()
    assert [batch.items for batch in sink.taken] == [(a_finding(),)]
    assert counts.delivered == counts.routed == 1


async def test_bytes_are_paced_and_what_waits_stays_queued() -> None:
    sink = Script()
    batches = [Batch([an_exec()]) for _ in range(4)]
    size = len(batches[0].ndjson())
    async with running() as lab:
        outlet, counts = lab.outlet(sink, bytes_per_second=size * 5)
        for batch in batches:
            outlet.offer(batch)
        await until(lambda: len(sink.taken) == 1)
        assert counts.queued == 3
        await until(lambda: len(sink.taken) == 4)
    gaps = [later - earlier for earlier, later in pairwise(sink.attempts)]
    assert min(gaps) >= 0.19


async def test_end_does_not_wait_for_bytes_that_nobody_may_send() -> None:
    sink = Script()
    async with running() as lab:
        outlet, counts = lab.outlet(sink, bytes_per_second=1)
        for _ in range(3):
            outlet.offer(Batch([an_exec()]))
        await until(lambda: len(sink.taken) == 1)
        await outlet.drain(0.1)
        assert counts.dropped == Counter({"shutdown": 2})
    assert len(sink.taken) == 1
