# SPDX-License-Identifier: Apache-2.0
"""What every sink must do, as tests of pytest: ours pass them, and so can yours.

    from nodeagent.compliance import Peer, SinkCompliance

    class TestMine(SinkCompliance):
        sink = Mine

        @asynccontextmanager
        async def peer(self):
            ...
            yield peer

docs/plugins.md has a whole one.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar, Final, Protocol

from nodeagent.encode import lineage_json, process_json
from nodeagent.errors import Rejected, Retry
from nodeagent.event import Incomplete, Process, Task, Unlink
from nodeagent.finding import Finding, Severity
from nodeagent.ledger import Ledger
from nodeagent.outlet import Outlet
from nodeagent.sink import Batch, Sink, StoredBatch, packed

__all__ = ["Peer", "SinkCompliance"]

POLL_SECONDS: Final = 0.02
MANY: Final = 2000
LONG: Final = 200_000
HOSTILE: Final = '\n\r\0"\\\x1b[31m</script>\u202e\\xff{}%s'
"""What names of files may hold; bytes that are no text come as \\xff."""


class Peer(Protocol):
    """The other side of a sink."""

    settings: dict[str, Any]
    """Of the sink, so that it reaches this peer."""

    async def received(self) -> str:
        """All that came, as text."""

    async def stop(self) -> None:
        """Be away, as after a crash."""

    async def start(self) -> None:
        """Be back where it was; what came before may be forgotten."""


class SinkCompliance(ABC):
    """Subclass it in a module of tests, under a name that begins with Test."""

    sink: ClassVar[type[Sink]]
    has_peer: ClassVar[bool] = True
    """The other side can be away. False for files and the like; then it is never stopped."""

    patience_seconds: ClassVar[float] = 30.0
    """After that something did not arrive."""

    @abstractmethod
    def peer(self) -> AbstractAsyncContextManager[Peer]:
        """One that runs, and has received nothing yet."""

    def test_batches_arrive(self) -> None:
        """One after the other, all that is in them."""

        async def check(sink: Sink, peer: Peer) -> None:
            marks = [_mark() for _ in range(3)]
            for mark in marks:
                await sink.send(self._batch(mark))
            await self._arrived(peer, marks)

        self._run(check)

    def test_batch_is_large(self) -> None:
        """Thousands of events at once."""

        async def check(sink: Sink, peer: Peer) -> None:
            marks = [_mark() for _ in range(MANY)]
            await sink.send(self._batch(*marks))
            await self._arrived(peer, marks)

        self._run(check)

    def test_names_are_hostile(self) -> None:
        """Control characters, quotes, bytes that are no text: all goes on, nothing is cut off."""

        async def check(sink: Sink, peer: Peer) -> None:
            first, last, after = _mark(), _mark(), _mark()
            await sink.send(self._batch(f"{first}{HOSTILE}{last}"))
            await sink.send(self._batch(after))
            await self._arrived(peer, [first, last, after])

        self._run(check)

    def test_event_is_too_long_for_some(self) -> None:
        """It is taken or rejected, and stands in nobody's way."""

        async def check(sink: Sink, peer: Peer) -> None:
            after = _mark()
            with contextlib.suppress(Rejected):
                await sink.send(self._batch("x" * LONG))
            await sink.send(self._batch(after))
            await self._arrived(peer, [after])

        self._run(check)

    def test_send_is_given_up(self) -> None:
        """A batch whose sending was cancelled, wherever it was, spoils no other one."""

        async def check(sink: Sink, peer: Peer) -> None:
            for steps in range(5):
                async with asyncio.TaskGroup() as group:
                    sending = group.create_task(sink.send(self._batch(_mark())))
                    for _ in range(steps):
                        await asyncio.sleep(0)
                    sending.cancel()
            after = _mark()
            await sink.send(self._batch(after))
            await self._arrived(peer, [after])

        self._run(check)

    def test_close_is_safe(self) -> None:
        """It may come before the opening, and twice."""

        async def check(peer: Peer) -> None:
            await self._made(peer).close()
            sink = self._made(peer)
            await sink.open()
            await sink.close()
            await sink.close()

        self._run_with_peer(check)

    def test_batch_has_waited_on_the_disk(self) -> None:
        """What comes from a spool is the same to a sink that says how its lines are made."""

        async def check(sink: Sink, peer: Peer) -> None:
            if sink.encoder is None:
                # It cannot have a spool.
                return
            mark = _mark()
            batch = self._batch(mark)
            facts = batch.facts if sink.NEEDS_FACTS else ()
            lines = packed(batch.ndjson(sink.encoder))
            await sink.send(StoredBatch("key-1", len(batch), lines, facts))
            await self._arrived(peer, [mark])

        self._run(check)

    def test_peer_is_away(self) -> None:
        """The agent starts without it; what is sent is to be tried again, and arrives then."""

        async def check(peer: Peer) -> None:
            if not self.has_peer:
                return
            await peer.stop()
            sink = self._made(peer)
            await sink.open()
            try:
                assert await self._is_refused(sink), "a batch was taken by nobody"
                await peer.start()
                mark = _mark()
                await self._persistent(sink, self._batch(mark))
                await self._arrived(peer, [mark])
            finally:
                await sink.close()

        self._run_with_peer(check)

    def test_nothing_is_lost_while_the_peer_is_away(self) -> None:
        """With the queue of an agent in front."""

        async def check(peer: Peer) -> None:
            if not self.has_peer:
                return
            ledger, marks = Ledger(), [_mark() for _ in range(10)]
            sink = self._made(peer)
            counts = ledger.sink("sink")
            outlet = Outlet("sink", sink, sink.Config(**peer.settings), counts, _closed)
            await peer.stop()
            await outlet.open()
            async with asyncio.TaskGroup() as group:
                running = group.create_task(outlet.run())
                for mark in marks:
                    outlet.offer(self._batch(mark))
                # In the middle of its attempts.
                await asyncio.sleep(1)
                await peer.start()
                await outlet.drain(self.patience_seconds)
                running.cancel()
            await outlet.close()
            assert counts.routed == counts.delivered == len(marks), counts
            assert ledger.imbalances() == []
            await self._arrived(peer, marks)

        self._run_with_peer(check)

    def _batch(self, *texts: str) -> Batch:
        if self.sink.FINDINGS_ONLY:
            return Batch((), [_finding(text) for text in texts])
        return Batch([_event(text) for text in texts])

    def _made(self, peer: Peer) -> Sink:
        return self.sink(self.sink.Config(**peer.settings))

    async def _is_refused(self, sink: Sink) -> bool:
        """The first ones may go into a connection that does not know yet."""
        for _ in range(100):
            try:
                async with asyncio.timeout(self.patience_seconds):
                    await sink.send(self._batch(_mark()))
            except Retry:
                return True
            await asyncio.sleep(POLL_SECONDS)
        return False

    async def _persistent(self, sink: Sink, batch: Batch) -> None:
        """As an outlet does it, with less patience."""
        end = time.monotonic() + self.patience_seconds
        while True:
            try:
                return await sink.send(batch)
            except Retry:
                if time.monotonic() > end:
                    raise
                await asyncio.sleep(POLL_SECONDS)

    async def _arrived(self, peer: Peer, marks: Collection[str]) -> None:
        missing = list(marks)
        end = time.monotonic() + self.patience_seconds
        while missing and time.monotonic() < end:
            found = await peer.received()
            missing = [mark for mark in missing if mark not in found]
            if missing:
                await asyncio.sleep(POLL_SECONDS)
        assert not missing, f"{len(missing)} of {len(marks)} did not arrive"

    def _run(self, check: Callable[[Sink, Peer], Awaitable[None]]) -> None:
        async def run(peer: Peer) -> None:
            sink = self._made(peer)
            await sink.open()
            try:
                await check(sink, peer)
            finally:
                await sink.close()

        self._run_with_peer(run)

    def _run_with_peer(self, check: Callable[[Peer], Awaitable[None]]) -> None:
        async def run() -> None:
            async with self.peer() as peer:
                await check(peer)

        asyncio.run(run())


def _closed(name: str, why: str) -> None:
    raise AssertionError(f"{name} says that nobody reads any more: {why}")


def _mark() -> str:
    return f"mark{uuid.uuid4().hex}"


def _event(path: str) -> Unlink:
    task = Task(
        start_time=1_000_000_000,
        cgroup=1,
        pid=1234,
        parent_pid=1,
        uid=0,
        gid=0,
        euid=0,
        egid=0,
        login_uid=0xFFFFFFFF,
        session_id=0xFFFFFFFF,
        exec_id=1,
        comm="compliance",
    )
    process = Process(task, "/usr/bin/compliance", None, (), str(uuid.UUID(int=1)), b"")
    process.json = process_json(process, lineage_json((), 0), 0)
    return Unlink(
        time=time.time_ns(),
        sequence=1,
        cpu=0,
        tid=1234,
        result=0,
        task=b"",
        process=process,
        incomplete=Incomplete((), {}),
        added=None,
        path=path,
        flags=0,
        unverified=False,
    )


def _finding(title: str) -> Finding:
    now = time.time_ns()
    return Finding(
        id=uuid.uuid4().hex,
        type="Execution:Runtime/ReverseShell",
        severity=Severity.HIGH,
        title=title,
        mitre=("T1059.004",),
        resource={"node": "node-1"},
        process={"pid": 1234},
        context={},
        action=None,
        evidence={"rule": "reverse_shell", "weight": 80},
        first_seen=now,
        last_seen=now,
    )
