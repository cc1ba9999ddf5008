# SPDX-License-Identifier: Apache-2.0
"""Another configuration for an agent that runs: checked in full first, then applied as a whole."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from nodeagent.config import Config
from nodeagent.delivery import Delivery
from nodeagent.detect.lists import ThreatLists
from nodeagent.detect.reach import Expected
from nodeagent.detect.sigma.detector import SigmaRules
from nodeagent.detect.suppress import Suppressions
from nodeagent.errors import ConfigError, NodeagentError, StartError
from nodeagent.kernel.features import TABLE_KINDS
from nodeagent.kernel.policy import Policy
from nodeagent.ledger import Ledger
from nodeagent.notify import Notifier
from nodeagent.parts import lists_of, redactor_of, rules_of, sigma_of, suppressions_of, tell_rules
from nodeagent.pipeline import Pipeline
from nodeagent.throttle import Throttle

__all__ = ["Reload"]

log: Final = logging.getLogger(__name__)

CHANGEABLE: Final = (
    "kinds",
    "filter.repeated_opens",
    "filter.failed_opens",
    "filter.exclude_uids",
    "filter.exclude_paths",
    "filter.watch_paths",
    "detect.only",
    "detect.builtin_lists",
    "detect.lists",
    "detect.lists_seconds",
    "detect.lists_ca_file",
    "detect.network",
    "detect.sigma",
    "detect.suppressions",
    "redact",
    "budget",
    "spool",
    "sinks",
    "shutdown_seconds",
)
"""Keys, and tables of keys, that need no restart."""


class Reload:
    """Reads the configuration again when it is asked to."""

    def __init__(
        self,
        load: Callable[[], Config],
        config: Config,
        *,
        policy: Policy,
        pipeline: Pipeline,
        delivery: Delivery,
        lists: ThreatLists,
        expected: Expected,
        sigma: SigmaRules,
        refetch: Callable[[Config], None],
        throttle: Throttle,
        ledger: Ledger,
        notifier: Notifier,
        tell: Callable[[dict[str, object]], None],
    ) -> None:
        """`load` raises ConfigError; `tell` puts what has changed into the stream."""
        self._load = load
        self._config = config
        self._loaded_kinds = TABLE_KINDS | set(config.kinds)
        self._policy = policy
        self._pipeline = pipeline
        self._delivery = delivery
        self._lists = lists
        self._expected = expected
        self._sigma = sigma
        self._refetch = refetch
        self._throttle = throttle
        self._ledger = ledger
        self._notifier = notifier
        self._tell = tell
        self._turn = asyncio.Lock()
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Reload soon; what comes of it is in the log."""
        self._asked.set()

    async def follow(self) -> None:
        """Do what is asked for."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            try:
                await self.reload()
            except NodeagentError as error:
                log.warning("reload_refused why=%s", error)

    async def reload(self) -> dict[str, object]:
        """What has changed. Raises NodeagentError, and then nothing has."""
        async with self._turn:
            self._notifier.reloading()
            try:
                facts = await self._apply()
            finally:
                self._notifier.ready()
        log.info("reloaded changed=%s", facts["changed"])
        self._tell(facts)
        return facts

    async def _apply(self) -> dict[str, object]:
        after = self._load()
        changed = sorted(self._check(after))
        # All of it is made before anything is changed.
        lists = await asyncio.to_thread(lists_of, after)
        sigma = await asyncio.to_thread(sigma_of, after)
        suppressions = Suppressions(suppressions_of(after), self._ledger.suppressed)
        redactor = redactor_of(after)
        self._policy.apply(rules_of(after))
        try:
            await self._delivery.change(after)
        except StartError:
            self._policy.apply(rules_of(self._config))
            self._throttle.change(self._config)
            raise
        # Files of the same name may hold something else.
        self._lists.replace(lists)
        self._expected.replace(after.detect.network.expected())
        self._sigma.replace(sigma)
        tell_rules(sigma, after, self._ledger)
        self._refetch(after)
        self._pipeline.change(
            after.kinds,
            excluded_uids=after.filter.exclude_uids,
            suppressions=suppressions,
            redactor=redactor,
            findings_only=after.detect.only,
        )
        self._throttle.change(after)
        self._config = after
        return {"changed": changed}

    def _check(self, after: Config) -> list[str]:
        """The keys that changed; raises ConfigError when one of them needs a restart."""
        before, now = dict(_leaves(self._config)), dict(_leaves(after))
        changed = [key for key in before.keys() | now.keys() if before.get(key) != now.get(key)]
        fixed = sorted(key for key in changed if not _is_changeable(key))
        if fixed:
            raise ConfigError(
                f"{', '.join(fixed)} can only be changed by a restart: nothing was changed"
            )
        missing = sorted(set(after.kinds) - self._loaded_kinds)
        if missing:
            raise ConfigError(
                f"kinds: {', '.join(missing)} had no hooks loaded at the start:"
                " restart the agent; nothing was changed"
            )
        return changed


def _is_changeable(key: str) -> bool:
    return any(key == each or key.startswith(f"{each}.") for each in CHANGEABLE)


def _leaves(config: Config) -> Iterator[tuple[str, Any]]:
    """Each key with its value; sinks, whose keys are names, as a whole."""
    shown = msgspec.to_builtins(config)
    for name, sink in shown.pop("sinks").items():
        yield f"sinks.{name}", sink
    for table, values in shown.items():
        if isinstance(values, dict):
            yield from ((f"{table}.{name}", value) for name, value in values.items())
        else:
            yield table, values
