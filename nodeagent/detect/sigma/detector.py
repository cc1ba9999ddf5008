# SPDX-License-Identifier: Apache-2.0
"""Asks the rules of Sigma that can match an event at all, and tells which do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any, ClassVar, Final

from nodeagent.detect import Signal
from nodeagent.detect.catalogue import Rule
from nodeagent.detect.network import connection_action, request_action
from nodeagent.detect.recent import Recent
from nodeagent.detect.sigma.correlate import Correlator
from nodeagent.detect.sigma.fields import CATEGORIES, KEY_FIELDS, Extract, Memory, View
from nodeagent.detect.sigma.match import Predicate, compiled
from nodeagent.detect.sigma.rules import Correlation, RuleSet, SigmaRule, Source
from nodeagent.detect.sigma.tree import NEVER, Compare, compares, weakened
from nodeagent.event import Accept, Connect, Dns, Event, Exec, Open, Rename, Sendto

__all__ = ["SigmaRules"]

KEYS_LIMIT: Final = 8192
SHOWN_FIELDS: Final = 16
SHOWN_LENGTH: Final = 256
SECRET: Final = frozenset({"CommandLine", "ParentCommandLine"})
"""Findings show what a rule wants of them, and not their values."""
NAMES: Final = "DestinationHostname"
IMAGE: Final = "Image"


class _Watcher:
    """A rule and the events of one kind."""

    def __init__(self, rule: SigmaRule, counts: Any, kind: type[Event], test: Predicate) -> None:
        self.rule = rule
        self.counts = counts
        self.test = test
        gate = weakened(rule.node, KEY_FIELDS.get(kind, IMAGE))
        self.can_match = gate != NEVER
        self.gate = compiled(gate)
        self.feeds: list[tuple[Correlator, int, Source]] = []

    @cached_property
    def leaves(self) -> list[tuple[Compare, Predicate]]:
        """What the rule compares, piece by piece; made when it matches for the first time."""
        return [(each, compiled(each)) for each in dict.fromkeys(compares(self.rule.node))]


class SigmaRules:
    """The rules that somebody has written; they can be replaced while the stream goes on."""

    name = "sigma"
    kinds: ClassVar[tuple[str, ...]] = tuple(
        dict.fromkeys(
            each.kind.kind for ways in CATEGORIES.values() for way in ways for each in way
        )
    )

    def __init__(self, chosen: RuleSet) -> None:
        self.rules: dict[str, Rule] = {}
        self._memory = Memory()
        self._watchers: dict[type[Event], list[_Watcher]] = {}
        self._fields: dict[type[Event], dict[str, Extract]] = {}
        self._candidates: Recent[tuple[type[Event], object], tuple[_Watcher, ...]] = Recent(
            KEYS_LIMIT
        )
        """Those that an event can match, by kind and the field that tells most."""
        self._correlators: dict[str, Correlator] = {}
        self._remembers_lines = False
        self._remembers_names = False
        self.replace(chosen)

    def replace(self, chosen: RuleSet) -> None:
        """Use these from now on; correlations that stay as they are go on counting."""
        self.rules.clear()
        self.rules |= {each.name: each.rule for each in chosen.rules}
        self.rules |= {each.name: each.rule for each in chosen.correlations}
        before = self._correlators
        self._correlators = {
            each.name: _kept(each, before.get(each.name)) for each in chosen.correlations
        }
        self._watchers = {}
        self._fields = {}
        self._candidates.clear()
        for rule in chosen.rules:
            self._watch(rule)
        used = [rule for watchers in self._watchers.values() for rule in watchers]
        fields = {name for each in used for name in self._fields_of(each)}
        other = [each for kind, all_ in self._watchers.items() if kind is not Exec for each in all_]
        self._remembers_names = NAMES in fields
        self._remembers_lines = "ParentCommandLine" in fields or any(
            "CommandLine" in self._fields_of(each) for each in other
        )

    def _watch(self, rule: SigmaRule) -> None:
        test = compiled(rule.node)
        for watched in rule.watched:
            watcher = _Watcher(rule, watched.counts, watched.kind, test)
            for correlator in self._correlators.values():
                for number, source in enumerate(correlator.wanted.sources):
                    if source.rule == rule.name:
                        watcher.feeds.append((correlator, number, source))
            if watcher.can_match:
                self._watchers.setdefault(watched.kind, []).append(watcher)
                self._fields.setdefault(watched.kind, {}).update(watched.fields)

    def _fields_of(self, watcher: _Watcher) -> Iterator[str]:
        for each in compares(watcher.rule.node):
            yield from each.fields
        for _, _, source in watcher.feeds:
            yield from source.group
            yield from source.value

    def wants_path(self, path: str) -> bool:
        """Whether a rule can match an open of this file."""
        return Open in self._watchers and bool(self._that_can(Open, path))

    def inspect(self, event: Any) -> Iterable[Signal]:
        """A signal for each rule that the event matches, and each count that it completes."""
        kind = type(event)
        process = event.process
        if process is None:
            return ()
        if kind is Exec and self._remembers_lines and event.result >= 0:
            self._memory.learn_line(event)
        elif kind is Dns and self._remembers_names:
            self._memory.learn_names(event)
        if kind not in self._watchers:
            return ()
        view = View(event, process, self._fields[kind], self._memory)
        candidates = self._that_can(kind, view[KEY_FIELDS.get(kind, IMAGE)])
        return self._tried(event, view, candidates) if candidates else ()

    def _that_can(self, kind: type[Event], key: Any) -> tuple[_Watcher, ...]:
        """The rules that this value of the field that tells most does not rule out."""
        found = self._candidates.get((kind, key))
        if found is None:
            view = View.of({KEY_FIELDS.get(kind, IMAGE): key})
            found = tuple(each for each in self._watchers[kind] if each.gate(view))
            self._candidates.put((kind, key), found)
        return found

    def _tried(self, event: Any, view: View, candidates: tuple[_Watcher, ...]) -> Iterator[Signal]:
        for watcher in candidates:
            if watcher.counts(event) and watcher.test(view):
                rule = watcher.rule
                if rule.is_told:
                    shown = {**_named(rule), "matchedFields": _matched(watcher, view)}
                    yield _signal(rule.name, event, {"sigma": shown})
                for correlator, number, source in watcher.feeds:
                    yield from _counted(correlator, number, source, event, view)


def _kept(wanted: Correlation, before: Correlator | None) -> Correlator:
    return before if before is not None and before.wanted == wanted else Correlator(wanted)


def _counted(
    correlator: Correlator, number: int, source: Source, event: Any, view: View
) -> Iterator[Signal]:
    """A signal when this match completes what the correlation waits for."""
    group = tuple(view[name] for name in source.group)
    value = tuple(view[name] for name in source.value)
    if not correlator.add(number, event.time, group, value):
        return
    wanted = correlator.wanted
    shown: dict[str, object] = {
        **_named(wanted),
        "correlation": wanted.type,
        "count": wanted.count,
        "timespanSeconds": wanted.span_ns // 1_000_000_000,
        "group": {
            name: _cut(found)
            for name, field, found in zip(wanted.group, source.group, group, strict=True)
            if field not in SECRET
        },
        "rules": [each.rule for each in wanted.sources],
    }
    yield _signal(wanted.name, event, {"sigma": shown})


def _named(rule: SigmaRule | Correlation) -> dict[str, object]:
    return {"title": rule.title, "id": rule.id, "file": rule.file}


def _matched(watcher: _Watcher, view: View) -> list[dict[str, object]]:
    """The comparisons that hold, with what was found where that is no command line."""
    found: list[dict[str, object]] = []
    for compare, holds in watcher.leaves:
        if len(found) == SHOWN_FIELDS:
            break
        if holds(view):
            shown: dict[str, object] = {
                "field": compare.field,
                "operator": compare.operator.value,
                "wanted": _cut(compare.shown),
            }
            if compare.field not in SECRET:
                shown["found"] = _cut(view[compare.field])
            found.append(shown)
    return found


def _cut(value: object) -> object:
    return value[:SHOWN_LENGTH] if isinstance(value, str) else value


def _signal(rule: str, event: Any, evidence: dict[str, object]) -> Signal:
    """With what findings of this kind show."""
    match event:
        case Connect(remote=end) | Sendto(remote=end) | Accept(remote=end) if end is not None:
            action = connection_action(event, end)
            return Signal(rule, event, {}, action, key=end.address, evidence=evidence)
        case Dns() if event.message is not None and event.message.question is not None:
            name = event.message.question.name.lower()
            action = request_action(event, name)
            return Signal(rule, event, {}, action, key=name, evidence=evidence)
        case Exec():
            return Signal(rule, event, evidence=evidence)
        case _:
            path = event.new_path if isinstance(event, Rename) else event.path
            return Signal(rule, event, {"filePath": path}, key=path, evidence=evidence)
