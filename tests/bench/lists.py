# SPDX-License-Identifier: Apache-2.0
"""What a threat list of a million entries costs: memory, and CPU of each look-up.

`python -m tests.bench.lists FILE` reads a list into a process that has nothing else to do, and
prints what that took as JSON.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final

from nodeagent.detect.lists import read_list
from tests.bench.figure import Figure

__all__ = ["ENTRIES", "list_figures"]

ENTRIES: Final = 1_000_000
LOOKUPS: Final = 100_000
KIBIBYTE: Final = 1 << 10
MEBIBYTE: Final = 1 << 20
SECONDS: Final = 120
MADE: Final[dict[str, Callable[[int], str]]] = {
    "domains": lambda number: f"host-{number}.evil.test",
    "addresses": lambda number: str(IPv4Address(number * 2048 + 1)),
    "hashes": lambda number: sha256(number.to_bytes(4)).hexdigest(),
}
"""Entries by their sort; odd numbers are in the list, even ones are not."""


def measured(path: Path, sort: str) -> dict[str, float]:
    """Read the list and look up as many that it has as others."""
    make = MADE[sort]
    wanted = [make(number) for number in range(LOOKUPS)]
    gc.collect()
    before = resident()
    entries = read_list(path, "malware")
    gc.collect()
    grown = resident() - before
    used = time.process_time()
    found = sum(map(entries.has, wanted))
    seconds = time.process_time() - used
    if len(entries) != ENTRIES or found != LOOKUPS // 2:
        raise RuntimeError(f"{found} of {LOOKUPS} found in {len(entries)} entries")
    return {
        "mebibytes": grown / MEBIBYTE,
        "highest": (resident("VmHWM") - before) / MEBIBYTE,
        "microseconds": seconds / LOOKUPS * 1e6,
    }


def resident(field: str = "VmRSS") -> int:
    """Bytes of this process that are in memory, now or (VmHWM) at the most."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * KIBIBYTE


def list_figures(folder: Path, runs: int, say: Callable[[str], None]) -> Iterator[Figure]:
    """Each sort of entries, each run in a process of its own."""
    for sort, make in MADE.items():
        path = folder / sort
        with path.open("w") as file:
            file.writelines(f"{make(number)}\n" for number in range(1, 2 * ENTRIES, 2))
        done: list[dict[str, Any]] = []
        for _ in range(runs):
            say(f"lists of {sort}")
            command = [sys.executable, "-m", "tests.bench.lists", str(path)]
            said = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=SECONDS)
            done.append(json.loads(said.stdout))
        path.unlink()
        for name, key, unit, bar in (
            (f"a million {sort}: memory", "mebibytes", "MiB", 40.0),
            (f"a million {sort}: highest, reading", "highest", "MiB", 40.0),
            (f"a million {sort}: CPU per look-up", "microseconds", "us", 1.0),
        ):
            yield Figure(name, unit, [each[key] for each in done], bar=bar)


if __name__ == "__main__":
    print(json.dumps(measured(Path(sys.argv[1]), Path(sys.argv[1]).name)))
