# SPDX-License-Identifier: Apache-2.0
"""Many files that go at once, from places that have nothing to do with each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar, Final

import msgspec

from nodeagent.detect import Signal
from nodeagent.detect.recent import Recent
from nodeagent.detect.where import PACKAGE_MANAGERS, is_below_host, is_runtime
from nodeagent.event import Process, Rename, Unlink

__all__ = ["Destruction"]

PROCESSES_LIMIT: Final = 2048
FILES: Final = 100
AREAS: Final = 8
WITHIN_NS: Final = 10_000_000_000
"""So many files in so many areas, within so long. A clean build has many files in few areas."""
DEPTH: Final = 3
"""The first two names of a path are its area."""
PASSING: Final = (
    *("/tmp/", "/var/tmp/", "/var/cache/", "/dev/", "/run/", "/var/run/"),  # noqa: S108
    *("/proc/", "/sys/"),
)
"""Where files come and go."""


class _Going(msgspec.Struct):
    """What the children of one process, or it itself, have removed."""

    since: int
    files: int
    areas: set[str]
    is_told: bool = False


class Destruction:
    """Counts for each parent, since a wiper may be one `rm` for each file."""

    name = "destruction"
    kinds: ClassVar[tuple[str, ...]] = ("unlink", "rename")

    def __init__(self) -> None:
        self._going: Recent[str, _Going] = Recent(PROCESSES_LIMIT)

    def inspect(self, event: Unlink | Rename) -> Iterable[Signal]:
        """A file that is removed, or gets an ending, as those do that are encrypted."""
        path, process = event.path, event.process
        if event.result < 0 or process is None or path.startswith(PASSING):
            return ()
        if isinstance(event, Rename) and not event.new_path.startswith(f"{path}."):
            return ()
        who = _who(process)
        going = self._going.get(who)
        if going is None or event.time - going.since > WITHIN_NS:
            going = _Going(event.time, 0, set())
            self._going.put(who, going)
        going.files += 1
        if len(going.areas) < AREAS:
            going.areas.add("/".join(path.split("/", DEPTH)[:DEPTH]))
        if going.is_told or going.files < FILES or len(going.areas) < AREAS:
            return ()
        going.is_told = True
        return self._judge(event, process, going)

    def _judge(self, event: Unlink | Rename, process: Process, going: _Going) -> Iterator[Signal]:
        if is_runtime(process) or is_below_host(process, PACKAGE_MANAGERS):
            return
        context: dict[str, object] = {
            "filePath": event.path,
            "fileOperation": "Rename" if isinstance(event, Rename) else "Delete",
            "relatedFilePaths": sorted(going.areas),
        }
        yield Signal("files_destroyed", event, context, key=f"{going.files} files")


def _who(process: Process) -> str:
    """The parent, unless that is what all services have in common."""
    parent = process.lineage[0] if process.lineage else None
    return process.uuid if parent is None or parent.pid <= 1 else parent.uuid
