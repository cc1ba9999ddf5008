# SPDX-License-Identifier: Apache-2.0
"""What is made of the configuration alone, at the start and again at a reload."""

from __future__ import annotations

from pathlib import Path

from nodeagent.config import Config
from nodeagent.detect.lists import ThreatList, builtin_lists, read_list
from nodeagent.detect.suppress import Suppressions, read_suppressions
from nodeagent.kernel.features import TABLE_KINDS
from nodeagent.kernel.policy import Rules
from nodeagent.ledger import Ledger
from nodeagent.redact import Redactor

__all__ = ["lists_of", "redactor_of", "rules_of", "suppressions_of"]


def rules_of(config: Config) -> Rules:
    """What the kernel is told."""
    chosen = config.filter
    return Rules(
        # Without these nobody would know who did the rest, and where.
        kinds=TABLE_KINDS | set(config.kinds),
        count_repeats=chosen.repeated_opens == "count",
        failed_opens=chosen.failed_opens,
        excluded_uids=chosen.exclude_uids,
        excluded_paths=chosen.exclude_paths,
        watched_paths=chosen.watch_paths,
        dns_ports=config.kernel.dns_ports,
    )


def lists_of(config: Config) -> list[ThreatList]:
    """Raises ConfigError for a threat list that cannot be used."""
    chosen = config.detect
    lists = builtin_lists() if chosen.builtin_lists else []
    lists += [
        read_list(Path(path), category)
        for category, paths in chosen.lists.items()
        for path in paths
    ]
    return lists


def suppressions_of(config: Config, ledger: Ledger) -> Suppressions:
    """Raises ConfigError for a file that cannot be used."""
    rules = [each for path in config.detect.suppressions for each in read_suppressions(Path(path))]
    return Suppressions(rules, ledger.suppressed)


def redactor_of(config: Config) -> Redactor | None:
    """Raises ConfigError for a pattern that cannot be used."""
    return Redactor(config.redact.patterns) if config.redact.argv else None
