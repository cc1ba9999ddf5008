# SPDX-License-Identifier: Apache-2.0
"""Entries of threat lists in the formats in which others publish them.

Plain text has an entry a line. STIX 2.1 is a bundle of indicators, MISP an event or several
with attributes, both in JSON.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import orjson

from nodeagent.detect.lists import ThreatList, check_category, read_entry, read_list
from nodeagent.errors import ConfigError

__all__ = ["FEED_BYTES", "FeedError", "entries_of", "list_of", "read_any"]

FEED_BYTES: Final = 64 << 20

STIX_VALUE: Final = re.compile(
    r"(?:ipv4-addr|ipv6-addr|domain-name):value\s*=\s*'([^']{1,255})'"
    r"|file:hashes\.(?:'SHA-256'|\"SHA-256\"|SHA256)\s*=\s*'([0-9A-Fa-f]{64})'"
)
"""Comparisons that stand for themselves; what a pattern demands beside them is not looked at."""
MISP_PLACES: Final = {
    "ip-src": 0,
    "ip-dst": 0,
    "domain": 0,
    "hostname": 0,
    "sha256": 0,
    "ip-src|port": 0,
    "ip-dst|port": 0,
    "hostname|port": 0,
    "domain|ip": 0,
    "filename|sha256": 1,
}
"""Types of attributes, and which part of their value is an entry."""


class FeedError(Exception):
    """What was read is no list."""


def list_of(data: bytes, name: str, category: str) -> ThreatList:
    """The list; entries that cannot be looked up are left out. Raises FeedError."""
    good, bad = [], 0
    for entry in entries_of(data):
        try:
            read_entry(entry)
        except ValueError:
            bad += 1
        else:
            good.append(entry)
    if bad > len(good):
        raise FeedError(f"{bad} of {bad + len(good)} entries are no address, domain or SHA-256")
    return ThreatList(name, category, good, is_custom=True)


def read_any(path: Path, category: str) -> ThreatList:
    """A list from a file in any of the formats; raises ConfigError."""
    check_category(category)
    try:
        with path.open("rb") as file:
            if file.read(1) not in {b"{", b"["}:
                return read_list(path, category)
            file.seek(0)
            data = file.read(FEED_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"detect.lists.{category}: {path} cannot be read: {error.strerror}"
        ) from error
    try:
        if len(data) > FEED_BYTES:
            raise FeedError(f"it has more than {FEED_BYTES >> 20} MiB")
        return list_of(data, path.name, category)
    except FeedError as error:
        raise ConfigError(f"detect.lists.{category}: {path} is no list: {error}") from error


def entries_of(data: bytes) -> Iterator[str]:
    """The entries, as they are written; raises FeedError."""
    if data.lstrip()[:1] not in {b"{", b"["}:
        yield from _lines(data)
        return
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise FeedError(f"it is no JSON: {error}") from error
    if isinstance(document, dict) and document.get("type") == "bundle":
        yield from _stix(document)
    else:
        yield from _misp(document)


def _lines(data: bytes) -> Iterator[str]:
    for line in data.decode("utf-8", "replace").splitlines():
        if text := line.partition("#")[0].strip():
            yield text


def _stix(bundle: dict[str, Any]) -> Iterator[str]:
    now = datetime.datetime.now(datetime.UTC).isoformat()
    for each in _dicts(bundle.get("objects")):
        if each.get("type") != "indicator" or each.get("revoked") is True:
            continue
        until = each.get("valid_until")
        # Both are in UTC and begin with the year.
        if isinstance(until, str) and until < now:
            continue
        for match in STIX_VALUE.finditer(str(each.get("pattern", ""))):
            yield match[1] or match[2]


def _misp(document: object) -> Iterator[str]:
    if isinstance(document, dict):
        document = document.get("response", document)
    events = _dicts(document if isinstance(document, list) else [document])
    found = [each["Event"] for each in events if isinstance(each.get("Event"), dict)]
    if not found:
        raise FeedError("it is neither a bundle of STIX nor an event of MISP")
    for event in found:
        groups = [event, *_dicts(event.get("Object"))]
        for attribute in (each for group in groups for each in _dicts(group.get("Attribute"))):
            place = MISP_PLACES.get(str(attribute.get("type")))
            parts = str(attribute.get("value", "")).split("|")
            if place is not None and attribute.get("to_ids") is True and len(parts) > place:
                yield parts[place]


def _dicts(found: object) -> Iterator[dict[str, Any]]:
    if isinstance(found, list):
        yield from (each for each in found if isinstance(each, dict))
