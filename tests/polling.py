# SPDX-License-Identifier: Apache-2.0
"""Waiting for what happens elsewhere, in another thread or process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

DEADLINE_SECONDS: Final = 10.0


async def until(condition: Callable[[], object]) -> None:
    """Return as soon as the condition is true; raise TimeoutError when it never is."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():  # noqa: ASYNC110  it is not of this loop, so no event tells
            await asyncio.sleep(0.002)
