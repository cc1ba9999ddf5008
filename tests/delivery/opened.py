# SPDX-License-Identifier: Apache-2.0
"""A sink between its opening and its closing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from nodeagent.sink import Sink

S = TypeVar("S", bound=Sink)


@asynccontextmanager
async def opened(sink: type[S], **settings: Any) -> AsyncIterator[S]:
    made = sink(sink.Config(**settings))
    await made.open()
    try:
        yield made
    finally:
        await made.close()
