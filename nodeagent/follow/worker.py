# SPDX-License-Identifier: Apache-2.0
"""Work that may block, beside the loop, in one thread that can be given up.

A read from a file system that does not answer cannot be ended. So the thread that is stuck
in it is left behind, and another one takes its place.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

from nodeagent.errors import NodeagentError

__all__ = ["StuckError", "Worker"]

T = TypeVar("T")

STUCK_LIMIT: Final = 4
"""Threads that are left behind; with more of them nothing is tried any more."""

Job = tuple[Callable[[], Any], asyncio.AbstractEventLoop, "asyncio.Future[Any]"]


class StuckError(NodeagentError):
    """The work did not end in time."""


class Worker:
    """One piece of work at a time."""

    def __init__(self, name: str) -> None:
        """The thread starts with the first work."""
        self._name = name
        self._turn = asyncio.Lock()
        self._jobs: queue.SimpleQueue[Job | None] | None = None
        self._stuck: set[threading.Thread] = set()
        self._thread: threading.Thread | None = None

    async def do(self, seconds: float, work: Callable[..., T], *arguments: object) -> T:
        """What `work` returns or raises; raises StuckError after `seconds`."""
        async with self._turn:
            jobs = self._ready()
            loop = asyncio.get_running_loop()
            done: asyncio.Future[T] = loop.create_future()
            jobs.put((lambda: work(*arguments), loop, done))
            try:
                async with asyncio.timeout(seconds):
                    return await done
            except TimeoutError:
                if not done.cancelled():
                    # It is the work itself that says so.
                    raise
                self._give_up()
                raise StuckError(f"no answer within {seconds:g} s") from None

    def close(self) -> None:
        """Let the thread end."""
        if self._jobs is not None:
            self._jobs.put(None)
            self._jobs = None

    def _ready(self) -> queue.SimpleQueue[Job | None]:
        if self._jobs is not None:
            return self._jobs
        self._stuck = {thread for thread in self._stuck if thread.is_alive()}
        if len(self._stuck) >= STUCK_LIMIT:
            raise StuckError(f"{STUCK_LIMIT} file systems do not answer")
        self._jobs = queue.SimpleQueue()
        # A daemon, since the end of the agent must not wait for one that is stuck.
        self._thread = threading.Thread(
            target=_run, args=(self._jobs,), name=self._name, daemon=True
        )
        self._thread.start()
        return self._jobs

    def _give_up(self) -> None:
        if self._thread is not None:
            self._stuck.add(self._thread)
        self.close()


def _run(jobs: queue.SimpleQueue[Job | None]) -> None:
    while (job := jobs.get()) is not None:
        work, loop, done = job
        try:
            result = work()
        except Exception as error:  # noqa: BLE001  it belongs to whoever asked
            _hand_over(loop, done, None, error)
        else:
            _hand_over(loop, done, result, None)
        # What it holds must not live until the next one.
        del job, work, loop, done


def _hand_over(
    loop: asyncio.AbstractEventLoop,
    done: asyncio.Future[Any],
    result: object,
    error: Exception | None,
) -> None:
    def settle() -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)

    try:
        loop.call_soon_threadsafe(settle)
    except RuntimeError:
        # The loop has ended, nobody waits.
        return
