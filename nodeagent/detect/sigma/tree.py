# SPDX-License-Identifier: Apache-2.0
"""What a rule says about an event, as a tree."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Final

import msgspec

__all__ = [
    "NEVER",
    "Compare",
    "Constant",
    "Either",
    "Every",
    "Node",
    "Not",
    "Operator",
    "compares",
    "weakened",
]


class Operator(StrEnum):
    """How a field is compared."""

    IS = "is"
    CONTAINS = "contains"
    STARTS = "startswith"
    ENDS = "endswith"
    LIKE = "like"
    """The value is a tuple: what stands between the stars."""
    MATCHES = "re"
    IN_NETWORK = "cidr"
    LESS = "lt"
    LESS_OR_EQUAL = "lte"
    GREATER = "gt"
    GREATER_OR_EQUAL = "gte"
    EXISTS = "exists"
    FIELD_IS = "fieldref"
    """The value is the name of another field, as with those below."""
    FIELD_CONTAINS = "fieldref|contains"
    FIELD_STARTS = "fieldref|startswith"
    FIELD_ENDS = "fieldref|endswith"


OF_FIELDS: Final = frozenset(
    {Operator.FIELD_IS, Operator.FIELD_CONTAINS, Operator.FIELD_STARTS, Operator.FIELD_ENDS}
)


class Compare(msgspec.Struct, frozen=True):
    """A field with a value."""

    field: str
    operator: Operator
    value: str | tuple[str, ...] | float | bool
    cased: bool = False
    """Upper and lower case differ."""
    shown: str = ""
    """The value as the rule has it."""

    @property
    def fields(self) -> tuple[str, ...]:
        """Those that it looks at."""
        return (self.field, str(self.value)) if self.operator in OF_FIELDS else (self.field,)


class Every(msgspec.Struct, frozen=True):
    """All parts hold."""

    parts: tuple[Node, ...]


class Either(msgspec.Struct, frozen=True):
    """One part holds."""

    parts: tuple[Node, ...]


class Not(msgspec.Struct, frozen=True):
    """The part does not hold."""

    part: Node


class Constant(msgspec.Struct, frozen=True):
    """It always holds, or never."""

    value: bool


Node = Compare | Every | Either | Not | Constant

ALWAYS: Final = Constant(value=True)
NEVER: Final = Constant(value=False)


def compares(node: Node) -> Iterator[Compare]:
    """All comparisons in it."""
    match node:
        case Compare():
            yield node
        case Every(parts) | Either(parts):
            for part in parts:
                yield from compares(part)
        case Not(part):
            yield from compares(part)


def weakened(node: Node, known: str, *, up: bool = True) -> Node:
    """What is left to say when only the field `known` is: it holds wherever `node` can.

    With `up` false it holds only where `node` must, which is what below a Not is asked for.
    """
    match node:
        case Compare():
            return node if set(node.fields) == {known} else Constant(value=up)
        case Every(parts):
            return _joined(Every, NEVER, (weakened(part, known, up=up) for part in parts))
        case Either(parts):
            return _joined(Either, ALWAYS, (weakened(part, known, up=up) for part in parts))
        case Not(part):
            inner = weakened(part, known, up=not up)
            return Constant(not inner.value) if isinstance(inner, Constant) else Not(inner)
        case _:
            return node


def _joined(kind: type[Every | Either], decides: Constant, parts: Iterator[Node]) -> Node:
    """Without the constants: one decides alone, the other changes nothing."""
    left = tuple(part for part in parts if part != Constant(not decides.value))
    if decides in left:
        return decides
    return kind(left) if left else Constant(not decides.value)
