# SPDX-License-Identifier: Apache-2.0
"""In which schema a sink sends events, and what it leaves out of them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Literal

import orjson
from msgspec import field

from nodeagent.encode import Encode, encode
from nodeagent.identity import Item
from nodeagent.ocsf import Version, ocsf_encoder
from nodeagent.sink import SinkConfig

NEEDED = frozenset({"kind", "time", "id", "type", "severity"})
"""Members without which a line is none."""


class SchemaConfig(SinkConfig, kw_only=True, frozen=True):
    """For sinks that send lines of JSON."""

    schema: Literal["native", "ocsf"] = "native"
    """What the lines say: as `nodeagent schema` describes them, or OCSF."""
    ocsf_version: Version = "1.3.0"
    """Of OCSF; Amazon Security Lake takes none that is newer than the default."""
    remove: list[str] = field(default_factory=list)
    """Leave these members out of the lines, for example argv or process.lineage; a line
    names those that it had in `removed`. Costs some time for each event."""

    def __post_init__(self) -> None:
        """Some members have to stay."""
        for member in self.remove:
            if member in NEEDED:
                raise ValueError(f"remove: {member} has to stay")
        if self.remove and self.schema != "native":
            raise ValueError("remove has no effect on OCSF: leave it out")


def encoder_of(config: SchemaConfig) -> Encode:
    """What makes the lines; the same for all sinks with the same settings."""
    if config.schema == "ocsf":
        return ocsf_encoder(config.ocsf_version)
    return _remover(tuple(config.remove)) if config.remove else encode


def json_lines(shown: Iterable[object]) -> bytes:
    """Each as a line of JSON with its newline."""
    return b"".join([orjson.dumps(each, option=orjson.OPT_APPEND_NEWLINE) for each in shown])


@lru_cache
def _remover(members: tuple[str, ...]) -> Encode:
    paths = [(member, member.split(".")) for member in members]

    def encode_rest(items: Iterable[Item]) -> bytes:
        lines = encode(items)[:-1].split(b"\n")
        return b"".join([_without(line, paths) for line in lines if line])

    return encode_rest


def _without(line: bytes, paths: list[tuple[str, list[str]]]) -> bytes:
    shown = orjson.loads(line)
    removed = [member for member, path in paths if _remove(shown, path)]
    if removed:
        shown["removed"] = removed
    return orjson.dumps(shown, option=orjson.OPT_APPEND_NEWLINE)


def _remove(shown: Any, path: list[str]) -> bool:
    for name in path[:-1]:
        shown = shown.get(name) if isinstance(shown, dict) else None
    if not isinstance(shown, dict) or path[-1] not in shown:
        return False
    del shown[path[-1]]
    return True
