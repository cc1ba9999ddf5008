# SPDX-License-Identifier: Apache-2.0
"""Rules as they are once read."""

from __future__ import annotations

import msgspec

from nodeagent.detect.catalogue import Rule
from nodeagent.detect.sigma.fields import Watched
from nodeagent.detect.sigma.tree import Node

__all__ = ["Correlation", "Refusal", "Refused", "RuleSet", "SigmaRule", "Source"]


class Known(msgspec.Struct, frozen=True):
    """What all rules have."""

    name: str
    """`sigma:` and its id, or its title: the name of its signals."""
    rule: Rule
    """Weight, severity and type of its findings."""
    title: str
    id: str
    file: str


class SigmaRule(Known, frozen=True):
    """One rule about single events."""

    category: str
    """Of its log source."""
    watched: tuple[Watched, ...]
    """The events that it is about."""
    node: Node
    is_told: bool = True
    """It gives signals itself, and does not only serve a correlation."""


class Source(msgspec.Struct, frozen=True):
    """A rule whose matches a correlation counts."""

    rule: str
    """Its name."""
    group: tuple[str, ...]
    """The fields whose values must be the same."""
    value: tuple[str, ...]
    """The fields whose different values are counted."""


class Correlation(Known, frozen=True):
    """A rule about matches of others."""

    type: str
    span_ns: int
    count: int
    """So many events, values or rules within the time span."""
    group: tuple[str, ...]
    """As the rule names the fields of `Source.group`."""
    sources: tuple[Source, ...]


class Refusal(msgspec.Struct, frozen=True):
    """A rule that is not used, and why."""

    file: str
    line: int
    """0: not known."""
    title: str
    """Empty where the file has no rule that has one."""
    why: str

    def __str__(self) -> str:
        """One sentence that names the place."""
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.title}: {self.why}" if self.title else f"{place}: {self.why}"


class Refused(Exception):
    """A rule cannot be used; `field` is where in it."""

    def __init__(self, why: str, field: str = "") -> None:
        super().__init__(why)
        self.field = field


class RuleSet(msgspec.Struct, frozen=True):
    """All that was read."""

    rules: tuple[SigmaRule, ...] = ()
    correlations: tuple[Correlation, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    memory_bytes: int = 0
    """Resident memory that reading them took, and what reads them."""

    @property
    def count(self) -> int:
        """Rules that are used."""
        return len(self.rules) + len(self.correlations)
