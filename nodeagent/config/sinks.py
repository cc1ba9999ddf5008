# SPDX-License-Identifier: Apache-2.0
"""Which sinks there are, and options that mean several of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from msgspec.structs import fields

from nodeagent.config.layers import Leaf, Table
from nodeagent.config.toml import toml_key
from nodeagent.errors import ConfigError
from nodeagent.sink import Sink

DEFAULT_SINK: Final = "stdout"

EVERY_SINK: Final = "sinks.*."
"""A flag's key that begins so means that key of every sink that has it."""


def choose(root: Table, names: Sequence[str], sink_types: Mapping[str, type[Sink]]) -> None:
    """Keep the sinks of these names, or all of them; without any there is standard output."""
    given = root.children.setdefault("sinks", Table())
    if isinstance(given, Leaf):
        # The wrong type, which is said where all values are checked.
        return
    if names:
        given.children = {name: _chosen(name, given, sink_types) for name in names}
    elif not given.children:
        given.children = {DEFAULT_SINK: Table()}


def set_everywhere(
    root: Table, option: str, key: str, value: object, sink_types: Mapping[str, type[Sink]]
) -> None:
    """Set one key of every sink that has it; raises ConfigError when none has."""
    found = False
    for name, sink in _tables(root):
        kind = sink.children.get("type", Leaf(name, ""))
        kind_name = kind.value if isinstance(kind, Leaf) else None
        sink_type = sink_types.get(kind_name) if isinstance(kind_name, str) else None
        if sink_type and key in {field.encode_name for field in fields(sink_type.Config)}:
            sink.children[key] = Leaf(value, option)
            found = True
    if not found:
        raise ConfigError(f"{option} has no effect on any sink here: add --sink {DEFAULT_SINK}")


def _chosen(name: str, given: Table, sink_types: Mapping[str, type[Sink]]) -> Leaf | Table:
    if name in given.children:
        return given.children[name]
    if name in sink_types:
        return Table("--sink")
    known = ", ".join(dict.fromkeys([*map(toml_key, given.children), *sink_types]))
    raise ConfigError(f"--sink {name} is no sink of the configuration and no type: take {known}")


def _tables(root: Table) -> Iterator[tuple[str, Table]]:
    given = root.children.get("sinks")
    if isinstance(given, Table):
        yield from (
            (name, each) for name, each in given.children.items() if isinstance(each, Table)
        )
