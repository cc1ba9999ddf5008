# SPDX-License-Identifier: Apache-2.0
"""From what pySigma has understood to our own tree; what we do not know is refused."""

from __future__ import annotations

import re
from typing import Final

from sigma.conditions import (
    ConditionAND,
    ConditionFieldEqualsValueExpression,
    ConditionNOT,
    ConditionOR,
)
from sigma.modifiers import (
    SigmaEndswithModifier,
    SigmaRegularExpressionModifier,
    SigmaStartswithModifier,
)
from sigma.rule import SigmaDetection, SigmaDetectionItem
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

from nodeagent.detect.sigma.rules import Refused
from nodeagent.detect.sigma.tree import Compare, Either, Every, Node, Not, Operator

__all__ = ["check_regexes", "compared", "tree_of"]

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
WILD: Final[dict[object, str]] = {
    SpecialChars.WILDCARD_MULTI: ".*",
    SpecialChars.WILDCARD_SINGLE: ".",
}


def check_regexes(detection: SigmaDetection | SigmaDetectionItem) -> None:
    """PySigma means a match of the whole value by these, where all others search in it."""
    if isinstance(detection, SigmaDetection):
        for item in detection.detection_items:
            check_regexes(item)
    elif SigmaRegularExpressionModifier in detection.modifiers:
        for modifier in (SigmaStartswithModifier, SigmaEndswithModifier):
            if modifier in detection.modifiers:
                raise Refused(
                    "re cannot be joined with startswith or endswith: write ^ or $",
                    detection.field or "",
                )


def tree_of(node: object) -> Node:
    """What a condition says; raises Refused."""
    match node:
        case ConditionAND():
            return Every(tuple(map(tree_of, node.args)))
        case ConditionOR():
            return Either(tuple(map(tree_of, node.args)))
        case ConditionNOT():
            return Not(tree_of(node.args[0]))
        case ConditionFieldEqualsValueExpression():
            return compared(node.field, node.value)
    raise Refused("it looks for words without a field, and events are no lines of a log")


def compared(field: str, value: SigmaType) -> Node:
    """What a field must be; raises Refused."""
    match value:
        case SigmaExpansion():
            return Either(tuple(compared(field, each) for each in value.values))
        case SigmaNull():
            return Compare(field, Operator.EXISTS, value=False, shown="null")
        case SigmaExists():
            return Compare(field, Operator.EXISTS, value.exists, shown=str(value.exists).lower())
        case SigmaBool():
            return _is(field, str(value.boolean).lower())
        case SigmaTimestampPart():
            raise Refused("modifiers for parts of a time are not supported", field)
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
    raise Refused(f"values of the type {type(value).__name__} are not supported", field)


def _is(field: str, text: str) -> Compare:
    return Compare(field, Operator.IS, text, shown=text)


def _string(field: str, value: SigmaString) -> Compare:
    """The quickest way to compare with a text that may have stars and question marks."""
    cased, shown = isinstance(value, SigmaCasedString), str(value)
    parts = value.s
    if value.contains_placeholder():
        raise Refused("nobody has values for its placeholders (modifier expand)", field)
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
