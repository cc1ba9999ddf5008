# SPDX-License-Identifier: Apache-2.0
"""Values written as TOML, and which of them are nobody's business."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final

BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")

SECRET_WORDS: Final = frozenset(
    {"token", "password", "passwd", "passphrase", "secret", "key", "credential", "authorization"}
)
HARMLESS_ENDS: Final = ("_path", "_file", "_seconds", "_bytes", "_id")
MASK: Final = "********"

USER_IN_URL: Final = re.compile(r"(?<=://)[^/@\s]+(?=@)")


def to_toml(value: object) -> str:
    """`value` in one line, so that TOML reads the same value again."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, (list, tuple, set, frozenset)):
        return f"[{', '.join(map(to_toml, value))}]"
    if isinstance(value, Mapping):
        pairs = (f"{toml_key(str(key))} = {to_toml(each)}" for key, each in value.items())
        return f"{{{', '.join(pairs)}}}"
    # Numbers, inf and nan too, dates and times.
    return str(value)


def toml_key(name: str) -> str:
    """`name` as it stands before the equals sign."""
    return name if BARE_KEY.fullmatch(name) else _quoted(name)


def masked(key: str, value: object) -> object:
    """`value` without what the name of its key calls a secret, or the user part of a URL."""
    if isinstance(value, Mapping):
        return {name: masked(str(name), each) for name, each in value.items()}
    if isinstance(value, str):
        return MASK if value and _is_secret(key) else USER_IN_URL.sub(MASK, value)
    if isinstance(value, (list, tuple)):
        return [masked(key, each) for each in value]
    return value


def _is_secret(key: str) -> bool:
    name = key.rpartition(".")[2].lower().replace("-", "_")
    words = {word.removesuffix("s") for word in name.split("_")} | set(name.split("_"))
    return not name.endswith(HARMLESS_ENDS) and not words.isdisjoint(SECRET_WORDS)


def _quoted(text: str) -> str:
    """A basic string; what does not print is escaped, so that it cannot drive a terminal."""
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(char if char.isprintable() else _escaped(char) for char in quoted)


def _escaped(char: str) -> str:
    return f"\\u{ord(char):04X}" if ord(char) <= 0xFFFF else f"\\U{ord(char):08X}"  # noqa: PLR2004
