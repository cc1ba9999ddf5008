# SPDX-License-Identifier: Apache-2.0
"""The effective configuration as a file that says where each value came from."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

import msgspec
from msgspec.structs import fields

from nodeagent.config.model import Config, is_struct
from nodeagent.config.toml import masked, to_toml
from nodeagent.schema import descriptions

COLUMNS: Final = 80
COMMENT_COLUMN: Final = 36
"""Where the comments of ordinary lines stand."""


class _Line(NamedTuple):
    text: str
    comment: str = ""


def show(config: Config, origins: Mapping[str, str]) -> str:
    """TOML that loads to the same configuration, but for masked secrets."""
    return "".join(f"{line}\n" for line in _rendered(_config(config, origins)))


def _config(config: Config, origins: Mapping[str, str]) -> Iterator[_Line]:
    yield from _table(config, "", origins)
    for name, sink in config.sinks.items():
        path = f"sinks.{name}"
        yield _Line("")
        yield _Line(f"[{path}]")
        yield from _pair(f"{path}.type", sink.type, origins)
        yield from _table(sink.config, path, origins)


def _table(struct: msgspec.Struct, path: str, origins: Mapping[str, str]) -> Iterator[_Line]:
    """The plain keys of a table first, then the tables in it, as TOML asks."""
    texts = descriptions(type(struct))
    inner = []
    for field in fields(type(struct)):
        key = f"{path}.{field.encode_name}" if path else field.encode_name
        value = getattr(struct, field.name)
        if is_struct(field.type):
            inner.append((key, value, texts.get(field.name, "")))
        elif key in origins:
            yield from map(_Line, _comment(texts.get(field.name, "")))
            yield from _pair(key, value, origins)
    for key, value, text in inner:
        yield _Line("")
        yield from map(_Line, _comment(text))
        yield _Line(f"[{key}]")
        yield from _table(value, key, origins)


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, COLUMNS, initial_indent="# ", subsequent_indent="# ")


def _pair(key: str, value: object, origins: Mapping[str, str]) -> Iterator[_Line]:
    name = key.rpartition(".")[2]
    comment = origins[key]
    shown = masked(key, msgspec.to_builtins(value))
    if shown is None:
        # TOML has no word for nothing.
        yield _Line(f"# {name} is not set", comment)
        return
    line = f"{name} = {to_toml(shown)}"
    if not isinstance(shown, list) or len(f"{line}  # {comment}") <= COLUMNS:
        yield _Line(line, comment)
        return
    yield _Line(f"{name} = [")
    yield from (_Line(f"    {to_toml(item)},") for item in shown)
    yield _Line("]", comment)


def _rendered(lines: Iterator[_Line]) -> Iterator[str]:
    for line in lines:
        if not line.comment:
            yield line.text
            continue
        comment = "".join(char if char.isprintable() else "?" for char in line.comment)
        column = max(COMMENT_COLUMN, len(line.text) + 2)
        if column + 2 + len(comment) > COLUMNS:
            column = len(line.text) + 2
        yield f"{line.text:<{column}}# {comment}"
