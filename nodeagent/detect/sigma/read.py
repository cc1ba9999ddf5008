# SPDX-License-Identifier: Apache-2.0
"""Files with rules of Sigma become a `RuleSet`; a rule that cannot be used is refused alone.

pySigma reads what a rule says, which is why this module is imported only when there are rules
to be read. Everything that pySigma knows and we do not is a reason to refuse a rule: a rule
that is half understood would be quiet, or loud, without anybody knowing.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, cast

import msgspec
import yaml
from sigma.conditions import (
    ConditionAND,
    ConditionFieldEqualsValueExpression,
    ConditionNOT,
    ConditionOR,
)
from sigma.correlations import SigmaCorrelationCondition, SigmaCorrelationRule
from sigma.exceptions import SigmaError
from sigma.modifiers import (
    SigmaEndswithModifier,
    SigmaRegularExpressionModifier,
    SigmaStartswithModifier,
)
from sigma.policy import SigmaPolicy
from sigma.policy.regex_engine import RegexEngine, RegexPattern
from sigma.rule import SigmaDetection, SigmaDetectionItem
from sigma.rule import SigmaRule as Parsed
from sigma.rule.base import SigmaRuleBase, SigmaYAMLLoader, check_alias_expansion
from sigma.types import (
    CompareOperators,
    SigmaBool,
    SigmaCasedString,
    SigmaCIDRExpression,
    SigmaCompareExpression,
    SigmaExists,
    SigmaExpansion,
    SigmaFieldReference,
    SigmaNull,
    SigmaNumber,
    SigmaRegularExpression,
    SigmaRegularExpressionFlag,
    SigmaString,
    SigmaTimestampPart,
    SigmaType,
    SpecialChars,
)

from nodeagent.detect.catalogue import SIGMA_LEVELS, Rule
from nodeagent.detect.sigma.correlate import COUNT_LIMIT, TYPES
from nodeagent.detect.sigma.fields import CATEGORIES, FIELDS, Watched
from nodeagent.detect.sigma.match import compiled, regex
from nodeagent.detect.sigma.rules import Correlation, Refusal, RuleSet, SigmaRule, Source
from nodeagent.detect.sigma.tree import Compare, Either, Every, Node, Not, Operator, compares
from nodeagent.errors import ConfigError

__all__ = ["read_rules"]

FILE_BYTES: Final = 1 << 20
FILES_LIMIT: Final = 5000
DEPTH_LIMIT: Final = 32
REASON_LENGTH: Final = 500
TITLE_LENGTH: Final = 200
TYPE_LENGTH: Final = 80
SUFFIXES: Final = frozenset({".yml", ".yaml"})
DEFAULT_LEVEL: Final = "medium"
OLD_STATES: Final = frozenset({"deprecated", "unsupported"})
TACTIC: Final = re.compile(r"[a-z]+(?:[-_][a-z]+)*")
TECHNIQUE: Final = re.compile(r"t\d{4}(?:\.\d{3})?")
WORD: Final = re.compile(r"[A-Za-z0-9]+")
COMPARES: Final = {
    CompareOperators.LT: Operator.LESS,
    CompareOperators.LTE: Operator.LESS_OR_EQUAL,
    CompareOperators.GT: Operator.GREATER,
    CompareOperators.GTE: Operator.GREATER_OR_EQUAL,
}
REFERENCES: Final = {
    (False, False): Operator.FIELD_IS,
    (True, False): Operator.FIELD_STARTS,
    (False, True): Operator.FIELD_ENDS,
    (True, True): Operator.FIELD_CONTAINS,
}
"""By whether the other field stands at the start, and at the end."""
FLAGS: Final = {
    SigmaRegularExpressionFlag.IGNORECASE: "i",
    SigmaRegularExpressionFlag.MULTILINE: "m",
    SigmaRegularExpressionFlag.DOTALL: "s",
}
NOT_TAKEN: Final = {
    "action": "collections by action are no part of Sigma any more: write each rule in full",
    "filter": "filters are not supported: use detect.suppressions",
}
WILD: Final[dict[object, str]] = {
    SpecialChars.WILDCARD_MULTI: ".*",
    SpecialChars.WILDCARD_SINGLE: ".",
}
COUNTED: Final = {"GTE": 0, "EQ": 0, "GT": 1}
"""What is added to the number of a condition to get how many it takes."""


class _Refused(Exception):
    """A rule cannot be used; `field` is where in it."""

    def __init__(self, why: str, field: str = "") -> None:
        super().__init__(why)
        self.field = field


class _LinearTime(RegexEngine):
    """Checks expressions with the engine that will run them."""

    def compile(self, pattern: str, flags: int = 0) -> RegexPattern:
        del flags  # they change no expression from a good one to a bad one
        return cast("RegexPattern", regex(pattern))

    @property
    def error(self) -> type[Exception]:
        return ValueError


POLICY: Final = SigmaPolicy(regex_engine=_LinearTime())


class _Document(msgspec.Struct):
    """One YAML document of a file."""

    file: str
    line: int
    lines: dict[str, int] = {}
    """Where each word stands first; of a field without its modifiers."""
    content: Any = None

    @property
    def title(self) -> str:
        """Of the rule, as far as there is one."""
        given = self.content.get("title") if isinstance(self.content, dict) else None
        return str(given)[:TITLE_LENGTH] if given is not None else ""


def read_rules(places: Sequence[Path]) -> RuleSet:
    """All rules in these files, and in the *.yml files of these folders and those below them.

    Raises ConfigError for a place that cannot be read at all.
    """
    reader = _Reader()
    for file in _files(places):
        reader.read(file)
    return reader.result()


def _files(places: Iterable[Path]) -> list[Path]:
    files: list[Path] = []
    for place in places:
        try:
            found = sorted(_below(place)) if place.is_dir() else [place]
            for file in found:
                file.stat()
        except OSError as error:
            raise ConfigError(
                f"detect.sigma: {error.filename or place} cannot be read: {error.strerror}"
            ) from error
        files += found
    if len(files) > FILES_LIMIT:
        raise ConfigError(
            f"detect.sigma: there are {len(files)} files, and at most {FILES_LIMIT} may be"
        )
    return list(dict.fromkeys(files))


def _below(folder: Path) -> Iterator[Path]:
    for file in folder.rglob("*"):
        # Kubernetes keeps older versions of a mounted folder in hidden ones.
        hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        if file.suffix in SUFFIXES and not hidden and file.is_file():
            yield file


class _Reader:
    """Collects the rules of many files."""

    def __init__(self) -> None:
        self._rules: dict[str, SigmaRule] = {}
        self._correlations: list[tuple[_Document, SigmaCorrelationRule]] = []
        self._refusals: list[Refusal] = []
        self._names: dict[str, str] = {}
        """Of rules, by what correlations call them: id or name."""
        self._files: dict[str, str] = {}
        """Where each rule stands, by its name."""
        self._types: set[str] = set()

    def read(self, file: Path) -> None:
        """Take all rules of a file."""
        try:
            documents = _documents(file)
        except Exception as error:  # noqa: BLE001  whatever a file holds, it harms that file alone
            self._refuse(_Document(str(file), 0), error)
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

    def _take(self, document: _Document) -> None:
        content = document.content
        if content is None:
            return
        if not isinstance(content, dict):
            raise _Refused("this is no rule: one has a title, a logsource and a detection")
        check_alias_expansion(content)
        for key, why in NOT_TAKEN.items():
            if key in content:
                raise _Refused(why, key)
        if "correlation" in content:
            correlation = SigmaCorrelationRule.from_dict(content, policy=POLICY)
            self._enter(document, correlation)
            self._correlations.append((document, correlation))
            return
        detection = content.get("detection")
        if isinstance(detection, dict) and "timeframe" in detection:
            raise _Refused("timeframe is no part of Sigma any more: use a correlation", "timeframe")
        parsed = Parsed.from_dict(content, policy=POLICY)
        rule = self._rule(document, parsed)
        self._enter(document, parsed)
        self._rules[rule.name] = rule

    def _enter(self, document: _Document, parsed: SigmaRuleBase) -> None:
        """Make it known; raises _Refused when its id or name is taken."""
        name = _name(parsed)
        if name in self._files:
            what = f"id {parsed.id}" if parsed.id is not None else f"title {parsed.title}"
            raise _Refused(f"the rule in {self._files[name]} has the same {what}", "id")
        self._files[name] = document.file
        for reference in (parsed.id, parsed.name):
            if reference is not None:
                self._names.setdefault(str(reference), name)

    def _rule(self, document: _Document, parsed: Parsed) -> SigmaRule:
        if parsed.status is not None and parsed.status.name.lower() in OLD_STATES:
            raise _Refused(f"its status is {parsed.status.name.lower()}", "status")
        category = _category(parsed)
        for detection in parsed.detection.detections.values():
            _check_regex(detection)
        trees = [_tree(condition.parsed) for condition in parsed.detection.parsed_condition]
        node = trees[0] if len(trees) == 1 else Either(tuple(trees))
        used = dict.fromkeys(name for each in compares(node) for name in each.fields)
        for name in used:
            _check_field(name, FIELDS[category], category)
        # Refuses what cannot be compiled while there is somebody to tell.
        compiled(node)
        return SigmaRule(
            _name(parsed),
            self._catalogued(parsed),
            parsed.title[:TITLE_LENGTH],
            str(parsed.id or ""),
            document.file,
            category,
            _watched(category, used),
            node,
        )

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

    def _correlation(self, document: _Document, parsed: SigmaCorrelationRule) -> Correlation:
        kind = parsed.type.name.lower()
        condition = parsed.condition
        if kind not in TYPES:
            raise _Refused(f"correlations of type {kind} are not supported", "type")
        if not isinstance(condition, SigmaCorrelationCondition) or parsed.rules is None:
            raise _Refused("conditions with and, or, not are not supported here", "condition")
        count = _count(condition, kind, len(parsed.rules))
        counted = condition.fieldref or ()
        values = (counted,) if isinstance(counted, str) else tuple(counted)
        group = tuple(parsed.group_by or ())
        sources = []
        for reference in parsed.rules:
            base = self._rules.get(self._names.get(reference.reference, ""))
            if base is None:
                raise _Refused(
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
            _name(parsed),
            self._catalogued(parsed),
            parsed.title[:TITLE_LENGTH],
            str(parsed.id or ""),
            document.file,
            kind,
            parsed.timespan.seconds * 1_000_000_000,
            count,
            group,
            tuple(sources),
        )

    def _refuse(self, document: _Document, error: Exception) -> None:
        line = document.line
        if isinstance(error, _Refused):
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
        case _Refused() | SigmaError() | ValueError():
            text = str(error)
        case _:
            text = f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:REASON_LENGTH]


def _documents(file: Path) -> list[_Document]:
    """The documents of a file; what is dangerous to build is refused while it is only read."""
    text = _text(file)
    found: list[_Document] = []
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        line = event.start_mark.line + 1 if event.start_mark is not None else 0
        match event:
            case yaml.DocumentStartEvent():
                found.append(_Document(str(file), line))
            case yaml.ScalarEvent():
                if event.value == "<<":
                    raise _Refused(f"line {line} merges mappings by <<")
                word = event.value.partition("|")[0]
                found[-1].lines.setdefault(word, line)
            case yaml.CollectionStartEvent():
                depth += 1
                if depth > DEPTH_LIMIT:
                    raise _Refused(f"it is nested more than {DEPTH_LIMIT} deep")
            case yaml.CollectionEndEvent():
                depth -= 1
    contents = list(yaml.load_all(text, SigmaYAMLLoader))
    for document, content in zip(found, contents, strict=True):
        document.content = content
    return found


def _text(file: Path) -> str:
    if not stat.S_ISREG(file.stat().st_mode):
        raise _Refused("this is no regular file")
    try:
        with file.open("rb") as opened:
            data = opened.read(FILE_BYTES + 1)
    except OSError as error:
        raise _Refused(f"it cannot be read: {error.strerror}") from error
    if len(data) > FILE_BYTES:
        raise _Refused(f"it has more than {FILE_BYTES >> 20} MiB")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise _Refused(f"it is no text in UTF-8 (byte {error.start})") from error


def _name(parsed: SigmaRuleBase) -> str:
    return f"sigma:{parsed.id or parsed.title[:TITLE_LENGTH]}"


def _capital(word: str) -> str:
    return word[0].upper() + word[1:]


def _category(parsed: Parsed) -> str:
    """Of the log source, when it is one of ours."""
    source = parsed.logsource
    if source.product not in (None, "linux"):
        raise _Refused(f"it is for the product {source.product}", "logsource")
    if source.service is not None:
        raise _Refused(f"it is for the service {source.service}, a log", "logsource")
    if source.category not in CATEGORIES:
        known = ", ".join(CATEGORIES)
        raise _Refused(f"its category is {source.category}; known are {known}", "logsource")
    return str(source.category)


def _check_field(name: str, known: Iterable[str], of: str) -> None:
    if name in known:
        return
    close = get_close_matches(name, list(known), 1)
    way_out = f": did you mean {close[0]}?" if close else ""
    raise _Refused(f"{of} has no field {name}{way_out}", name)


def _check_regex(detection: SigmaDetection | SigmaDetectionItem) -> None:
    """PySigma means a match of the whole value by these, where all others search in it."""
    if isinstance(detection, SigmaDetection):
        for item in detection.detection_items:
            _check_regex(item)
    elif SigmaRegularExpressionModifier in detection.modifiers:
        for modifier in (SigmaStartswithModifier, SigmaEndswithModifier):
            if modifier in detection.modifiers:
                raise _Refused(
                    "re cannot be joined with startswith or endswith: write ^ or $",
                    detection.field or "",
                )


def _watched(category: str, used: Iterable[str]) -> tuple[Watched, ...]:
    """The events that have all these fields."""
    for way in CATEGORIES[category]:
        found = tuple(each for each in way if each.fields.keys() >= set(used))
        if found:
            return found
    raise _Refused(f"no event has {', '.join(used)} together")


def _count(condition: SigmaCorrelationCondition, kind: str, rules: int) -> int:
    """How many events, values or rules it takes."""
    operator = condition.op.name
    if operator not in COUNTED or not isinstance(condition.count, int):
        raise _Refused(
            f"the condition {operator.lower()} {condition.count} is not supported:"
            " take gte, gt or eq with a whole number",
            "condition",
        )
    if condition.fieldref and kind != "value_count":
        raise _Refused(f"a correlation of type {kind} counts no field", "condition")
    count = condition.count + COUNTED[operator]
    if kind == "temporal_ordered" and count != rules:
        raise _Refused(f"it takes all its {rules} rules, not {count}", "condition")
    most = rules if kind == "temporal" else COUNT_LIMIT
    if not 1 <= count <= most:
        raise _Refused(f"it takes {count}, and it can be from 1 to {most}", "condition")
    return count


def _tree(node: object) -> Node:
    """As pySigma has understood it."""
    match node:
        case ConditionAND():
            return Every(tuple(map(_tree, node.args)))
        case ConditionOR():
            return Either(tuple(map(_tree, node.args)))
        case ConditionNOT():
            return Not(_tree(node.args[0]))
        case ConditionFieldEqualsValueExpression():
            return _compared(node.field, node.value)
    raise _Refused("it looks for words without a field, and events are no lines of a log")


def _compared(field: str, value: SigmaType) -> Node:
    match value:
        case SigmaExpansion():
            return Either(tuple(_compared(field, each) for each in value.values))
        case SigmaNull():
            return Compare(field, Operator.EXISTS, value=False, shown="null")
        case SigmaExists():
            return Compare(field, Operator.EXISTS, value.exists, shown=str(value.exists).lower())
        case SigmaBool():
            return _is(field, str(value.boolean).lower())
        case SigmaTimestampPart():
            raise _Refused("modifiers for parts of a time are not supported", field)
        case SigmaNumber():
            return _is(field, str(value.number))
        case SigmaString():
            return _string(field, value)
        case SigmaRegularExpression():
            flags = "".join(FLAGS[flag] for flag in FLAGS if flag in value.flags)
            pattern = str(value.regexp)
            shown = f"(?{flags}){pattern}" if flags else pattern
            return Compare(field, Operator.MATCHES, shown, cased=True, shown=shown)
        case SigmaCIDRExpression():
            return Compare(field, Operator.IN_NETWORK, str(value.network), shown=value.cidr)
        case SigmaCompareExpression() if value.op in COMPARES:
            number = value.number.number
            return Compare(field, COMPARES[value.op], number, shown=str(number))
        case SigmaFieldReference():
            how = REFERENCES[value.starts_with, value.ends_with]
            return Compare(field, how, value.field, shown=value.field)
    raise _Refused(f"values of the type {type(value).__name__} are not supported", field)


def _is(field: str, text: str) -> Compare:
    return Compare(field, Operator.IS, text, shown=text)


def _string(field: str, value: SigmaString) -> Compare:
    """The quickest way to compare with a text that may have stars and question marks."""
    cased, shown = isinstance(value, SigmaCasedString), str(value)
    parts = value.s
    if value.contains_placeholder():
        raise _Refused("nobody has values for its placeholders (modifier expand)", field)
    if SpecialChars.WILDCARD_SINGLE in parts:
        flags = "s" if cased else "is"
        words = (re.escape(each) if isinstance(each, str) else WILD[each] for each in parts)
        pattern = rf"(?{flags})\A{''.join(words)}\z"
        return Compare(field, Operator.MATCHES, pattern, cased=True, shown=shown)
    pieces = [""]
    for each in parts:
        if isinstance(each, str):
            pieces[-1] += each
        else:
            pieces.append("")
    match pieces:
        case [text]:
            how, found = Operator.IS, text
        case ["", ""]:
            return Compare(field, Operator.EXISTS, value=True, shown=shown)
        case ["", text]:
            how, found = Operator.ENDS, text
        case [text, ""]:
            how, found = Operator.STARTS, text
        case ["", text, ""]:
            how, found = Operator.CONTAINS, text
        case _:
            return Compare(field, Operator.LIKE, tuple(pieces), cased, shown)
    return Compare(field, how, found, cased, shown)
