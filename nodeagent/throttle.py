# SPDX-License-Identifier: Apache-2.0
"""Measures the agent, and makes the kernel shed what the governor decides."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import time
from collections.abc import Callable
from typing import Final

from nodeagent.config import Config
from nodeagent.event import HIGH_VALUE
from nodeagent.governor import Budget, Governor, Level, Reading, Step
from nodeagent.kernel.features import TABLE_KINDS
from nodeagent.kernel.policy import Policy
from nodeagent.ledger import Ledger
from nodeagent.usage import give_back, limits_of, rss_bytes

__all__ = ["EVENT_BYTES", "IDLE_BYTES", "Throttle", "budget_of", "queue_limit"]

log: Final = logging.getLogger(__name__)

GRACE_SECONDS: Final = 3.0
"""After the start, which has a price of its own."""
MEASURE_SECONDS: Final = 0.25
CALM_SECONDS: Final = 0.5
"""Between two measurements while nothing is shed."""
NEAR: Final = 0.9
"""Part of the limit of memory from which on free memory is given back."""
GIVE_BACK_SECONDS: Final = 10.0
EVENT_BYTES: Final = 2048
"""Of an event in a queue, with its line."""
IDLE_BYTES: Final = 56 << 20
"""Of an agent that has nothing to do, with its rings; see docs/figures.md."""
LEAST_QUEUE: Final = 1000
MEMORY_SHARE: Final = 0.9
"""Of the limit of the own cgroup: beyond it the kernel kills."""


def budget_of(config: Config) -> Budget:
    """That of the configuration, or less CPU where the own cgroup allows less."""
    chosen, limits = config.budget, limits_of()
    cores = chosen.cpu_percent / 100
    if cores and limits.cores:
        cores = min(cores, limits.cores)
    return Budget(cores, chosen.memory_bytes)


def queue_limit(config: Config) -> int:
    """Events that one queue may hold so that all of them fit into the memory that is allowed."""
    own = limits_of().memory_bytes
    limits = [config.budget.memory_bytes]
    if own:
        limits.append(int(own * MEMORY_SHARE))
    if not config.budget.memory_bytes:
        return sys.maxsize
    room = min(limits) - IDLE_BYTES
    return max(room // EVENT_BYTES // max(len(config.sinks), 1), LEAST_QUEUE)


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
        self._given_back_at = 0.0
        self._set(config)

    def _set(self, config: Config) -> None:
        self._counts_repeats = config.filter.repeated_opens == "count"
        self._bulk = frozenset(config.kinds) - HIGH_VALUE - TABLE_KINDS
        self._governor = Governor(budget_of(config), aggregates=self._counts_repeats)
        self._memory_bytes = config.budget.memory_bytes
        self._limits = limits_of()

    def change(self, config: Config) -> None:
        """Begin anew, with another configuration."""
        self._set(config)
        self._take(Step(Level.FULL, 0.0, "the configuration was read again"))

    async def follow(self) -> None:
        """Measure again and again."""
        await asyncio.sleep(GRACE_SECONDS)
        while True:
            await asyncio.sleep(MEASURE_SECONDS if self._ledger.level else CALM_SECONDS)
            if step := self._governor.judge(self._measured()):
                self._take(step)

    def _measured(self) -> Reading:
        ledger = self._ledger
        if ledger.level:
            # Only then there is something that the kernel has shed.
            self._count()
        bulk = ledger.decoded.total() - sum(ledger.decoded[kind] for kind in HIGH_VALUE)
        used, allowed = memory = self._memory()
        now = time.monotonic()
        if allowed and used > allowed * NEAR and now > self._given_back_at + GIVE_BACK_SECONDS:
            # Before anything is shed.
            self._given_back_at = now
            gc.collect()
            give_back()
        return Reading(now, time.process_time(), *memory, bulk, self._shed())

    def _memory(self) -> tuple[int, int]:
        """What is used of a limit, and the limit: that of two which is nearer."""
        resident = rss_bytes(), self._memory_bytes
        limit = self._limits.memory_bytes
        if not self._memory_bytes or limit is None:
            return resident
        # The kernel kills for what the cgroup holds, eBPF maps and all.
        charged = self._limits.charged_bytes(), int(limit * MEMORY_SHARE)
        return max(resident, charged, key=lambda each: each[0] / max(each[1], 1))

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
