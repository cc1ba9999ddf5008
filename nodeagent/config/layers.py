# SPDX-License-Identifier: Apache-2.0
"""Where settings come from besides the file, and how one layer goes over another."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from nodeagent.errors import ConfigError

DEFAULT: Final = "default"
"""The origin of what nobody set."""

PREFIX: Final = "NODEAGENT_"
NESTING: Final = "__"

RESERVED: Final = frozenset({"NODEAGENT_REQUIRE"})
"""Variables of the tests."""

SERVICE_LINK: Final = re.compile(
    r"NODEAGENT_((?!.*__)\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)"
)
"""Variables that Kubernetes sets in each container for a Service named nodeagent."""

DEEPEST: Final = 16
"""More tables in each other than any key needs."""


@dataclass
class Leaf:
    """One value."""

    value: object
    origin: str
    text: str | None = None
    """What was written outside of a file, where strings need no quotes."""


@dataclass
class Table:
    """Keys with values, which may be tables again."""

    origin: str = DEFAULT
    children: dict[str, Leaf | Table] = field(default_factory=dict)


Node = Leaf | Table


def node(value: object, origin: str, text: str | None = None, depth: int = 0) -> Node:
    """`value` as TOML gives it; raises ConfigError when it is nested beyond all reason."""
    if not isinstance(value, dict):
        return Leaf(value, origin, text)
    if depth > DEEPEST:
        raise ConfigError(f"{origin} nests more than {DEEPEST} tables: use the keys that exist")
    inside = {key: node(each, origin, depth=depth + 1) for key, each in value.items()}
    return Table(origin, inside)


def merge(below: Table, above: Table) -> None:
    """Put `above` over `below`: tables are joined, all else is replaced."""
    below.origin = above.origin
    for key, new in above.children.items():
        old = below.children.get(key)
        if isinstance(old, Table) and isinstance(new, Table):
            merge(old, new)
        else:
            below.children[key] = new


def from_environment(environment: Mapping[str, str]) -> Iterator[Table]:
    """A layer for each variable that is meant for us: NODEAGENT_KERNEL__ARGV_BYTES."""
    for name, text in sorted(environment.items()):
        if not name.startswith(PREFIX) or name in RESERVED or SERVICE_LINK.fullmatch(name):
            continue
        origin = f"environment {name}"
        keys = name.removeprefix(PREFIX).lower().split(NESTING)
        yield _nested(keys, _parsed(text, origin), origin)


def from_override(argument: str) -> Table:
    """The layer of one `--set KEY=VALUE`."""
    key, equals, text = argument.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {argument} is not KEY=VALUE: write --set kernel.argv_bytes=512")
    return _nested(key.strip().split("."), _parsed(text.strip(), "--set"), "--set")


def from_flag(name: str, key: str, value: object) -> Table:
    """The layer of an option that sets one key."""
    return _nested(key.split("."), node(value, name), name)


def spelled(key: str, origin: str) -> str:
    """How `key` is written where something of this origin is written."""
    if origin.startswith("environment "):
        return PREFIX + key.replace(".", NESTING).upper()
    return key


def _nested(keys: Sequence[str], inside: Node, origin: str) -> Table:
    if len(keys) > DEEPEST:
        raise ConfigError(f"{origin} nests more than {DEEPEST} tables: use the keys that exist")
    for key in reversed(keys):
        inside = Table(origin, {key: inside})
    assert isinstance(inside, Table)  # noqa: S101  for the type checker: there is a key
    return inside


def _parsed(text: str, origin: str) -> Node:
    """`text` as a TOML value, else as the string that it is."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"{origin} has a value that is not UTF-8: write it as UTF-8") from error
    try:
        table = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return Leaf(text, origin, text)
    # A line break in the text could add keys.
    return node(table["value"], origin, text) if len(table) == 1 else Leaf(text, origin, text)
