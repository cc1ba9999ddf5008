# SPDX-License-Identifier: Apache-2.0
"""Plain functions that say whether an event is what a tree says; made once, when rules are read.

Regular expressions are those of RE2: whatever a rule or a command line holds, the time is
linear in the length of the text, and the memory of each expression is bounded.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import Any, Final

from nodeagent.detect.sigma.fields import LOWER, TEXT, View
from nodeagent.detect.sigma.tree import Compare, Constant, Either, Every, Node, Not, Operator

__all__ = ["Predicate", "compiled", "regex"]

REGEX_BYTES: Final = 1 << 18
"""Memory that an expression may take; one that needs more is refused or runs slower."""

Predicate = Callable[[View], bool]


def compiled(node: Node) -> Predicate:
    """The function; raises ValueError for an expression that cannot be compiled."""
    match node:
        case Compare():
            return MAKERS[node.operator](node)
        case Not(part):
            inner = compiled(part)
            return lambda view: not inner(view)
        case Every(parts):
            return _every([compiled(part) for part in parts])
        case Either(parts):
            return _either(list(_gathered(parts)))
        case Constant(value):
            return lambda _: value


def regex(pattern: str) -> Any:
    """An expression of RE2; raises ValueError with what is wrong with it."""
    # It takes some MiB, and many rules need none.
    import re2  # noqa: PLC0415

    options = re2.Options()
    options.max_mem = REGEX_BYTES
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        why = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error)
        raise ValueError(
            f"the regular expression {pattern} is none that runs in linear time ({why})"
        ) from error


def _every(tests: Sequence[Predicate]) -> Predicate:
    if len(tests) == 1:
        return tests[0]

    def every(view: View) -> bool:
        for test in tests:  # noqa: SIM110  a generator costs more than the tests
            if not test(view):
                return False
        return True

    return every


def _either(tests: Sequence[Predicate]) -> Predicate:
    if len(tests) == 1:
        return tests[0]

    def either(view: View) -> bool:
        for test in tests:  # noqa: SIM110  a generator costs more than the tests
            if test(view):
                return True
        return False

    return either


def _gathered(parts: Iterable[Node]) -> Iterable[Predicate]:
    """One function for all values that a field is compared with in the same way."""
    groups: dict[tuple[str, Operator, bool], list[str]] = {}
    for part in parts:
        if isinstance(part, Compare) and part.operator in OF_MANY and isinstance(part.value, str):
            values = groups.setdefault((part.field, part.operator, part.cased), [])
            values.append(_folded(part))
        else:
            yield compiled(part)
    for (field, how, cased), found in groups.items():
        yield OF_MANY[how](_key(field, cased), found)


def _key(field: str, cased: bool) -> str:
    return field + (TEXT if cased else LOWER)


def _folded(part: Compare) -> str:
    value = str(part.value)
    return value if part.cased else value.lower()


def _is_any(key: str, values: Sequence[str]) -> Predicate:
    wanted = frozenset(values)
    return lambda view: view[key] in wanted


def _contains_any(key: str, values: Sequence[str]) -> Predicate:
    def contains(view: View) -> bool:
        text = view[key]
        if text is None:
            return False
        for value in values:  # noqa: SIM110  a generator costs more than the tests
            if value in text:
                return True
        return False

    return contains


def _starts_any(key: str, values: Sequence[str]) -> Predicate:
    wanted = tuple(values)
    return lambda view: (text := view[key]) is not None and text.startswith(wanted)


def _ends_any(key: str, values: Sequence[str]) -> Predicate:
    wanted = tuple(values)
    return lambda view: (text := view[key]) is not None and text.endswith(wanted)


OF_MANY: Final[Mapping[Operator, Callable[[str, Sequence[str]], Predicate]]] = {
    Operator.IS: _is_any,
    Operator.CONTAINS: _contains_any,
    Operator.STARTS: _starts_any,
    Operator.ENDS: _ends_any,
}


def _one_of_many(part: Compare) -> Predicate:
    return OF_MANY[part.operator](_key(part.field, part.cased), (_folded(part),))


def _like(part: Compare) -> Predicate:
    """What stands between the stars, in this order; the first and the last one at the ends."""
    pieces = part.value if isinstance(part.value, tuple) else (str(part.value),)
    if not part.cased:
        pieces = tuple(each.lower() for each in pieces)
    first, *middle, last = pieces
    key = _key(part.field, part.cased)
    shortest = len(first) + len(last)

    def like(view: View) -> bool:
        text: str | None = view[key]
        if text is None or len(text) < shortest or not text.startswith(first):
            return False
        at, end = len(first), len(text) - len(last)
        for piece in middle:
            found = text.find(piece, at, end)
            if found < 0:
                return False
            at = found + len(piece)
        return text.endswith(last)

    return like


def _matches(part: Compare) -> Predicate:
    search = regex(str(part.value)).search
    key = part.field + TEXT

    def matches(view: View) -> bool:
        text = view[key]
        # Names of files need not be UTF-8.
        return text is not None and bool(search(text.encode("utf-8", "surrogateescape")))

    return matches


def _in_network(part: Compare) -> Predicate:
    network = ip_network(str(part.value))
    field = part.field

    def is_inside(view: View) -> bool:
        text = view[field]
        try:
            return text is not None and bool(ip_address(text) in network)
        except ValueError:
            return False

    return is_inside


def _compares(how: Callable[[float, float], bool]) -> Callable[[Compare], Predicate]:
    def make(part: Compare) -> Predicate:
        if not isinstance(part.value, int | float):
            raise TypeError(f"{part.field} is compared with {part.value!r}, which is no number")
        limit, field = part.value, part.field

        def holds(view: View) -> bool:
            found = view[field]
            try:
                return found is not None and how(float(found), limit)
            except ValueError:
                return False

        return holds

    return make


def _exists(part: Compare) -> Predicate:
    wanted, field = bool(part.value), part.field
    return lambda view: (view[field] is not None) is wanted


def _of_field(how: Callable[[str, str], bool]) -> Callable[[Compare], Predicate]:
    def make(part: Compare) -> Predicate:
        key, other = (_key(name, part.cased) for name in part.fields)

        def holds(view: View) -> bool:
            found, wanted = view[key], view[other]
            return found is not None and wanted is not None and how(found, wanted)

        return holds

    return make


MAKERS: Final[Mapping[Operator, Callable[[Compare], Predicate]]] = {
    Operator.IS: _one_of_many,
    Operator.CONTAINS: _one_of_many,
    Operator.STARTS: _one_of_many,
    Operator.ENDS: _one_of_many,
    Operator.LIKE: _like,
    Operator.MATCHES: _matches,
    Operator.IN_NETWORK: _in_network,
    Operator.LESS: _compares(operator.lt),
    Operator.LESS_OR_EQUAL: _compares(operator.le),
    Operator.GREATER: _compares(operator.gt),
    Operator.GREATER_OR_EQUAL: _compares(operator.ge),
    Operator.EXISTS: _exists,
    Operator.FIELD_IS: _of_field(operator.eq),
    Operator.FIELD_CONTAINS: _of_field(operator.contains),
    Operator.FIELD_STARTS: _of_field(str.startswith),
    Operator.FIELD_ENDS: _of_field(str.endswith),
}
