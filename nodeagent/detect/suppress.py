# SPDX-License-Identifier: Apache-2.0
"""Findings that somebody has looked at and does not want to see again.

A suppression names who wants it and why, may end on a day, and its hits are counted. When one
is over, the first finding that it would have left out says so in the log.
"""

from __future__ import annotations

import datetime
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from nodeagent.errors import ConfigError
from nodeagent.finding import Finding

__all__ = ["Suppression", "Suppressions", "read_suppressions"]

log: Final = logging.getLogger(__name__)

FILE_BYTES: Final = 1 << 20
MOST: Final = 1000
"""Of all files together: each is tried on each finding."""

Text = Annotated[str, Meta(min_length=1, max_length=500)]


class Suppression(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What is left out, and why."""

    reason: Text
    """For whoever wonders later."""
    where: Annotated[dict[Text, Text], Meta(min_length=1)]
    """Values by dotted path in the finding, for example `process.executablePath`; * and ?
    stand for anything. All of them must fit."""
    owner: Text
    """Whom to ask."""
    until: datetime.date | None = None
    """The last day on which it counts, in UTC."""

    def is_over(self, day: datetime.date) -> bool:
        """It does not count any more on this day."""
        return self.until is not None and day > self.until

    def __str__(self) -> str:
        """Which one it is."""
        return f'the suppression "{self.reason}" of {self.owner}'


class _File(msgspec.Struct, forbid_unknown_fields=True):
    suppress: list[Suppression] = []


def read_suppressions(path: Path) -> list[Suppression]:
    """Those of a TOML file with tables `[[suppress]]`; raises ConfigError."""
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"the suppressions {path} cannot be read: {error.strerror}") from error
    if len(data) > FILE_BYTES:
        raise ConfigError(f"the suppressions {path} have more than {FILE_BYTES >> 20} MiB")
    try:
        return msgspec.toml.decode(data, type=_File).suppress
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ConfigError(f"the suppressions {path} cannot be used: {error}") from error


class Suppressions:
    """Tells which findings nobody wants to see; counts by reason."""

    def __init__(self, rules: Sequence[Suppression], hits: Counter[str]) -> None:
        """Raises ConfigError when there are too many."""
        if len(rules) > MOST:
            raise ConfigError(f"there are {len(rules)} suppressions, and at most {MOST} may be")
        self._rules = rules
        self._hits = hits
        for rule in rules:
            # One that hits nothing is shown, too.
            hits[rule.reason] += 0
        self._told: set[int] = set()
        """Rules that are over and would have hit something, by their place."""

    def wanted(self, findings: list[Finding]) -> list[Finding]:
        """Those that are left."""
        if not self._rules or not findings:
            return findings
        return [each for each in findings if not self._covers(each)]

    def _covers(self, finding: Finding) -> bool:
        shown: dict[str, Any] = {
            "type": finding.type,
            "severity": finding.severity.name.lower(),
            "title": finding.title,
            "id": finding.id,
            **finding.details,
        }
        # The day of the finding, so that a replay gives the same.
        day = datetime.datetime.fromtimestamp(finding.last_seen / 1e9, datetime.UTC).date()
        for place, rule in enumerate(self._rules):
            if not _fits(rule, shown):
                continue
            if not rule.is_over(day):
                self._hits[rule.reason] += 1
                return True
            if place not in self._told:
                self._told.add(place)
                log.warning("suppression_over until=%s what=%s", rule.until, rule)
        return False


def _fits(rule: Suppression, shown: Mapping[str, Any]) -> bool:
    return all(
        any(fnmatchcase(value, pattern) for value in _values(shown, place.split(".")))
        for place, pattern in rule.where.items()
    )


def _values(shown: object, place: Sequence[str]) -> Iterator[str]:
    """What stands at a place; each item of a list on the way there."""
    if isinstance(shown, list | tuple):
        for each in shown:
            yield from _values(each, place)
    elif place:
        if isinstance(shown, Mapping) and place[0] in shown:
            yield from _values(shown[place[0]], place[1:])
    elif isinstance(shown, bool):
        yield "true" if shown else "false"
    elif isinstance(shown, str | int | float):
        yield str(shown)
