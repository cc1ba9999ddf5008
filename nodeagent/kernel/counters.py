# SPDX-License-Identifier: Apache-2.0
"""The kernel's side of the ledger."""

from __future__ import annotations

import ctypes
import struct
from collections import Counter
from collections.abc import Mapping

from nodeagent.errors import SchemaError
from nodeagent.kernel.btf import Array, Btf
from nodeagent.kernel.object import BpfObject
from nodeagent.ledger import KernelCounts

__all__ = ["KernelCounters"]

COUNTS = ("seen", "sent", "filtered", "aggregated", "throttled")


class KernelCounters:
    """Reads the per-CPU counters of each kind."""

    def __init__(
        self, loaded: BpfObject, btf: Btf, kinds: dict[int, str], programs: Mapping[str, str]
    ) -> None:
        """`kinds` names the kinds by number, `programs` has the kind that each loaded one serves.

        Raises SchemaError when the layout is another.
        """
        layout = btf.struct("counters")
        offsets = {member.name: member.offset for member in layout.members}
        reasons = btf.enum("lost_reason").values
        lost = next(member.type for member in layout.members if member.name == "lost")
        if not isinstance(lost, Array) or lost.count != len(reasons):
            raise SchemaError("the eBPF object counts other reasons of loss than it names")
        self._columns = {name: offsets[name] // 8 for name in COUNTS}
        self._own = offsets["own"] // 8
        self._numbers = {kind: number for number, kind in kinds.items()}
        self._lost = {
            name.removeprefix("LOST_").lower().replace("_", " "): offsets["lost"] // 8 + number
            for name, number in reasons.items()
        }
        self._row = struct.Struct(f"<{layout.size // 8}Q")
        self._object = loaded
        self._map = loaded.map("counters")
        self._kinds = kinds
        self._programs = programs
        self._values = ctypes.create_string_buffer(layout.size * loaded.possible_cpus)

    def seen(self, kind: str) -> tuple[int, int]:
        """Operations of this kind, and those of the agent itself among them."""
        self._object.lookup(self._map, self._numbers[kind], self._values)
        rows = list(self._row.iter_unpack(self._values))
        return sum(row[self._columns["seen"]] for row in rows), sum(row[self._own] for row in rows)

    def read(self) -> dict[str, KernelCounts]:
        """The sums over all CPUs, by kind, of the kinds that can be on a ring."""
        counts = {}
        missed: Counter[str] = Counter()
        for program, kind in self._programs.items():
            missed[kind] += self._object.facts(program).missed_count
        for number, kind in self._kinds.items():
            self._object.lookup(self._map, number, self._values)
            totals = [
                sum(column) for column in zip(*self._row.iter_unpack(self._values), strict=True)
            ]
            counts[kind] = KernelCounts(
                **{name: totals[at] for name, at in self._columns.items()},
                lost={reason: totals[at] for reason, at in self._lost.items() if totals[at]},
                missed=missed[kind],
            )
        return counts
