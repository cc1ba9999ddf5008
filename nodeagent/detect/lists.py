# SPDX-License-Identifier: Apache-2.0
"""Threat lists: addresses, networks, domains and hashes of files.

An entry is kept as a 64-bit hash in a sorted array: a million of them take 8 MB, and a look-up
is a binary search (`make bench ARGS=lists`). The hash is Python's own, keyed anew for each process, so nobody can
choose entries that collide.
"""

from __future__ import annotations

import os
import stat
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from nodeagent.detect.catalogue import rule_of_entry
from nodeagent.detect.networks import Networks
from nodeagent.detect.recent import Recent
from nodeagent.errors import ConfigError

__all__ = [
    "CATEGORIES",
    "Match",
    "ThreatList",
    "ThreatLists",
    "builtin_lists",
    "check_category",
    "is_url",
    "read_list",
]

CATEGORIES: Final = (
    "c2",
    "mining",
    "tor",
    "tor-relay",
    "black-hole",
    "drop-point",
    "dga",
    "drive-by",
    "phishing",
    "reputation-abused",
    "reputation-bitcoin",
    "reputation-malicious",
    "reputation-suspicious",
    "malware",
    "trusted",
)
"""What a list may be about."""
TRUSTED: Final = "trusted"
"""What it has is no threat, whatever other lists say."""

ACTIONS: Final = {"addresses": "connect", "domains": "dns"}
"""What is done with entries, so that a finding is about them; a file with a hash is run."""
HASH_DIGITS: Final = 64
LOOKUPS_LIMIT: Final = 8192
FILE_BYTES: Final = 256 << 20
LINE_BYTES: Final = 1024
MASK: Final = (1 << 64) - 1
PART_BITS: Final = 8
EICAR: Final = "275a021bbfb6489e54d471899f7db9d1663fc695ec2fe2a2c4538aabf651fd0f"
TEST_PROGRAM: Final = "29f477527e17c425f3dead9d37dffc03451337e248479811e8d6a4c04330e2a8"
"""Linux cannot run EICAR; docs/findings/Execution-MaliciousFileExecuted.md has this one."""


class Match(msgspec.Struct, frozen=True):
    """An entry that was found."""

    list_name: str
    category: str
    entry: str
    is_custom: bool

    def shown(self) -> dict[str, object]:
        """As `threatIntelligenceDetails` has it."""
        return {"threatListName": self.list_name, "threatNames": [self.category]}


class ThreatList:
    """One list; raises ValueError for an entry that is none."""

    def __init__(
        self, name: str, category: str, entries: Iterable[str], *, is_custom: bool
    ) -> None:
        """Entries are addresses, networks (CIDR), domains, or SHA-256 in hexadecimal."""
        self.name = name
        self.category = category
        self.is_custom = is_custom
        self.ignored: Counter[str] = Counter()
        """Entries that no finding is about, by what they are."""
        self._networks = Networks()
        parts = [array("Q") for _ in range(1 << PART_BITS)]
        useless = {
            sort
            for sort, action in ACTIONS.items()
            if category != TRUSTED and rule_of_entry(category, action) is None
        }
        for entry in entries:
            kept = read_entry(entry)
            if useless and (sort := _sort_of(kept)) in useless:
                self.ignored[sort] += 1
            elif isinstance(kept, str):
                hashed = hash(kept) & MASK
                parts[hashed >> (64 - PART_BITS)].append(hashed)
            else:
                self._networks.add(kept)
        self._hashes = array("Q")
        for part in parts:
            # Sorting makes a list, which takes five times as much; so a part at a time.
            self._hashes.extend(sorted(part))
            del part[:]

    def __len__(self) -> int:
        """How many entries it has."""
        return len(self._hashes) + len(self._networks)

    def has(self, text: str) -> bool:
        """Whether this very address, domain or hash is an entry."""
        wanted = hash(text) & MASK
        place = bisect_left(self._hashes, wanted)
        return place < len(self._hashes) and self._hashes[place] == wanted

    def has_network_of(self, text: str) -> bool:
        """Whether the address is in a network of the list."""
        return self._networks.has(text)


def read_entry(text: str) -> str | IPv4Network | IPv6Network:
    """An entry as it is looked up; raises ValueError when it is none."""
    entry = text.strip().lower()
    if "/" in entry or ":" in entry or entry.replace(".", "").isdigit():
        network = ip_network(entry, strict=False)
        whole = network.prefixlen == network.max_prefixlen
        return str(network.network_address) if whole else network
    if len(entry) == HASH_DIGITS and all(each in "0123456789abcdef" for each in entry):
        return entry
    name = entry.removeprefix("*.").strip(".")
    if "." not in name or not all(_is_label(label) for label in name.split(".")):
        shown = "".join(each if each.isprintable() else "?" for each in entry[:80])
        raise ValueError(f'"{shown}" is no address, network, domain or SHA-256')
    return name


def _sort_of(kept: str | IPv4Network | IPv6Network) -> str:
    if not isinstance(kept, str) or ":" in kept or kept.replace(".", "").isdigit():
        return "addresses"
    return "domains" if "." in kept else "hashes"


def _is_label(label: str) -> bool:
    return 0 < len(label) <= 63 and all(each.isalnum() or each in "-_" for each in label)  # noqa: PLR2004


class ThreatLists:
    """All lists; what was looked up lately costs one look into a table."""

    def __init__(self, lists: Iterable[ThreatList]) -> None:
        self._lists = tuple(lists)
        self._addresses: Recent[str, tuple[Match, ...]] = Recent(LOOKUPS_LIMIT)
        self._domains: Recent[str, tuple[Match, ...]] = Recent(LOOKUPS_LIMIT)
        self._files: Recent[str, tuple[Match, ...]] = Recent(LOOKUPS_LIMIT)

    def replace(self, lists: Iterable[ThreatList]) -> None:
        """Look into these from now on."""
        self._lists = tuple(lists)
        for looked_up in (self._addresses, self._domains, self._files):
            looked_up.clear()

    def address(self, text: str) -> tuple[Match, ...]:
        """The lists that have this address or its network; none when it is trusted."""
        found = self._addresses.get(text)
        if found is None:
            found = _threats(
                self._match(each, text)
                for each in self._lists
                if each.has(text) or each.has_network_of(text)
            )
            self._addresses.put(text, found)
        return found

    def domain(self, name: str) -> tuple[Match, ...]:
        """The lists that have this domain or one above it; none when one of them is trusted."""
        found = self._domains.get(name)
        if found is None:
            found = _threats(
                self._match(each, suffix)
                for each in self._lists
                for suffix in _suffixes(name)
                if each.has(suffix)
            )
            self._domains.put(name, found)
        return found

    def file(self, sha256: str) -> tuple[Match, ...]:
        """The lists that have this hash; none when it is trusted."""
        found = self._files.get(sha256)
        if found is None:
            found = _threats(self._match(each, sha256) for each in self._lists if each.has(sha256))
            self._files.put(sha256, found)
        return found

    def _match(self, of: ThreatList, entry: str) -> Match:
        return Match(of.name, of.category, entry, of.is_custom)


def _threats(found: Iterable[Match]) -> tuple[Match, ...]:
    matches = tuple(found)
    return () if any(each.category == TRUSTED for each in matches) else matches


def _suffixes(name: str) -> Iterator[str]:
    """`a.b.c` → a.b.c, b.c; a single label is no domain of a list."""
    while "." in name:
        yield name
        name = name.partition(".")[2]


def is_url(text: str) -> bool:
    """Whether a list is fetched, and by TLS; everything else is a file."""
    return text.startswith("https://")


def read_list(path: Path, category: str) -> ThreatList:
    """A list from a file, one entry a line; raises ConfigError."""
    where = f"detect.lists.{category}: {path}"
    check_category(category)
    try:
        with path.open("rb") as file:
            state = os.fstat(file.fileno())
            if not stat.S_ISREG(state.st_mode) or state.st_size > FILE_BYTES:
                raise ConfigError(f"{where} is no regular file of at most {FILE_BYTES >> 20} MiB")
            lines = _Lines(file)
            return ThreatList(path.name, category, lines, is_custom=True)
    except OSError as error:
        raise ConfigError(f"{where} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{where}, line {lines.number}: {error}") from error


def check_category(category: str) -> None:
    """Raises ConfigError for one that is none."""
    if category not in CATEGORIES:
        raise ConfigError(
            f"detect.lists.{category} is no category: take one of {', '.join(CATEGORIES)}"
        )


class _Lines:
    """The entries of a file, without comments and empty lines."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        while line := self._file.readline(LINE_BYTES):
            self.number += 1
            if text := line.decode("utf-8", "replace").partition("#")[0].strip():
                yield text


def builtin_lists() -> list[ThreatList]:
    """Public facts that last."""
    pools = (
        "minexmr.com supportxmr.com nanopool.org 2miners.com f2pool.com hashvault.pro moneroocean.stream"
        " nicehash.com ethermine.org unmineable.com c3pool.com xmrpool.eu monerohash.com herominers.com"
        " kryptex.network miningpoolhub.com slushpool.com braiins.com viabtc.com antpool.com poolin.com"
        " minergate.com zergpool.com prohashing.com woolypooly.com flexpool.io"
    )
    authorities = (
        "128.31.0.39 217.196.147.77 45.66.35.11 131.188.40.189 193.23.244.244 171.25.193.9"
        " 199.58.81.140 204.13.164.118 216.218.219.41"
    )
    return [
        ThreatList("nodeagent mining pools", "mining", pools.split(), is_custom=False),
        ThreatList("nodeagent Tor directory", "tor", authorities.split(), is_custom=False),
        ThreatList("nodeagent test domain", "c2", ["guarddutyc2activityb.com"], is_custom=False),
        ThreatList("nodeagent test file", "malware", [EICAR, TEST_PROGRAM], is_custom=False),
    ]
