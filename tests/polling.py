# SPDX-License-Identifier: Apache-2.0
"""Waiting for what happens elsewhere, in another thread or process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, TypeVar

DEADLINE_SECONDS: Final = 10.0
PATIENCE_SECONDS: Final = 30.0
"""For what another process does on a busy machine."""


Found = TypeVar("Found")


async def until(condition: Callable[[], object]) -> None:
    """Return as soon as the condition is true; raise TimeoutError when it never is."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():  # noqa: ASYNC110  it is not of this loop, so no event tells
            await asyncio.sleep(0.002)


def wait_for(find: Callable[[], Found], seconds: float = PATIENCE_SECONDS) -> Found:
    """The first answer that is true; raises TimeoutError when there is none in that time."""
    deadline = time.monotonic() + seconds
    while not (found := find()):
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.05)  # noqa: TID251  there is no loop
    return found
