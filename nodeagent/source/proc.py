# SPDX-License-Identifier: Apache-2.0
"""Processes from /proc, where the kernel's own list is not complete."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from nodeagent.event import TICK_NS, OlderProcess

__all__ = ["proc_processes"]

# Fields of /proc/PID/stat after the name in parentheses, see proc(5): 4 and 22.
PARENT: Final = 1
START: Final = 19


def proc_processes(proc: Path = Path("/proc")) -> Iterator[OlderProcess]:
    """All processes that can be seen; one that ends meanwhile is left out."""
    for folder in proc.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            stat = (folder / "stat").read_bytes()
        except OSError:
            continue
        fields = stat.rpartition(b")")[2].split()
        yield OlderProcess(
            pid=int(folder.name),
            parent_pid=int(fields[PARENT]),
            start_time=int(fields[START]) * TICK_NS,
            path=_executable(folder / "exe"),
        )


def _executable(link: Path) -> str:
    try:
        path = os.fsencode(link.readlink())
    except OSError:
        return ""
    return path.decode("utf-8", "backslashreplace").removesuffix(" (deleted)")
