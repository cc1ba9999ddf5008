# SPDX-License-Identifier: Apache-2.0
"""How long it takes from a system call to the finding about it in a file."""

from __future__ import annotations

import errno
import ipaddress
import json
import random
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.bench.watch import Agent, nap

__all__ = ["latencies", "options"]

NETWORK: Final = ipaddress.ip_network("127.66.0.0/16")
"""On a threat list; each address of it gives a finding of its own."""
PORT: Final = 9
PAUSE_SECONDS: Final = 0.04
"""On average, and never in step with what the agent does."""
LOOK_SECONDS: Final = 0.001
LATEST_SECONDS: Final = 5.0


def options(folder: Path) -> tuple[str, ...]:
    """For an agent whose file has findings and what it says of itself."""
    listed = folder / "listed"
    listed.write_text(f"{NETWORK}\n")
    kinds = ("--set", 'sinks.file.kinds=["finding", "agent"]')
    return *kinds, "--set", f'detect.lists.c2=["{listed}"]'


def latencies(agent: Agent, seconds: float) -> list[float]:
    """Connect for so long; milliseconds of each finding. Raises RuntimeError if one is missing."""
    seen: dict[str, float] = {}
    ended = threading.Event()
    reader = threading.Thread(target=_read, args=(agent.output, seen, ended))
    reader.start()
    tried: dict[str, float] = {}
    try:
        for address in _addresses(seconds):
            tried[address] = time.monotonic()
            _connect(address)
        latest = time.monotonic() + LATEST_SECONDS
        while len(seen) < len(tried) and time.monotonic() < latest:
            nap(LOOK_SECONDS)
    finally:
        ended.set()
        reader.join()
    if missing := tried.keys() - seen.keys():
        raise RuntimeError(f"{len(missing)} of {len(tried)} connections were not found")
    return [(seen[address] - tried[address]) * 1e3 for address in tried]


def _addresses(seconds: float) -> Iterator[str]:
    end = time.monotonic() + seconds
    for address in NETWORK.hosts():
        nap(random.uniform(0, 2 * PAUSE_SECONDS))
        if time.monotonic() >= end:
            return
        yield str(address)


def _connect(address: str) -> None:
    with socket.socket() as one:
        one.setblocking(False)
        if one.connect_ex((address, PORT)) not in {0, errno.EINPROGRESS, errno.ECONNREFUSED}:
            raise RuntimeError(f"{address} cannot be tried")


def _read(path: Path, seen: dict[str, float], ended: threading.Event) -> None:
    """Note when the finding of each address came."""
    with path.open("rb") as file:
        while not ended.is_set():
            line = file.readline()
            if not line.endswith(b"\n"):
                file.seek(-len(line), 1)
                nap(LOOK_SECONDS)
            elif line.startswith(b'{"kind":"finding"'):
                now = time.monotonic()
                action = json.loads(line).get("action", {}).get("networkConnectionAction", {})
                if address := action.get("remoteIpDetails", {}).get("ipAddressV4"):
                    seen.setdefault(address, now)
