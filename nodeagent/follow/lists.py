# SPDX-License-Identifier: Apache-2.0
"""Threat lists that others publish by HTTPS, fetched again and again.

What was fetched is kept on the disk, so that a start without the network has it, too.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from pathlib import Path
from typing import Final

from nodeagent.config import Config
from nodeagent.detect.lists import ThreatLists, is_url
from nodeagent.errors import NodeagentError
from nodeagent.follow.worker import Worker
from nodeagent.parts import kept_file, lists_of

__all__ = ["ListFollower"]

log: Final = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS: Final = 5.0
"""Until a list that could not be fetched is tried again; then longer each time."""


class ListFollower:
    """Fetches each list at an interval; the last one that was good stays."""

    def __init__(self, config: Config, lists: ThreatLists, failures: Counter[str]) -> None:
        """Put what is new into `lists`."""
        self._config = config
        self._lists = lists
        self._failures = failures
        self._worker = Worker("lists")
        self._tags: dict[str, str] = {}
        """ETag of what was fetched last, by URL."""
        self._again = asyncio.Event()

    def change(self, config: Config) -> None:
        """Fetch what this configuration names."""
        self._config = config
        self._again.set()

    async def follow(self) -> None:
        """Fetch all of them, again and again."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            self._again.clear()
            chosen = self._config.detect
            urls = [url for every in chosen.lists.values() for url in every if is_url(url)]
            failed = False
            for url in dict.fromkeys(urls):
                failed |= not await self._try(url)
            interval = chosen.lists_seconds
            wait = min(pause, interval) if failed else interval
            pause = pause * 2 if failed else FIRST_PAUSE_SECONDS
            try:
                # Nodes that start together do not ask together for ever.
                async with asyncio.timeout(wait * random.uniform(0.8, 1.0)):  # noqa: S311
                    await self._again.wait()
            except TimeoutError:
                continue

    def close(self) -> None:
        """Let the thread end."""
        self._worker.close()

    async def _try(self, url: str) -> bool:
        chosen, tag = self._config.detect, self._tags.get(url, "")
        place = chosen.lists_ca_file, kept_file(Path(chosen.lists_folder), url)
        # TLS and HTTP take some MiB, which not everybody needs.
        from nodeagent.follow.fetch import FETCH_SECONDS, fetch, harmless  # noqa: PLC0415

        shown = harmless(url)
        try:
            found = await self._worker.do(FETCH_SECONDS * 2, fetch, url, tag, *place)
            if found is not None:
                lists = await self._worker.do(FETCH_SECONDS, lists_of, self._config)
                self._lists.replace(lists)
        except (NodeagentError, OSError) as error:
            self._failures["lists"] += 1
            log.warning("list_not_fetched url=%s why=%s", shown, error)
            return False
        if found is not None:
            self._tags[url] = found
            log.info("list_fetched url=%s", shown)
        return True
