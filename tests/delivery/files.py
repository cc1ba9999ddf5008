# SPDX-License-Identifier: Apache-2.0
"""What the tests of the file sink share."""

from __future__ import annotations

import gzip
import json
import re
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from nodeagent.sink import Batch
from sinks.file import File
from tests.events import an_exec


def a_config(path: Path, **settings: Any) -> File.Config:
    """Without fsync, so that only tests about it pay for it."""
    return msgspec.convert({"path": str(path), "fsync": "never"} | settings, File.Config)


def a_sink(path: Path, **settings: Any) -> File:
    return File(a_config(path, **settings))


@asynccontextmanager
async def opened(path: Path, **settings: Any) -> AsyncIterator[File]:
    sink = a_sink(path, **settings)
    await sink.open()
    try:
        yield sink
    finally:
        await sink.close()


def batch(*sequences: int) -> Batch:
    return Batch([an_exec(sequence=sequence) for sequence in sequences])


def sequences(path: Path) -> list[int]:
    """What is in one file; each line must be whole."""
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    assert data == b"" or data.endswith(b"\n")
    return [json.loads(line)["sequence"] for line in data.splitlines()]


def numbered(path: Path, suffix: str) -> Path:
    """The file beside `path` with this suffix."""
    return path.with_name(path.name + suffix)


def rotated(path: Path) -> list[Path]:
    """The rotated files, the newest first; there must be one per number, without a gap."""
    number = re.compile(re.escape(path.name) + r"\.(\d+)(\.gz)?")
    found = {int(m[1]): p for p in path.parent.iterdir() if (m := number.fullmatch(p.name))}
    assert sorted(found) == list(range(1, len(found) + 1))
    return [found[n] for n in sorted(found)]


def everything(path: Path) -> list[int]:
    """All that is in all files, the oldest first."""
    files = [*reversed(rotated(path)), path]
    return [sequence for file in files for sequence in sequences(file)]


def names(path: Path) -> list[str]:
    return sorted(each.name.removeprefix(path.name) for each in path.parent.iterdir())


def mode(path: Path) -> str:
    return oct(stat.S_IMODE(path.stat().st_mode))
