# SPDX-License-Identifier: Apache-2.0
"""Measures the agent, and makes the kernel shed what the governor decides."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from nodeagent.config import Config
from nodeagent.event import HIGH_VALUE
from nodeagent.governor import Budget, Governor, Level, Reading, Step
from nodeagent.kernel.features import TABLE_KINDS
from nodeagent.kernel.policy import Policy
from nodeagent.ledger import Ledger
from nodeagent.usage import usage_of

__all__ = ["Throttle", "budget_of"]

log: Final = logging.getLogger(__name__)

GRACE_SECONDS: Final = 3.0
"""After the start, which has a price of its own."""
MEASURE_SECONDS: Final = 0.25
MEMORY_SHARE: Final = 0.9
"""Of the limit of the own cgroup: beyond it the kernel kills."""


def budget_of(config: Config) -> Budget:
    """That of the configuration, or less where the own cgroup allows less."""
    chosen, usage = config.budget, usage_of()
    cores, memory = chosen.cpu_percent / 100, chosen.memory_bytes
    if cores and usage.cpu_limit:
        cores = min(cores, usage.cpu_limit)
    if memory and usage.memory_limit_bytes:
        memory = min(memory, int(usage.memory_limit_bytes * MEMORY_SHARE))
    return Budget(cores, memory)


class Throttle:
    """A task beside the stream."""

    def __init__(
        self,
        config: Config,
        policy: Policy,
        count: Callable[[], None],
        ledger: Ledger,
        tell: Callable[[dict[str, object]], None],
    ) -> None:
        """`count` brings the ledger up to date; `tell` puts a change into the stream."""
        self._policy = policy
        self._count = count
        self._ledger = ledger
        self._tell = tell
        self._set(config)

    def _set(self, config: Config) -> None:
        self._counts_repeats = config.filter.repeated_opens == "count"
        self._bulk = frozenset(config.kinds) - HIGH_VALUE - TABLE_KINDS
        self._governor = Governor(budget_of(config), aggregates=self._counts_repeats)

    def change(self, config: Config) -> None:
        """Begin anew, with another configuration."""
        self._set(config)
        self._take(Step(Level.FULL, 0.0, "the configuration was read again"))

    async def follow(self) -> None:
        """Measure again and again."""
        await asyncio.sleep(GRACE_SECONDS)
        while True:
            await asyncio.sleep(MEASURE_SECONDS)
            if step := self._governor.judge(self._measured()):
                self._take(step)

    def _measured(self) -> Reading:
        ledger, usage = self._ledger, usage_of()
        if ledger.level:
            # Only then there is something that the kernel has shed.
            self._count()
        bulk = ledger.decoded.total() - sum(ledger.decoded[kind] for kind in HIGH_VALUE)
        return Reading(time.monotonic(), usage.cpu_seconds, usage.rss_bytes, bulk, self._shed())

    def _take(self, step: Step) -> None:
        shed = self._bulk if step.level == Level.ESSENTIAL else ()
        log.debug("shed level=%d rate=%.1f why=%r", step.level, step.events_per_second, step.why)
        self._policy.shed(shed, step.events_per_second)
        self._policy.count_repeats(self._counts_repeats or step.level > Level.FULL)
        was = self._ledger.level
        if step.level == was:
            return
        self._count()
        self._ledger.level = step.level
        name = step.level.name.lower()
        log.warning("level level=%d name=%s why=%r", step.level, name, step.why)
        self._tell(
            {
                "level": int(step.level),
                "name": name,
                "was": int(was),
                "why": step.why,
                "events_per_second": round(step.events_per_second, 1) or None,
                "throttled": self._shed(),
            }
        )

    def _shed(self) -> int:
        return sum(each.throttled for each in self._ledger.kernel.values())
