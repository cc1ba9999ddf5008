# SPDX-License-Identifier: Apache-2.0
"""Detectors of others: whatever one does wrong, it harms nobody but itself."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from itertools import islice
from typing import Any, Final, cast

import orjson

from nodeagent.detect import Detector, OpenDetector, Signal
from nodeagent.detect.catalogue import RULES, Rule
from nodeagent.errors import ConfigError
from nodeagent.event import EVENTS

__all__ = ["FAILURES_LIMIT", "Plugin"]

log: Final = logging.getLogger(__name__)

FAILURES_LIMIT: Final = 100
"""One that fails so often is not asked any more."""
SIGNALS_LIMIT: Final = 16
"""Of one event."""


class Plugin:
    """A detector that an installed package brings, guarded."""

    def __init__(self, name: str, detector: Detector, failures: Counter[str]) -> None:
        """Raises ConfigError when it does not keep the contract."""
        self.name = name
        self._detector = detector
        self._failures = failures
        self._failed = 0
        kinds, rules = getattr(detector, "kinds", None), getattr(detector, "rules", None)
        if not isinstance(kinds, tuple) or not kinds or not EVENTS.keys() >= set(kinds):
            raise ConfigError(
                f"detect.plugins: the kinds of {name} must be a tuple of kinds of events,"
                f" not {kinds!r}"
            )
        if not isinstance(rules, dict) or not all(isinstance(r, Rule) for r in rules.values()):
            raise ConfigError(
                f"detect.plugins: the rules of {name} must be a dict of"
                " nodeagent.detect.catalogue.Rule by name"
            )
        if taken := sorted(rules.keys() & RULES.keys()):
            raise ConfigError(
                f"detect.plugins: rules of {name} have names of the agent's own: {', '.join(taken)}"
            )
        for missing in ("inspect", *(["wants_path"] if "open" in kinds else ())):
            if not callable(getattr(detector, missing, None)):
                raise ConfigError(f"detect.plugins: {name} has no method {missing}")
        self.kinds: tuple[str, ...] = kinds
        self.rules: dict[str, Rule] = rules

    def wants_path(self, path: str) -> bool:
        """Whether it looks at opens of this path; one that fails does not."""
        if self._failed >= FAILURES_LIMIT:
            return False
        try:
            return bool(cast("OpenDetector", self._detector).wants_path(path))
        except Exception as error:  # noqa: BLE001  the code of others may raise anything
            self._fail(error)
            return False

    def inspect(self, event: Any) -> Iterable[Signal]:
        """Its signals; none when it fails, or has failed too often."""
        if self._failed >= FAILURES_LIMIT:
            return ()
        try:
            found = list(islice(self._detector.inspect(event), SIGNALS_LIMIT))
            for signal in found:
                if signal.rule not in self.rules:
                    raise LookupError(f"it has no rule {signal.rule}")
                # Raises what would otherwise be raised where lines are made.
                orjson.dumps([signal.context, signal.action, signal.evidence, signal.matches])
        except Exception as error:  # noqa: BLE001  the code of others may raise anything
            self._fail(error)
            return ()
        return found

    def _fail(self, error: Exception) -> None:
        self._failed += 1
        self._failures[self.name] += 1
        if self._failed == 1:
            log.error(
                "detector_failed name=%s error=%s: %s", self.name, type(error).__name__, error
            )
        if self._failed == FAILURES_LIMIT:
            log.error("detector_off name=%s failures=%d", self.name, self._failed)
