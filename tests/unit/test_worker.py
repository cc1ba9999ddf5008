# SPDX-License-Identifier: Apache-2.0
"""Work that blocks, in a thread that is given up when it does not come back."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from nodeagent.follow import worker as module
from nodeagent.follow.worker import StuckError, Worker


async def test_result_and_error_come_back() -> None:
    worker = Worker("test")
    assert await worker.do(5, divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await worker.do(5, divmod, 7, 0)
    worker.close()


async def test_all_work_is_done_in_one_thread_that_ends() -> None:
    worker = Worker("test")
    threads = {await worker.do(5, threading.current_thread) for _ in range(3)}
    worker.close()
    (thread,) = threads
    await asyncio.to_thread(thread.join, 5)
    assert not thread.is_alive()


async def test_work_that_hangs_does_not_stop_the_next() -> None:
    worker = Worker("test")
    free = threading.Event()
    with pytest.raises(StuckError, match=r"0\.05 s"):
        await worker.do(0.05, free.wait)
    assert await worker.do(5, len, "abc") == 3
    free.set()
    worker.close()


async def test_too_many_that_hang_stop_all_until_one_comes_back() -> None:
    worker = Worker("test")
    free = threading.Event()
    for _ in range(module.STUCK_LIMIT):
        with pytest.raises(StuckError):
            await worker.do(0.02, free.wait)
    started = time.monotonic()
    with pytest.raises(StuckError, match="do not answer"):
        await worker.do(5, len, "abc")
    assert time.monotonic() - started < 1
    free.set()
    async with asyncio.timeout(5):
        while True:
            try:
                assert await worker.do(5, len, "abc") == 3
            except StuckError:
                await asyncio.sleep(0.01)
            else:
                break
    worker.close()


async def test_error_of_a_timeout_is_that_of_the_work() -> None:
    def times_out() -> None:
        raise TimeoutError("of the file system")

    worker = Worker("test")
    with pytest.raises(TimeoutError, match="of the file system"):
        await worker.do(5, times_out)
    worker.close()
