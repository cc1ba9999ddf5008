# SPDX-License-Identifier: Apache-2.0
"""Merged settings become a Config, or a sentence about the first thing that is wrong."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from difflib import get_close_matches
from math import isfinite
from typing import Any, Final, TypeVar

import msgspec
from msgspec.structs import FieldInfo, fields

from nodeagent.config.expected import expected
from nodeagent.config.layers import DEFAULT, Leaf, Node, Table, spelled
from nodeagent.config.model import Config, SinkSetting, default_of, is_struct
from nodeagent.config.toml import masked, to_toml, toml_key
from nodeagent.errors import ConfigError
from nodeagent.setting import among
from nodeagent.sink import Sink

S = TypeVar("S", bound=msgspec.Struct)

SINK_NAME: Final = re.compile("[a-z][a-z0-9]*([_-][a-z0-9]+)*")
LONGEST_SINK_NAME: Final = 32

LONGEST_SHOWN: Final = 60
"""Characters of a wrong value that an error repeats."""


def build(root: Table, sink_types: Mapping[str, type[Sink]]) -> tuple[Config, dict[str, str]]:
    """The typed configuration and the origin of each key; raises ConfigError."""
    builder = _Builder(sink_types)
    return builder.config(root), builder.origins


class _Builder:
    def __init__(self, sink_types: Mapping[str, type[Sink]]) -> None:
        self.origins: dict[str, str] = {}
        self._sink_types = sink_types

    def config(self, root: Table) -> Config:
        rest = dict(root.children)
        given = rest.pop("sinks", Table())
        if not isinstance(given, Table):
            raise ConfigError(_wrong("sinks", given, "a table", ": write [sinks.NAME]"))
        config = self._struct(Config, Table(root.origin, rest), "", {"sinks": {}})
        sinks = {name: self._sink(name, child) for name, child in given.children.items()}
        return msgspec.structs.replace(config, sinks=sinks)

    def _struct(
        self, struct: type[S], table: Table, path: str, made: Mapping[str, object] = {}
    ) -> S:
        """An instance of `struct`, with the fields in `made` as they are."""
        known = {field.encode_name: field for field in fields(struct)}
        for name, child in table.children.items():
            if name not in known:
                raise ConfigError(_unknown(path, name, child, known))
        values = dict(made)
        for name, field in known.items():
            if name not in values:
                values[field.name] = self._field(field, table, _join(path, name))
        try:
            return struct(**values)
        except ValueError as error:
            # Raised by the __post_init__ of a sink's Config.
            raise ConfigError(f"{path} ({table.origin}) is not usable: {error}") from error

    def _field(self, field: FieldInfo, table: Table, key: str) -> object:
        child = table.children.get(field.encode_name)
        if is_struct(field.type):
            inside = Table() if child is None else child
            if isinstance(inside, Leaf):
                raise ConfigError(_wrong(key, inside, "a table"))
            return self._struct(field.type, inside, key)
        self.origins[key] = DEFAULT if child is None else child.origin
        if child is not None:
            return _value(key, child, field.type)
        if field.required:
            raise ConfigError(_missing(key, table, expected(field.type)))
        return default_of(field)

    def _sink(self, name: str, child: Node) -> SinkSetting:
        key = f"sinks.{_shown_key(name)}"
        if not SINK_NAME.fullmatch(name) or len(name) > LONGEST_SINK_NAME:
            raise ConfigError(
                f"{key} ({child.origin}) has an unusable name:"
                " take a-z, 0-9, single _ or -, a letter first, at most 32"
            )
        if isinstance(child, Leaf):
            raise ConfigError(_wrong(key, child, "a table", f": write [{key}]"))
        rest = dict(child.children)
        kind = self._sink_type(name, child, rest.pop("type", None))
        config = self._struct(self._sink_types[kind].Config, Table(child.origin, rest), key)
        return SinkSetting(kind, config)

    def _sink_type(self, name: str, table: Table, given: Node | None) -> str:
        key = f"sinks.{name}.type"
        known = list(self._sink_types)
        self.origins[key] = DEFAULT if given is None else given.origin
        kind = name if given is None else _value(key, given, str)
        if kind in known:
            return str(kind)
        if given is not None:
            guess = _guess(str(kind), known)
            hint = f"did you mean {to_toml(guess)}?" if guess else f"known are {', '.join(known)}"
            raise ConfigError(
                f"{key} ({given.origin}) is {_shown(key, kind)}, no known type: {hint}"
            )
        raise ConfigError(_missing(key, table, f"one of {', '.join(known)}"))


def _value(key: str, given: Node, hint: Any) -> object:
    """The value as the type that the key has."""
    value = _plain(given)
    candidates = [value]
    if isinstance(given, Leaf) and given.text is not None:
        # A token of digits only is no number.
        candidates.append(given.text)
    for candidate in candidates:
        with suppress(msgspec.ValidationError):
            converted = msgspec.convert(candidate, hint)
            if not isinstance(converted, float) or isfinite(converted):
                _refuse_others(key, given, converted, hint)
                return converted
    raise ConfigError(_wrong(key, given, expected(hint)))


def _plain(given: Node) -> object:
    if isinstance(given, Leaf):
        return given.value
    return {name: _plain(child) for name, child in given.children.items()}


def _refuse_others(key: str, given: Node, value: object, hint: object) -> None:
    allowed = among(hint)
    if allowed is None:
        return
    if not isinstance(value, list):
        if value not in allowed.values:
            raise ConfigError(_wrong(key, given, expected(hint)))
        return
    for item in value:
        if item not in allowed.values:
            known = [str(each) for each in allowed.values]
            guess = _guess(str(item), known)
            way_out = f"did you mean {to_toml(guess)}?" if guess else f"take {', '.join(known)}"
            raise ConfigError(
                f"{key} ({given.origin}) may hold only {allowed.described},"
                f" not {_shown(key, item)}: {way_out}"
            )


def _missing(key: str, table: Table, wanted: str) -> str:
    return f"{key} is missing ({table.origin}): set {spelled(key, table.origin)} to {wanted}"


def _wrong(key: str, given: Node, wanted: str, way_out: str = "") -> str:
    shown = _shown(key, _plain(given))
    return f"{key} ({given.origin}) must be {wanted}, not {shown}{way_out}"


def _shown(key: str, value: object) -> str:
    text = to_toml(masked(key, value))
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def _shown_key(name: str) -> str:
    text = toml_key(name)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _unknown(path: str, name: str, child: Node, siblings: Iterable[str]) -> str:
    rest = []
    inside = child
    while isinstance(inside, Table) and len(inside.children) == 1:
        ((following, inside),) = inside.children.items()
        rest.append(following)
    key = ".".join([*([path] if path else []), *map(_shown_key, [name, *rest])])
    close = _meant(path, name, rest, list(siblings))
    if close:
        way_out = f"did you mean {spelled(close, child.origin)}?"
    else:
        way_out = f"known {'in ' + path if path else 'here'} are {', '.join(siblings)}"
    return f"{key} ({child.origin}) is not a known key: {way_out}"


def _meant(path: str, name: str, rest: list[str], siblings: list[str]) -> str | None:
    """The known key that is nearest to an unknown one."""
    every = list(_keys(Config))
    if near := _guess(name, siblings):
        longer = ".".join([_join(path, near), *rest])
        return longer if longer in every else _join(path, near)
    elsewhere = [key for key in every if key.endswith(f".{name}")]
    if elsewhere or path:
        return elsewhere[0] if elsewhere else None
    return _guess(".".join([name, *rest]), every)


def _guess(name: str, known: list[str]) -> str | None:
    # The comparison is quadratic, and no key is that long.
    close = get_close_matches(name[:LONGEST_SHOWN], known, 1, cutoff=0.7)
    return close[0] if close else None


def _keys(struct: type[msgspec.Struct], path: str = "") -> Iterator[str]:
    for field in fields(struct):
        key = _join(path, field.encode_name)
        yield key
        if is_struct(field.type):
            yield from _keys(field.type, key)
