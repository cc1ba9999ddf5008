# SPDX-License-Identifier: Apache-2.0
"""What is made of the configuration alone, at the start and again at a reload."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Final

import msgspec

from nodeagent.config import Config
from nodeagent.detect.feeds import FeedError, list_of, read_any
from nodeagent.detect.lists import ThreatList, builtin_lists, check_category, is_url
from nodeagent.detect.sigma.rules import RuleSet
from nodeagent.detect.suppress import Suppression, read_suppressions
from nodeagent.enrich.file import FileTable
from nodeagent.enrich.process import ProcessTable
from nodeagent.errors import ConfigError
from nodeagent.kernel.btf import Btf
from nodeagent.kernel.features import TABLE_KINDS
from nodeagent.kernel.policy import Rules
from nodeagent.kernel.wire import task_reader
from nodeagent.ledger import Ledger
from nodeagent.redact import Redactor
from nodeagent.source.recording import Facts
from nodeagent.usage import rss_bytes

__all__ = [
    "brought",
    "kept_file",
    "lists_of",
    "redactor_of",
    "rules_of",
    "sigma_of",
    "suppressions_of",
    "tables_of",
    "tell_rules",
]


log: Final = logging.getLogger(__name__)


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
    """Those that are there; of what is fetched, what was fetched last.

    Raises ConfigError for a file that cannot be used.
    """
    chosen = config.detect
    lists = builtin_lists() if chosen.builtin_lists else []
    for category, places in chosen.lists.items():
        check_category(category)
        for place in places:
            if not is_url(place):
                lists.append(read_any(Path(place), category))
            elif kept := _kept(kept_file(Path(chosen.lists_folder), place), place, category):
                lists.append(kept)
    for each in lists:
        for sort, count in each.ignored.items():
            log.warning(
                "list_entries_ignored list=%s count=%d why=there is no finding about %s of the"
                " category %s, put them into another one",
                *(each.name, count, sort, each.category),
            )
    return lists


def kept_file(folder: Path, url: str) -> Path:
    """Where what was fetched from there is kept."""
    return folder / f"{hashlib.sha256(url.encode()).hexdigest()[:32]}.list"


def _kept(file: Path, url: str, category: str) -> ThreatList | None:
    name = url.partition("?")[0].rpartition("/")[2] or url
    try:
        return list_of(file.read_bytes(), name, category)
    except FileNotFoundError:
        return None
    except (OSError, FeedError) as error:
        log.warning("kept_list_of_no_use file=%s why=%s", file, error)
        return None


def sigma_of(config: Config) -> RuleSet:
    """The rules that can be used, and why others cannot.

    Raises ConfigError for a place that cannot be read at all.
    """
    places = config.detect.sigma
    if not places:
        return RuleSet()
    before = rss_bytes()
    # What reads rules takes some MiB, and is not part of every installation.
    try:
        from nodeagent.detect.sigma.read import read_rules  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(
            f"detect.sigma needs packages that are missing ({error}): install nodeagent[sigma]"
        ) from error
    chosen = read_rules([Path(place) for place in places])
    return msgspec.structs.replace(chosen, memory_bytes=max(rss_bytes() - before, 0))


def tell_rules(chosen: RuleSet, config: Config, ledger: Ledger) -> None:
    """Count the rules; the log tells of each that is refused, and of those that see no events."""
    for refusal in chosen.refusals:
        log.warning("rule_refused why=%s", refusal)
    kinds = rules_of(config).kinds
    for rule in chosen.rules:
        wanted = [each.kind.kind for each in rule.watched]
        if not set(wanted).intersection(kinds):
            log.warning("rule_sees_nothing title=%s kinds=%s", rule.title, ",".join(wanted))
    if chosen.memory_bytes:
        log.info(
            "rules_read rules=%d refused=%d memory_bytes=%d",
            chosen.count,
            len(chosen.refusals),
            chosen.memory_bytes,
        )
    ledger.rules |= {"sigma": chosen.count, "refused": len(chosen.refusals)}


def brought(group: str, names: Sequence[str], setting: str) -> list[EntryPoint]:
    """What installed packages bring under these names; raises ConfigError for what none does."""
    if not names:
        return []
    there = {entry.name: entry for entry in entry_points(group=group)}
    if missing := [name for name in names if name not in there]:
        raise ConfigError(
            f"{setting}: no installed package brings {', '.join(missing)}; there is:"
            f" {', '.join(sorted(there)) or 'none'}"
        )
    return [there[name] for name in names]


def tables_of(facts: Facts, btf: Btf) -> tuple[ProcessTable, FileTable]:
    """Those that a replay of a recording fills."""
    processes = ProcessTable(
        task_reader(btf),
        facts.boot_ns,
        waiting_events=facts.waiting_events,
        node_name=facts.node_name,
        boot_id=facts.boot_id,
        summary_seconds=facts.summary_seconds,
    )
    return processes, FileTable(processes.brief_of, hashes=facts.hashes)


def suppressions_of(config: Config) -> list[Suppression]:
    """Raises ConfigError for a file that cannot be used."""
    return [each for path in config.detect.suppressions for each in read_suppressions(Path(path))]


def redactor_of(config: Config) -> Redactor | None:
    """Raises ConfigError for a pattern that cannot be used."""
    return Redactor(config.redact.patterns) if config.redact.argv else None
