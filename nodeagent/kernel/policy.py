# SPDX-License-Identifier: Apache-2.0
"""What the kernel leaves out, and what it counts instead of reporting.

All of it lies in maps and can change while programs run.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Mapping
from typing import Final, Literal

import msgspec

from nodeagent.kernel.btf import Btf, Struct
from nodeagent.kernel.object import BpfObject
from nodeagent.kernel.wire import Records, pack_into

__all__ = ["Policy", "Rules"]

PRESENT: Final = b"\1"
CGROUP: Final = struct.Struct("<Q")
UID: Final = struct.Struct("<I")
ID: Final = struct.Struct("<I")
"""Of a map, program or link."""
RULE: Final = struct.Struct("<I")
PORT: Final = struct.Struct("<H")
WINDOW_SECONDS: Final = (1 << 29) / 1e9
"""Of bpf/budget.h."""
TABLES: Final = ("even_repeats", "odd_repeats")


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What the kernel is told."""

    kinds: Collection[str]
    """Whose records are wanted."""
    count_repeats: bool = True
    """Opens that only read, when a program repeats them."""
    failed_opens: Literal["none", "denied", "all"] = "denied"
    excluded_uids: Collection[int] = ()
    excluded_paths: Collection[str] = ()
    """Prefixes; the longest that fits a path decides."""
    watched_paths: Collection[str] = ()
    """Prefixes of paths of which each open is reported."""
    dns_ports: Collection[int] = (53,)
    """At most four; packets from or to them are looked at."""


class Policy:
    """The kernel's side of the rules."""

    def __init__(self, loaded: BpfObject, btf: Btf, kinds: Mapping[int, str]) -> None:
        """`kinds` are the names of the numbers in `enum event_kind`."""
        self._loaded = loaded
        self._settings = btf.struct("settings")
        self._numbers = {name: number for number, name in kinds.items()}
        self._filters = btf.enum("filter").values
        self._rules = btf.enum("path_rule").values
        self._failed_opens = btf.enum("failed_opens").values
        self._prefix = btf.struct("prefix")
        self._open = btf.struct("open_event")
        self._event = btf.struct("event")
        self._repeats = btf.struct("open_repeats")
        self._turn = 0
        self._excluded_cgroups: dict[bytes, bytes] = {}
        self._excluded_uids: dict[bytes, bytes] = {}
        self._path_rules: dict[bytes, bytes] = {}
        # Whoever else takes hold of these is told of.
        self._own("maps", loaded.map_ids())
        self._own("programs", loaded.program_ids())

    def set_own_pid(self, pid: int) -> None:
        """Who the agent is; the iterator of processes tells it by itself."""
        self._change(own_pid=pid)

    def attached(self) -> None:
        """All programs are where they belong: the links that hold them there are ours, too."""
        self._own("links", self._loaded.link_ids())

    def _own(self, table: str, ids: Iterable[int]) -> None:
        self._loaded.fill(f"own_{table}", {}, {ID.pack(number): PRESENT for number in ids})

    def watch_beside(self, pid: int, first: Collection[str], second: Collection[str]) -> None:
        """Another agent watches, too: see bpf/moment.h; pid 0: none does any more.

        Of the two programs that see an operation of a kind ours is the `first` or the `second`;
        what is in neither has moments of its own.
        """
        bits = [sum(1 << self._numbers[kind] for kind in kinds) for kinds in (first, second)]
        self._change(first=bits[0], second=bits[1], other_pid=pid)

    def stop(self) -> None:
        """Let the counters come to rest; what happens from now on is not seen."""
        self._change(stopped=1)

    def apply(self, rules: Rules) -> None:
        """Put `rules` in force; raises BpfError when a table is full.

        Tables are filled before they are used, and emptied after.
        """
        uids = {UID.pack(uid): PRESENT for uid in rules.excluded_uids}
        paths = dict(self._prefixes(rules.excluded_paths, "PATH_EXCLUDED"))
        paths |= self._prefixes(rules.watched_paths, "PATH_WATCHED")
        self._loaded.fill("excluded_uids", self._excluded_uids, uids)
        self._loaded.fill("path_rules", self._path_rules, paths)
        self._excluded_uids, self._path_rules = uids, paths
        self._change(
            kinds=sum(1 << self._numbers[kind] for kind in rules.kinds),
            filters=self._used_filters(),
            failed_opens=self._failed_opens[f"FAILED_OPENS_{rules.failed_opens.upper()}"],
            count_repeats=int(rules.count_repeats),
            dns_ports=int.from_bytes(b"".join(map(PORT.pack, rules.dns_ports)), "little"),
        )

    def shed(self, kinds: Collection[str], events_per_second: float) -> None:
        """Let no event of these kinds through, and of others only so many.

        That is a number of each kind in each cgroup; 0: any. What is precious always comes.
        """
        window_events = 0
        if events_per_second:
            window_events = max(1, round(events_per_second * WINDOW_SECONDS))
        self._change(
            shed=sum(1 << self._numbers[kind] for kind in kinds), window_events=window_events
        )

    def count_repeats(self, wanted: bool) -> None:
        """Whether opens that only read are counted when a program repeats them."""
        self._change(count_repeats=int(wanted))

    def exclude_cgroups(self, ids: Iterable[int]) -> None:
        """Report nothing of these cgroups, by id, and of others again.

        Raises BpfError when there are more than the table holds.
        """
        wanted = {CGROUP.pack(cgroup): PRESENT for cgroup in ids}
        if wanted == self._excluded_cgroups:
            return
        self._loaded.fill("excluded_cgroups", self._excluded_cgroups, wanted)
        self._excluded_cgroups = wanted
        self._change(filters=self._used_filters())

    def _used_filters(self) -> int:
        tables = {
            "FILTER_CGROUPS": self._excluded_cgroups,
            "FILTER_UIDS": self._excluded_uids,
            "FILTER_PATHS": self._path_rules,
        }
        return sum(self._filters[name] for name, table in tables.items() if table)

    def take_turn(self, boot_time_ns: int, boot_ns: int) -> Records | None:
        """What the table of repeats that rests has counted; the other one rests from now on.

        Call it seldom: no program may still be using the table that rests. The records
        get `boot_time_ns`, boot-time clock; None when nothing was repeated.
        """
        resting = TABLES[(self._turn + 1) % 2]
        entries = self._loaded.drain(resting)
        self._turn += 1
        self._change(turn=self._turn)
        return self._records(entries, boot_time_ns, boot_ns)

    def _records(
        self, entries: Iterable[tuple[bytes, bytes]], boot_time_ns: int, boot_ns: int
    ) -> Records | None:
        data = bytearray()
        starts: list[int] = []
        ends: list[int] = []
        offsets = {member.name: member.offset for member in self._repeats.members}
        for _, value in entries:
            (count,) = CGROUP.unpack_from(value, offsets["count"])
            (size,) = CGROUP.unpack_from(value, offsets["size"])
            if not count:
                continue
            record = bytearray(value[offsets["record"] : offsets["record"] + size])
            pack_into(self._open, record, {"count": count, "summary": 1})
            # No two of a thread have the same time, by which they are told apart.
            time_ns = boot_time_ns + len(starts)
            pack_into(self._event, record, {"time": time_ns, "size": size})
            starts.append(len(data))
            data += record
            ends.append(len(data))
        return Records(bytes(data), starts, ends, boot_ns) if starts else None

    def _prefixes(self, paths: Iterable[str], rule: str) -> Iterable[tuple[bytes, bytes]]:
        longest = _member_size(self._prefix, "path")
        for path in paths:
            raw = path.encode("utf-8", "surrogateescape")[:longest]
            key = struct.pack(f"<I{longest}s", len(raw) * 8, raw)
            yield key, RULE.pack(self._rules[rule])

    def _change(self, **values: int) -> None:
        """Change some of the settings and leave the others as they are."""
        packed = bytearray(self._loaded.lookup_bytes("settings", 0, self._settings.size))
        pack_into(self._settings, packed, values)
        self._loaded.update("settings", 0, bytes(packed))


def _member_size(layout: Struct, name: str) -> int:
    return next(member.type.size for member in layout.members if member.name == name)
