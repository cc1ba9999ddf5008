# SPDX-License-Identifier: Apache-2.0
"""Files with rules of Sigma become a `RuleSet`; a rule that cannot be used is refused alone.

pySigma reads what a rule says, which is why this module is imported only when there are rules
to be read. Everything that pySigma knows and we do not is a reason to refuse a rule: a rule
that is half understood would be quiet, or loud, without anybody knowing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Final, cast

import msgspec
import yaml
from sigma.correlations import SigmaCorrelationCondition, SigmaCorrelationRule
from sigma.exceptions import SigmaError
from sigma.policy import SigmaPolicy
from sigma.policy.regex_engine import RegexEngine, RegexPattern
from sigma.rule import SigmaRule as Parsed
from sigma.rule.base import SigmaRuleBase, check_alias_expansion

from nodeagent.detect.catalogue import SIGMA_LEVELS, Rule
from nodeagent.detect.sigma.correlate import COUNT_LIMIT, TYPES
from nodeagent.detect.sigma.documents import TITLE_LENGTH, Document, documents_of, files_of
from nodeagent.detect.sigma.fields import CATEGORIES, FIELDS, Watched
from nodeagent.detect.sigma.match import compiled, regex
from nodeagent.detect.sigma.rules import (
    Correlation,
    Refusal,
    Refused,
    RuleSet,
    SigmaRule,
    Source,
)
from nodeagent.detect.sigma.translate import check_regexes, tree_of
from nodeagent.detect.sigma.tree import Either, compares

__all__ = ["read_rules"]

REASON_LENGTH: Final = 500
TYPE_LENGTH: Final = 80
DEFAULT_LEVEL: Final = "medium"
OLD_STATES: Final = frozenset({"deprecated", "unsupported"})
TACTIC: Final = re.compile(r"[a-z]+(?:[-_][a-z]+)*")
TECHNIQUE: Final = re.compile(r"t\d{4}(?:\.\d{3})?")
WORD: Final = re.compile(r"[A-Za-z0-9]+")
NOT_TAKEN: Final = {
    "action": "collections by action are no part of Sigma any more: write each rule in full",
    "filter": "filters are not supported: use detect.suppressions",
}
COUNTED: Final = {"GTE": 0, "EQ": 0, "GT": 1}
"""What is added to the number of a condition to get how many it takes."""


class _LinearTime(RegexEngine):
    """Checks expressions with the engine that will run them."""

    def compile(self, pattern: str, flags: int = 0) -> RegexPattern:
        del flags  # they change no expression from a good one to a bad one
        return cast("RegexPattern", regex(pattern))

    @property
    def error(self) -> type[Exception]:
        return ValueError


POLICY: Final = SigmaPolicy(regex_engine=_LinearTime())


def read_rules(places: Sequence[Path]) -> RuleSet:
    """All rules in these files, and in the *.yml files of these folders and those below them.

    Raises ConfigError for a place that cannot be read at all.
    """
    reader = _Reader()
    for file in files_of(places):
        reader.read(file)
    return reader.result()


class _Reader:
    """Collects the rules of many files."""

    def __init__(self) -> None:
        self._rules: dict[str, SigmaRule] = {}
        self._correlations: list[tuple[Document, SigmaCorrelationRule]] = []
        self._refusals: list[Refusal] = []
        self._names: dict[str, str] = {}
        """Of rules, by what correlations call them: id or name."""
        self._files: dict[str, str] = {}
        """Where each rule stands, by its name."""
        self._types: set[str] = set()

    def read(self, file: Path) -> None:
        """Take all rules of a file."""
        try:
            documents = documents_of(file)
        except Exception as error:  # noqa: BLE001  whatever a file holds, it harms that file alone
            self._refuse(Document(str(file), 0), error)
            return
        for document in documents:
            try:
                self._take(document)
            except Exception as error:  # noqa: BLE001  whatever a rule says, it harms that rule alone
                self._refuse(document, error)

    def result(self) -> RuleSet:
        """The rules, now that all are known that correlations may refer to."""
        made = []
        silent: set[str] = set()
        for document, parsed in self._correlations:
            try:
                correlation = self._correlation(document, parsed)
            except Exception as error:  # noqa: BLE001  as above
                self._refuse(document, error)
                continue
            made.append(correlation)
            if not parsed.generate:
                silent.update(source.rule for source in correlation.sources)
        rules = [
            msgspec.structs.replace(each, is_told=each.name not in silent)
            for each in self._rules.values()
        ]
        return RuleSet(tuple(rules), tuple(made), tuple(self._refusals))

    def _take(self, document: Document) -> None:
        content = document.content
        if content is None:
            return
        if not isinstance(content, dict):
            raise Refused("this is no rule: one has a title, a logsource and a detection")
        check_alias_expansion(content)
        for key, why in NOT_TAKEN.items():
            if key in content:
                raise Refused(why, key)
        if "correlation" in content:
            correlation = SigmaCorrelationRule.from_dict(content, policy=POLICY)
            self._enter(document, correlation)
            self._correlations.append((document, correlation))
            return
        detection = content.get("detection")
        if isinstance(detection, dict) and "timeframe" in detection:
            raise Refused("timeframe is no part of Sigma any more: use a correlation", "timeframe")
        parsed = Parsed.from_dict(content, policy=POLICY)
        rule = self._rule(document, parsed)
        self._enter(document, parsed)
        self._rules[rule.name] = rule

    def _enter(self, document: Document, parsed: SigmaRuleBase) -> None:
        """Make it known; raises Refused when its id or name is taken."""
        name = _name(parsed)
        if name in self._files:
            what = f"id {parsed.id}" if parsed.id is not None else f"title {parsed.title}"
            raise Refused(f"the rule in {self._files[name]} has the same {what}", "id")
        self._files[name] = document.file
        for reference in (parsed.id, parsed.name):
            if reference is not None:
                self._names.setdefault(str(reference), name)

    def _rule(self, document: Document, parsed: Parsed) -> SigmaRule:
        if parsed.status is not None and parsed.status.name.lower() in OLD_STATES:
            raise Refused(f"its status is {parsed.status.name.lower()}", "status")
        category = _category(parsed)
        for detection in parsed.detection.detections.values():
            check_regexes(detection)
        trees = [tree_of(condition.parsed) for condition in parsed.detection.parsed_condition]
        node = trees[0] if len(trees) == 1 else Either(tuple(trees))
        used = dict.fromkeys(name for each in compares(node) for name in each.fields)
        for name in used:
            _check_field(name, FIELDS[category], category)
        # Refuses what cannot be compiled while there is somebody to tell.
        compiled(node)
        return SigmaRule(
            *self._known(document, parsed),
            category,
            _watched(category, used),
            node,
        )

    def _known(self, document: Document, parsed: SigmaRuleBase) -> tuple[str, Rule, str, str, str]:
        """The members of `Known`."""
        title, number = parsed.title[:TITLE_LENGTH], str(parsed.id or "")
        return _name(parsed), self._catalogued(parsed), title, number, document.file

    def _catalogued(self, parsed: SigmaRuleBase) -> Rule:
        """Its weight, severity and type."""
        level = parsed.level.name.lower() if parsed.level is not None else DEFAULT_LEVEL
        severity, weight = SIGMA_LEVELS[level]
        tags = [tag.name for tag in parsed.tags if tag.namespace == "attack"]
        tactics = [tag for tag in tags if TACTIC.fullmatch(tag)]
        title = parsed.title[:TITLE_LENGTH].replace("{", "{{").replace("}", "}}")
        return Rule(
            type=self._type(parsed),
            severity=severity,
            weight=weight,
            title=f"{{process}}: {title}",
            mitre=tuple(tag.upper() for tag in tags if TECHNIQUE.fullmatch(tag)),
            purpose="".join(map(_capital, WORD.findall(tactics[0]))) if tactics else "",
        )

    def _type(self, parsed: SigmaRuleBase) -> str:
        """Made of the title; with the id where another rule has the same one."""
        words = "".join(map(_capital, WORD.findall(parsed.title)))[:TYPE_LENGTH]
        found = f"Sigma:Runtime/{words or parsed.id or 'Rule'}"
        if found in self._types and parsed.id is not None:
            found = f"{found}.{str(parsed.id)[:8]}"
        self._types.add(found)
        return found

    def _correlation(self, document: Document, parsed: SigmaCorrelationRule) -> Correlation:
        kind = parsed.type.name.lower()
        condition = parsed.condition
        if kind not in TYPES:
            raise Refused(f"correlations of type {kind} are not supported", "type")
        if not isinstance(condition, SigmaCorrelationCondition) or parsed.rules is None:
            raise Refused("conditions with and, or, not are not supported here", "condition")
        count = _count(condition, kind, len(parsed.rules))
        counted = condition.fieldref or ()
        values = (counted,) if isinstance(counted, str) else tuple(counted)
        group = tuple(parsed.group_by or ())
        sources = []
        for reference in parsed.rules:
            base = self._rules.get(self._names.get(reference.reference, ""))
            if base is None:
                raise Refused(
                    f"it refers to {reference.reference}, which is no rule about events that"
                    " was read",
                    "rules",
                )
            aliases = {
                alias.alias: field
                for alias in parsed.aliases
                for of, field in alias.mapping.items()
                if of.reference == reference.reference
            }
            source = Source(
                base.name,
                tuple(aliases.get(name, name) for name in group),
                tuple(aliases.get(name, name) for name in values),
            )
            shared = frozenset.intersection(*(frozenset(each.fields) for each in base.watched))
            for name in (*source.group, *source.value):
                _check_field(name, shared, f"the rule {base.title}")
            sources.append(source)
        return Correlation(
            *self._known(document, parsed),
            kind,
            parsed.timespan.seconds * 1_000_000_000,
            count,
            group,
            tuple(sources),
        )

    def _refuse(self, document: Document, error: Exception) -> None:
        line = document.line
        if isinstance(error, Refused):
            line = document.lines.get(error.field, line)
        elif isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
            line = error.problem_mark.line + 1
        self._refusals.append(Refusal(document.file, line, document.title, _why(error)))


def _why(error: Exception) -> str:
    """What is wrong, in one line."""
    match error:
        case yaml.MarkedYAMLError():
            text = f"this is no YAML: {error.problem or error.context}"
        case yaml.YAMLError():
            text = f"this is no YAML: {error}"
        case Refused() | SigmaError() | ValueError():
            text = str(error)
        case _:
            text = f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:REASON_LENGTH]


def _name(parsed: SigmaRuleBase) -> str:
    return f"sigma:{parsed.id or parsed.title[:TITLE_LENGTH]}"


def _capital(word: str) -> str:
    return word[0].upper() + word[1:]


def _category(parsed: Parsed) -> str:
    """Of the log source, when it is one of ours."""
    source = parsed.logsource
    if source.product not in (None, "linux"):
        raise Refused(f"it is for the product {source.product}", "logsource")
    if source.service is not None:
        raise Refused(f"it is for the service {source.service}, a log", "logsource")
    if source.category not in CATEGORIES:
        known = ", ".join(CATEGORIES)
        raise Refused(f"its category is {source.category}; known are {known}", "logsource")
    return str(source.category)


def _check_field(name: str, known: Iterable[str], of: str) -> None:
    if name in known:
        return
    close = get_close_matches(name, list(known), 1)
    way_out = f": did you mean {close[0]}?" if close else ""
    raise Refused(f"{of} has no field {name}{way_out}", name)


def _watched(category: str, used: Iterable[str]) -> tuple[Watched, ...]:
    """The events that have all these fields."""
    for way in CATEGORIES[category]:
        found = tuple(each for each in way if each.fields.keys() >= set(used))
        if found:
            return found
    raise Refused(f"no event has {', '.join(used)} together")


def _count(condition: SigmaCorrelationCondition, kind: str, rules: int) -> int:
    """How many events, values or rules it takes."""
    operator = condition.op.name
    if operator not in COUNTED or not isinstance(condition.count, int):
        raise Refused(
            f"the condition {operator.lower()} {condition.count} is not supported:"
            " take gte, gt or eq with a whole number",
            "condition",
        )
    if condition.fieldref and kind != "value_count":
        raise Refused(f"a correlation of type {kind} counts no field", "condition")
    count = condition.count + COUNTED[operator]
    if kind == "temporal_ordered" and count != rules:
        raise Refused(f"it takes all its {rules} rules, not {count}", "condition")
    most = rules if kind == "temporal" else COUNT_LIMIT
    if not 1 <= count <= most:
        raise Refused(f"it takes {count}, and it can be from 1 to {most}", "condition")
    return count
