# SPDX-License-Identifier: Apache-2.0
"""The outlets of a run, each with its task; they can change while it goes on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from nodeagent.config import Config
from nodeagent.errors import ConfigError, StartError
from nodeagent.ledger import Ledger
from nodeagent.outlet import Outlet, Router
from nodeagent.sink import Sink, SinkConfig
from nodeagent.spool import Spool
from nodeagent.throttle import queue_limit

__all__ = ["Delivery"]

log: Final = logging.getLogger(__name__)


class Delivery:
    """Opens, changes and closes outlets, and hands a Router to the pipeline."""

    def __init__(
        self,
        group: asyncio.TaskGroup,
        types: Mapping[str, type[Sink]],
        ledger: Ledger,
        on_nobody: Callable[[], None],
        *,
        spools: bool,
    ) -> None:
        """Call `on_nobody` when no sink is left that somebody reads."""
        self.router = Router([])
        self._group = group
        self._types = types
        self._ledger = ledger
        self._on_nobody = on_nobody
        self._spools = spools
        self._outlets: dict[str, Outlet] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._living: set[str] = set()
        self._config = Config()

    async def open(self, config: Config) -> None:
        """Open all sinks; raises StartError, and then none is open."""
        self._config = config
        opened: list[Outlet] = []
        try:
            for name in config.sinks:
                # Not all at once: what is open has to be closed when the next one fails.
                opened.append(await self._opened(config, name))  # noqa: PERF401
        except BaseException:
            for outlet in opened:
                await outlet.close()
            raise
        for outlet in opened:
            self._start(outlet)

    async def change(self, after: Config) -> None:
        """Follow a new configuration; raises StartError, and then all is as before.

        Sinks that stay the same are not touched. One that changes takes what was queued with it.
        """
        before = self._config
        fresh: list[Outlet] = []
        replaced: list[str] = []
        try:
            for name in after.sinks.keys() - before.sinks.keys():
                fresh.append(await self._opened(after, name))  # noqa: PERF401  as in open
            for name in _changed(before, after):
                await self._replace(name, before, after)
                replaced.append(name)
        except StartError:
            for outlet in fresh:
                await outlet.close()
            for name in replaced:
                await self._replace(name, after, before)
            raise
        for outlet in fresh:
            self._start(outlet)
        self._config = after
        for name in before.sinks.keys() - after.sinks.keys():
            await self._remove(name, before.shutdown_seconds)

    async def drain(self) -> None:
        """Wait until everything is delivered, at most `shutdown_seconds`."""
        seconds = self._config.shutdown_seconds
        await asyncio.gather(*(each.drain(seconds) for each in self._outlets.values()))

    async def close(self) -> None:
        """Stop all tasks and close all sinks."""
        for task in self._tasks.values():
            task.cancel()
        for outlet in self._outlets.values():
            await outlet.close()

    async def _opened(self, config: Config, name: str) -> Outlet:
        sink, spool = self._made(config, name)
        chosen, counts = _planned(config, name), self._ledger.sink(name)
        outlet = Outlet(
            name,
            sink,
            chosen,
            counts,
            self._on_closed,
            spool=spool,
            fsync_seconds=config.spool.fsync_seconds,
        )
        await outlet.open()
        return outlet

    def _made(self, config: Config, name: str) -> tuple[Sink, Spool | None]:
        chosen = config.sinks[name]
        sink = self._types[chosen.type](chosen.config)
        if not (self._spools and chosen.config.spool):
            return sink, None
        if sink.encoder is None:
            raise ConfigError(f"sinks.{name}.spool: a sink of type {chosen.type} can have no spool")
        folder = Path(config.spool.folder) / name
        return sink, Spool(folder, chosen.config.spool_bytes, fsync=config.spool.fsync)

    def _start(self, outlet: Outlet) -> None:
        name = outlet.name
        self._living.add(name)
        self._outlets[name] = outlet
        self._tasks[name] = self._group.create_task(outlet.run(), name=f"outlet {name}")
        self.router.outlets = list(self._outlets.values())

    async def _replace(self, name: str, before: Config, after: Config) -> None:
        """Give the outlet another sink; what comes meanwhile waits in its queue."""
        outlet = self._outlets[name]
        await self._halt(outlet, before.shutdown_seconds)
        try:
            sink, spool = self._made(after, name)
            await outlet.swap(sink, _planned(after, name), spool)
        except StartError:
            sink, spool = self._made(before, name)
            await outlet.swap(sink, _planned(before, name), spool)
            raise
        finally:
            self._start(outlet)

    async def _remove(self, name: str, seconds: float) -> None:
        outlet = self._outlets.pop(name)
        self.router.outlets = list(self._outlets.values())
        await outlet.drain(seconds)
        self._tasks.pop(name).cancel()
        await outlet.close()
        self._living.discard(name)

    async def _halt(self, outlet: Outlet, seconds: float) -> None:
        """Nothing is under way any more, or was for too long."""
        await outlet.pause(seconds)
        task = self._tasks[outlet.name]
        task.cancel()
        await asyncio.wait([task])
        await outlet.close()

    def _on_closed(self, name: str, why: str) -> None:
        log.info("sink_closed sink=%s why=%s", name, why)
        self._living.discard(name)
        if not self._living:
            self._on_nobody()


def _planned(config: Config, name: str) -> SinkConfig:
    """The settings of a sink, with a queue that fits into the memory that is allowed."""
    chosen, limit = config.sinks[name].config, queue_limit(config)
    if chosen.queue_events <= limit:
        return chosen
    log.info("queue_shorter sink=%s events=%d asked=%d", name, limit, chosen.queue_events)
    return msgspec.structs.replace(chosen, queue_events=limit)


def _changed(before: Config, after: Config) -> list[str]:
    """Sinks of both that are not the same in both."""
    return [
        name
        for name in after.sinks
        if name in before.sinks
        and (
            after.sinks[name] != before.sinks[name]
            or (after.sinks[name].config.spool and after.spool != before.spool)
        )
    ]
