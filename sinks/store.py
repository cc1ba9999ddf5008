# SPDX-License-Identifier: Apache-2.0
"""Findings in a file of this node, for `nodeagent findings`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from nodeagent.errors import Retry
from nodeagent.places import STORE
from nodeagent.sink import Batch, Sink, SinkConfig
from nodeagent.store import Row, row_of
from nodeagent.store import Store as Database
from nodeagent.worker import Worker


class Store(Sink):
    """Keeps the last findings, each as it was told last."""

    FINDINGS_ONLY = True

    class Config(SinkConfig, kw_only=True, frozen=True):
        """Where they are kept, and how many."""

        path: str = STORE
        """The file, SQLite; made with mode 0600."""
        findings: Annotated[int, Meta(ge=1, le=1_000_000)] = 10_000
        """Keep at most this many; the one that was seen longest ago goes first."""

    def __init__(self, config: Store.Config) -> None:
        """Nothing is opened yet."""
        self._config = config
        self._worker = Worker("store")
        self._base: Database | None = None

    async def open(self) -> None:
        """Make the file, or take what is there."""
        self._base = await self._worker.submit(
            lambda: Database(Path(self._config.path), writes=True)
        )

    async def send(self, batch: Batch) -> None:
        """All of it in one transaction."""
        rows = [
            row_of(finding, line)
            for finding, line in zip(batch.findings, batch.lines(), strict=True)
        ]
        if self._base is not None:
            await self._worker.once(batch, partial(self._put, self._base, rows))

    async def close(self) -> None:
        """Close the file."""
        if self._base is not None:
            await self._worker.submit(self._base.close)
        await self._worker.stop()

    def _put(self, base: Database, rows: list[Row]) -> None:
        try:
            base.put(rows, self._config.findings)
        except OSError as error:
            raise Retry(str(error)) from error
