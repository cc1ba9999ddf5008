# SPDX-License-Identifier: Apache-2.0
"""A thread for calls that may wait for a disk or a reader."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from threading import Thread, current_thread
from typing import Final, TypeVar

from nodeagent.sink import Batch

T = TypeVar("T")

log: Final = logging.getLogger(__name__)


class Worker:
    """Makes blocking calls one after the other, in the order in which they came.

    asyncio.to_thread will not do: the end of the process would wait for a call that
    never returns, like a write to a pipe that nobody reads.
    """

    def __init__(self, name: str) -> None:
        """The thread starts with the first call, also with the first after its end."""
        self._name = name
        self._calls: SimpleQueue[Callable[[], object] | None] | None = None
        self._batch: Batch | None = None
        self._begun: asyncio.Future[None] | None = None

    def post(self, call: Callable[[], object]) -> None:
        """Make the call some time; what it raises is logged."""
        if self._calls is None:
            self._calls = SimpleQueue()
            Thread(target=_work, args=(self._calls,), name=self._name, daemon=True).start()
        self._calls.put(call)

    def submit(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """What the call will return or raise. A cancelled wait does not stop a call."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        # An error that nobody waits for any more is no news.
        future.add_done_callback(_look_at)

        def work() -> None:
            try:
                settle = partial(future.set_result, call())
            except Exception as error:  # noqa: BLE001  raised again where it is awaited
                settle = partial(future.set_exception, error)
            # RuntimeError: the loop is closed, so nobody waits.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(_unless_done, future, settle)

        self.post(work)
        return future

    async def once(self, batch: Batch, call: Callable[[], None]) -> None:
        """Make the call for this batch, or wait on for the one that has begun for it.

        An outlet that lost patience sends the same batch again, while the call of the
        first attempt still goes on. A second call would write the batch twice.
        """
        if self._begun is None or self._batch is not batch:
            self._batch, self._begun = batch, self.submit(call)
        begun = self._begun
        # Unlike `await begun`, it leaves the future alone when it is cancelled itself.
        await asyncio.wait([begun])
        self._batch = self._begun = None
        begun.result()

    async def stop(self) -> None:
        """Wait for all calls, then end the thread."""
        if self._calls is not None:
            await self.submit(_nothing)
            self.abandon()

    def abandon(self) -> None:
        """End the thread after the calls that were made, without waiting for them."""
        if self._calls is not None:
            self._calls.put(None)
            self._calls = None


def _nothing() -> None:
    pass


def _look_at(future: asyncio.Future[T]) -> None:
    if not future.cancelled():
        future.exception()


def _unless_done(future: asyncio.Future[T], settle: Callable[[], None]) -> None:
    if not future.done():
        settle()


def _work(calls: SimpleQueue[Callable[[], object] | None]) -> None:
    while (call := calls.get()) is not None:
        try:
            call()
        except Exception:
            log.exception("sink_worker_failed thread=%s", current_thread().name)
