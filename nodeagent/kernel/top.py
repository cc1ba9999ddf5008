# SPDX-License-Identifier: Apache-2.0
"""What each eBPF program on the node costs, from one moment to the next."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from nodeagent.kernel.features import SERVES
from nodeagent.kernel.libbpf import Libbpf
from nodeagent.kernel.probe import enable_statistics
from nodeagent.kernel.programs import Owner, Program, map_bytes, owners, programs

__all__ = ["measuring"]

Row = dict[str, Any]
NAME_BYTES = 15
KINDS = {program[:NAME_BYTES]: kind for program, kind in SERVES.items()}
OURS = frozenset({"on_exec", "on_fork", "on_exit"})
"""Whoever holds programs of all these names is an agent of this kind."""


@contextmanager
def measuring(
    interval_seconds: float, wait: Callable[[float], None]
) -> Iterator[Iterator[list[Row]]]:
    """Rows of all programs for each interval, as long as the block lasts.

    Run-time statistics are on meanwhile. Raises BpfError.
    """
    libbpf = Libbpf()
    statistics = enable_statistics(libbpf)
    try:
        yield _samples(libbpf, interval_seconds, wait)
    finally:
        os.close(statistics)


def _samples(
    libbpf: Libbpf, interval_seconds: float, wait: Callable[[float], None]
) -> Iterator[list[Row]]:
    before = {each.id: each for each in programs(libbpf)}
    known = owners()
    memory: dict[int, int] = {}
    started = time.monotonic()
    while True:
        wait(interval_seconds)
        after = {each.id: each for each in programs(libbpf)}
        now = time.monotonic()
        if after.keys() - before.keys():
            # To look through all processes costs a busy node some time.
            known = owners()
        unknown = {number for each in after.values() for number in each.map_ids} - memory.keys()
        memory |= map_bytes(libbpf, unknown)
        agents = _agents(after.values(), known)
        rows = [
            _row(each, before.get(each.id), known.get(each.id), memory, now - started)
            for each in after.values()
        ]
        for row in rows:
            row["kind"] = KINDS.get(row["name"]) if row["pid"] in agents else None
        yield rows
        before, started = after, now


def _agents(running: Iterable[Program], known: dict[int, Owner]) -> frozenset[int]:
    """The pids of agents like this one."""
    names: defaultdict[int, set[str]] = defaultdict(set)
    for program in running:
        owner = known.get(program.id)
        if owner is not None:
            names[owner.pid].add(program.name)
    return frozenset(pid for pid, held in names.items() if held >= OURS)


def _row(
    program: Program,
    before: Program | None,
    owner: Owner | None,
    memory: dict[int, int],
    seconds: float,
) -> Row:
    runs = program.runs - (before.runs if before is not None else 0)
    spent_ns = program.run_ns - (before.run_ns if before is not None else 0)
    pid = owner.pid if owner is not None else None
    return {
        "id": program.id,
        "type": program.type,
        "name": program.name,
        "pid": pid,
        "comm": owner.comm if owner is not None else "",
        "kind": None,
        "runtime_ns": spent_ns,
        "runs": runs,
        "runs_per_second": runs / seconds,
        "average_ns": spent_ns / runs if runs else None,
        "cpu_percent": spent_ns / seconds / 1e7,
        "total_runtime_ns": program.run_ns,
        "total_runs": program.runs,
        "map_bytes": sum(memory.get(number, 0) for number in program.map_ids),
        "maps": len(program.map_ids),
    }
