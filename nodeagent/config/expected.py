# SPDX-License-Identifier: Apache-2.0
"""What a key takes, in words: the end of "must be …"."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from msgspec import inspect

from nodeagent.config.toml import to_toml
from nodeagent.setting import among

NO_NUL: Final = r"^[^\0]+$"
"""What a path has to match."""


def expected(hint: object) -> str:
    """For example "a whole number from 64 to 8192"."""
    kind = inspect.type_info(hint)
    allowed = among(hint)
    if allowed is None:
        return _words(kind)
    if isinstance(kind, inspect.ListType):
        return f"a list of {allowed.described}, like {to_toml([*allowed.values][:2])}"
    return allowed.described


def _words(kind: inspect.Type) -> str:
    # Descriptions and extra schema wrap the type itself.
    while isinstance(kind, inspect.Metadata):
        kind = kind.type
    say = _WORDS.get(type(kind))
    return "of another type" if say is None else say(kind)


def _number(noun: str) -> Callable[[Any], str]:
    def say(kind: inspect.IntType | inspect.FloatType) -> str:
        if kind.ge is not None and kind.le is not None:
            return f"{noun} from {kind.ge} to {kind.le}"
        bounds = [
            f"{word} {bound}"
            for word, bound in (
                ("of at least", kind.ge),
                ("greater than", kind.gt),
                ("of at most", kind.le),
                ("less than", kind.lt),
            )
            if bound is not None
        ]
        return " and ".join([f"{noun} {bounds[0]}", *bounds[1:]]) if bounds else noun

    return say


def _string(kind: inspect.StrType) -> str:
    if kind.pattern is not None and kind.pattern != NO_NUL:
        return f"a string that matches {kind.pattern}"
    return "a string that is not empty" if kind.min_length or kind.pattern else "a string"


def _list(kind: Any) -> str:
    some = "a list that is not empty" if kind.min_length else "a list"
    return f"{some}, each item {_words(kind.item_type)}"


def _union(kind: inspect.UnionType) -> str:
    return " or ".join(_words(each) for each in kind.types if type(each) is not inspect.NoneType)


def _literal(kind: inspect.LiteralType) -> str:
    return f"one of {', '.join(map(to_toml, kind.values))}"


_WORDS: Final[dict[type, Callable[[Any], str]]] = {
    inspect.IntType: _number("a whole number"),
    inspect.FloatType: _number("a number"),
    inspect.BoolType: lambda _: "true or false",
    inspect.StrType: _string,
    inspect.LiteralType: _literal,
    inspect.ListType: _list,
    inspect.SetType: _list,
    inspect.FrozenSetType: _list,
    inspect.VarTupleType: _list,
    inspect.UnionType: _union,
    inspect.DictType: lambda _: "a table",
    inspect.StructType: lambda _: "a table",
}
