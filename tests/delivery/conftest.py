# SPDX-License-Identifier: Apache-2.0
"""What tests of sinks share."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nodeagent.sink import Batch, Sink, StoredBatch, packed
from sinks import SINKS

Send = Callable[[Sink, Batch], Awaitable[None]]


@pytest.fixture(params=["memory", "spool"])
def origin(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that uses it runs twice; in the second run each batch has waited on the disk."""
    if request.param == "spool":
        for sink in {*SINKS.values()}:
            monkeypatch.setattr(sink, "send", _from_spool(sink.send))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def _from_spool(send: Send) -> Send:
    seen: dict[tuple[int, int], tuple[Sink, Batch, Batch]] = {}

    async def send_stored(sink: Sink, batch: Batch) -> None:
        if sink.encoder is None or isinstance(batch, StoredBatch):
            await send(sink, batch)
            return
        # One that comes again is the same one.
        key = id(sink), id(batch)
        if key not in seen:
            seen[key] = sink, batch, stored(batch, sink)
        await send(sink, seen[key][2])

    return send_stored


def stored(batch: Batch, sink: Any) -> Batch:
    """The batch as it comes from a spool of this sink."""
    facts = batch.facts if sink.NEEDS_FACTS else []
    return StoredBatch(batch.key, len(batch), packed(batch.ndjson(sink.encoder)), facts)
