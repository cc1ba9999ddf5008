# SPDX-License-Identifier: Apache-2.0
"""Outlets whose batches wait on a disk: faults of the sink, of the disk and of the agent."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from nodeagent import outlet as outlet_module
from nodeagent.encode import encode
from nodeagent.errors import Retry
from nodeagent.ledger import Ledger
from nodeagent.outlet import Outlet
from nodeagent.sink import Batch, Sink, SinkConfig
from nodeagent.spool import Spool
from tests.delivery.kills import killed, lost_between, under_two_keys
from tests.events import a_finding, an_exec, an_open
from tests.polling import DEADLINE_SECONDS, until

SPOOL_BYTES = 1 << 20
KILLS = 15


class Server(Sink):
    """Takes batches while it is up; keeps lines by key as a receiver does."""

    def __init__(self) -> None:
        self.encoder = encode
        self.up = True
        self.taken: dict[str, list[bytes]] = {}
        self.attempts = 0

    async def open(self) -> None:
        pass

    async def send(self, batch: Batch) -> None:
        self.attempts += 1
        if not self.up:
            raise Retry("down")
        assert batch.key not in self.taken
        self.taken[batch.key] = batch.lines(encode)

    async def close(self) -> None:
        pass

    @property
    def lines(self) -> list[bytes]:
        return [line for lines in self.taken.values() for line in lines]


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlet_module, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(outlet_module, "LONGEST_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(outlet_module, "REOPEN_SECONDS", 0.05)


@asynccontextmanager
async def running(
    sink: Sink, folder: Path | None, drain_seconds: float = DEADLINE_SECONDS, **settings: float
) -> AsyncIterator[tuple[Outlet, Ledger]]:
    """An outlet from start to end, whose ledger balances at the end of both."""
    ledger = Ledger()
    config = SinkConfig(**settings)  # type: ignore[arg-type]
    spool = Spool(folder, SPOOL_BYTES) if folder else None
    outlet = Outlet("https", sink, config, ledger.sink("https"), print, spool=spool)
    await outlet.open()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(outlet.run())
        yield outlet, ledger
        assert ledger.imbalances() == []
        await outlet.drain(drain_seconds)
        task.cancel()
    await outlet.close()
    assert ledger.imbalances() == []


def events(start: int, stop: int) -> Batch:
    return Batch([an_open(sequence=number) for number in range(start, stop)])


async def test_what_comes_while_the_sink_is_down_is_delivered_when_it_is_up(tmp_path: Path) -> None:
    server = Server()
    server.up = False
    async with running(server, tmp_path) as (outlet, ledger):
        for start in range(0, 1000, 10):
            outlet.offer(events(start, start + 10))
        counts = ledger.sink("https")
        await until(lambda: counts.spooled == 1000)
        assert counts.queued == 0
        await until(lambda: server.attempts > 3)
        server.up = True
        await until(lambda: counts.delivered == 1000)
    assert server.lines == events(0, 1000).lines()


async def test_what_the_end_of_a_run_leaves_the_next_one_delivers_under_its_key(
    tmp_path: Path,
) -> None:
    first = Server()
    first.up = False
    async with running(first, tmp_path, drain_seconds=0.1) as (outlet, ledger):
        outlet.offer(events(0, 50))
        outlet.offer(Batch([an_exec()], [a_finding()]))
        await until(lambda: ledger.sink("https").spooled == 52)
    counts = ledger.sink("https")
    assert (counts.routed, counts.spooled, counts.dropped) == (52, 52, {})
    second = Server()
    async with running(second, tmp_path) as (outlet, ledger):
        outlet.offer(events(50, 60))
        await until(lambda: len(second.lines) == 62)
    counts = ledger.sink("https")
    assert (counts.routed, counts.recovered, counts.delivered) == (62, 52, 62)
    # Findings and rare kinds come first.
    assert second.lines[:2] == Batch([an_exec()], [a_finding()]).lines()
    runs = Counter(key.rpartition("-")[0] for key in second.taken)
    assert sorted(runs.values()) == [1, 2]


async def test_full_spool_is_counted_and_findings_stay(tmp_path: Path) -> None:
    server = Server()
    server.up = False
    noise = random.Random(7)
    async with running(server, tmp_path, drain_seconds=0.01) as (outlet, ledger):
        outlet.offer(Batch((), [a_finding(title=str(number)) for number in range(20)]))
        counts = ledger.sink("https")
        for number in range(100):
            outlet.offer(Batch([an_open(path=noise.randbytes(15_000).hex()) for _ in range(2)]))
            await until(lambda: counts.queued == 0)
            assert ledger.imbalances() == [], number
    assert counts.dropped["spool full"] > 50
    again = Server()
    async with running(again, tmp_path) as (outlet, ledger):
        await until(lambda: ledger.sink("https").spooled == 0)
    found = [line for line in again.lines if b'"kind":"finding"' in line]
    assert len(found) == 20


@pytest.mark.parametrize("trouble", ["a file in its place", "others may write", "gone"])
async def test_disk_that_does_not_want_to_costs_nothing_but_the_spool(
    tmp_path: Path, trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "spool"
    if trouble == "a file in its place":
        folder.write_text("")
    elif trouble == "others may write":
        folder.mkdir()
        folder.chmod(0o777)
    server = Server()
    async with running(server, folder, batch_seconds=0.05) as (outlet, ledger):
        counts = ledger.sink("https")
        if trouble == "gone":
            # The first segment cannot be made.
            folder.rmdir()
        outlet.offer(events(0, 10))
        await until(lambda: counts.delivered == 10)
        assert counts.spool_failures
        folder.unlink() if folder.is_file() else None
        folder.mkdir(exist_ok=True)
        folder.chmod(0o700)
        server.up = trouble == "gone"
        outlet.offer(events(10, 20))
        if trouble != "gone":
            await asyncio.sleep(0.1)
            outlet.offer(events(20, 30))
            await until(lambda: counts.spooled == 10 or counts.queued == 20)
            server.up = True
        await until(lambda: counts.delivered == counts.routed)
    assert "spool_failed sink=https" in caplog.text


async def test_full_disk_costs_nothing_while_the_sink_is_up(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server()
    server.up = False
    noise = random.Random(5)
    async with running(server, small_disk / "https") as (outlet, ledger):
        counts = ledger.sink("https")
        # More than the disk holds, less than the spool may take.
        for _ in range(40):
            outlet.offer(Batch([an_open(path=noise.randbytes(7_000).hex())]))
        await until(lambda: counts.spool_failures)
        assert counts.spooled > 10
        server.up = True
        await until(lambda: counts.delivered == 40)
    assert "why=No space left on device" in caplog.text
    assert len(server.lines) == 40


async def test_batches_are_full_or_old_enough(tmp_path: Path) -> None:
    server = Server()
    async with running(server, None, batch_seconds=0.2, batch_events=25) as (outlet, _):
        loop = asyncio.get_running_loop()
        started = loop.time()
        for start in range(0, 40, 10):
            outlet.offer(events(start, start + 10))
        await outlet_has(server, 2)
        # 20 are full enough for the next ten; the others are old enough.
        assert [len(lines) for lines in server.taken.values()] == [20, 20]
        assert server.lines == events(0, 40).lines()
        assert loop.time() - started >= 0.2
        outlet.offer(events(40, 45))
        started = loop.time()
    # Nobody waits at the end.
    assert loop.time() - started < 0.2
    assert len(server.lines) == 45


async def outlet_has(server: Server, batches: int) -> None:
    await until(lambda: len(server.taken) == batches)


async def test_long_lines_are_sent_in_parts(tmp_path: Path) -> None:
    server = Server()
    batch = Batch([an_open(sequence=number, path="x" * 100_000) for number in range(30)])
    async with running(server, tmp_path) as (outlet, _):
        outlet.offer(batch)
    assert server.lines == batch.lines()
    assert all(sum(map(len, lines)) <= 1 << 20 for lines in server.taken.values())


async def test_killed_again_and_again_nothing_is_lost_or_comes_under_two_keys(
    tmp_path: Path,
) -> None:
    keys = await killed(tmp_path, KILLS)
    assert under_two_keys(keys) == 0
    assert lost_between(keys) == 0
    assert len(keys) > KILLS / 2
