# SPDX-License-Identifier: Apache-2.0
"""A day with a sink that is down, slow, flapping and forgetful, in seconds."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from nodeagent import outlet as outlet_module
from nodeagent.encode import encode
from nodeagent.errors import Retry
from nodeagent.ledger import Ledger
from nodeagent.outlet import Outlet
from nodeagent.sink import Batch, Sink, SinkConfig
from nodeagent.spool import Spool
from tests.events import a_finding, an_exec, an_open
from tests.polling import until

WEATHER = ("up", "down", "slow", "flapping", "half", "forgetful")
HOURS = 24
HOUR_SECONDS = 0.25
TIMEOUT_SECONDS = 0.05


class Changeable(Sink):
    """A server whose mood changes by the hour; it keeps what it took by key."""

    def __init__(self, noise: random.Random) -> None:
        self.encoder = encode
        self.mood = "up"
        self.taken: dict[str, bytes] = {}
        self.came: Counter[str] = Counter()
        self._noise = noise
        self._turn = 0

    async def open(self) -> None:
        pass

    async def send(self, batch: Batch) -> None:
        self._turn += 1
        if self.mood == "down":
            raise Retry("no route to host")
        if self.mood == "slow":
            await asyncio.sleep(self._noise.uniform(0, 2 * TIMEOUT_SECONDS))
        if self.mood == "flapping" and self._turn % 3:
            raise Retry("connection reset", after_seconds=0.0)
        if self.mood == "half" and self._noise.random() < 0.5:
            raise Retry("HTTP 503", after_seconds=0.001)
        body = batch.ndjson(encode)
        assert self.taken.setdefault(batch.key, body) == body
        self.came[batch.key] += 1
        if self.mood == "forgetful" and self._noise.random() < 0.5:
            # It has the batch, but its answer is lost.
            raise Retry("connection reset before the answer", after_seconds=0.001)

    async def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlet_module, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(outlet_module, "LONGEST_PAUSE_SECONDS", 0.02)


@pytest.mark.parametrize("seed", range(3))
async def test_day_of_bad_weather_loses_nothing_and_doubles_only_under_a_key(
    tmp_path: Path, seed: int
) -> None:
    noise = random.Random(seed)
    sink = Changeable(noise)
    ledger = Ledger()
    counts = ledger.sink("https")
    config = SinkConfig(batch_seconds=0.01, timeout_seconds=TIMEOUT_SECONDS, queue_events=100_000)
    spool = Spool(tmp_path / "spool", 64 << 20)
    outlet = Outlet("https", sink, config, counts, print, spool=spool)
    await outlet.open()
    offered = 0
    async with asyncio.TaskGroup() as group:
        task = group.create_task(outlet.run())
        for _ in range(HOURS):
            sink.mood = noise.choice(WEATHER)
            end = asyncio.get_running_loop().time() + HOUR_SECONDS
            while asyncio.get_running_loop().time() < end:
                size = noise.randrange(1, 60)
                opens = [an_open(sequence=offered + number) for number in range(size)]
                precious = [an_exec(sequence=offered)] if noise.random() < 0.2 else []
                outlet.offer(Batch([*opens, *precious], [a_finding(count=offered + 1)]))
                offered += size + len(precious) + 1
                assert ledger.imbalances() == []
                await asyncio.sleep(0.002)
        sink.mood = "up"
        await until(lambda: counts.delivered == counts.routed)
        await outlet.drain(10)
        task.cancel()
    await outlet.close()
    assert ledger.imbalances() == []
    assert counts.routed == counts.delivered == offered
    assert not counts.dropped
    lines = [line for body in sink.taken.values() for line in body.splitlines()]
    assert len(lines) == len(set(lines)) == offered
    # What came twice came under its key, and in each lane in the order in which it was offered.
    assert sink.came.total() >= len(sink.taken)
    order = defaultdict(list)
    for key, body in sink.taken.items():
        lane = "bulk" if b'"kind":"open"' in body else "high"
        order[lane].append(int(key.rpartition("-")[2]))
    assert all(numbers == sorted(numbers) for numbers in order.values())
