# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: ASYNC220, ASYNC221, ASYNC240  a test may hold up its own loop

import asyncio
import errno
import fcntl
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nodeagent.encode import encode
from nodeagent.errors import Retry, StartError
from nodeagent.ledger import Ledger
from nodeagent.outlet import Outlet
from nodeagent.sink import Batch
from sinks.file import File
from tests.delivery.files import a_config, a_sink, batch, mode, names, opened, sequences
from tests.events import a_finding, an_agent_event, an_exec
from tests.polling import until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.ndjson"


# What is in the file.


async def test_each_event_and_finding_is_one_line_of_json(path: Path) -> None:
    items = Batch([an_exec(), an_agent_event(version="1.0")], [a_finding()])
    async with opened(path) as sink:
        await sink.send(items)
    assert path.read_bytes() == items.ndjson()
    assert [json.loads(line)["kind"] for line in items.ndjson().splitlines()] == [
        "exec",
        "agent.start",
        "finding",
    ]


async def test_a_batch_is_one_write(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    real = os.write

    def write(fd: int, data: bytes) -> int:
        sizes.append(real(fd, data))
        return sizes[-1]

    async with opened(path) as sink:
        monkeypatch.setattr(os, "write", write)
        await sink.send(batch(*range(500)))
        monkeypatch.undo()
    assert sizes == [path.stat().st_size]
    assert sequences(path) == list(range(500))


async def test_what_is_there_is_kept(path: Path) -> None:
    path.write_bytes(encode([an_exec(sequence=1)]))
    async with opened(path) as sink:
        await sink.send(batch(2))
    assert sequences(path) == [1, 2]


async def test_a_line_that_a_crash_tore_is_ended_first(path: Path) -> None:
    path.write_bytes(encode([an_exec(sequence=1)]) + b'{"kind":"ex')
    async with opened(path) as sink:
        await sink.send(batch(2))
        await sink.send(batch(3))
    first, torn, *rest = path.read_bytes().splitlines()
    assert json.loads(first)["sequence"] == 1
    assert torn == b'{"kind":"ex'
    assert [json.loads(line)["sequence"] for line in rest] == [2, 3]


async def test_only_the_owner_can_read_the_file(path: Path) -> None:
    path.write_text("")
    path.chmod(0o644)
    async with opened(path):
        assert mode(path) == "0o600"


async def test_the_file_is_private_whatever_the_umask(path: Path) -> None:
    umask = os.umask(0)
    try:
        async with opened(path, rotate_bytes=1) as sink:
            await sink.send(batch(1))
            await sink.send(batch(2))
            await until(lambda: names(path) == ["", ".1.gz"])
    finally:
        os.umask(umask)
    assert {mode(each) for each in path.parent.iterdir()} == {"0o600"}


# What cannot be opened.


def a_missing_folder(path: Path) -> str:
    path.parent.rmdir()
    return f"the folder {path.parent} does not exist: make it with `mkdir -p {path.parent}`"


def a_file_as_its_folder(path: Path) -> str:
    path.parent.rmdir()
    path.parent.write_text("")
    return f"{path.parent} is not a folder"


def a_folder(path: Path) -> str:
    path.mkdir()
    return f"{path} is a folder: name a file in it"


def a_link(path: Path) -> str:
    path.symlink_to("/etc/hostname")
    return f"{path} is a symbolic link"


def a_dangling_link(path: Path) -> str:
    path.symlink_to(path.parent / "nothing")
    return f"{path} is a symbolic link"


def a_fifo(path: Path) -> str:
    os.mkfifo(path)
    return f"{path} is a FIFO: name a regular file"


def a_socket(path: Path) -> str:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
    return f"{path} is a socket: name a regular file"


@pytest.mark.parametrize(
    "obstacle",
    [
        a_missing_folder,
        a_file_as_its_folder,
        a_folder,
        a_link,
        a_dangling_link,
        a_fifo,
        a_socket,
    ],
)
async def test_what_is_no_file_is_refused_with_a_sentence(
    tmp_path: Path, obstacle: Callable[[Path], str]
) -> None:
    path = tmp_path / "folder" / "events.ndjson"
    path.parent.mkdir()
    sentence = obstacle(path)
    with pytest.raises(StartError, match=f"^{re.escape(sentence)}"):
        await a_sink(path).open()
    assert not (path.parent / "nothing").exists()


async def test_a_device_is_refused_with_a_sentence() -> None:
    with pytest.raises(StartError, match="/dev/null is a device: name a regular file"):
        await a_sink(Path("/dev/null")).open()


async def test_a_second_agent_is_refused_until_the_first_is_gone(path: Path) -> None:
    async with opened(path) as first:
        with pytest.raises(StartError, match="is being written by another process"):
            await a_sink(path).open()
        await first.send(batch(1))
    async with opened(path) as second:
        await second.send(batch(2))
    assert sequences(path) == [1, 2]


HOLD = """
import fcntl, sys
file = open(sys.argv[1], "a")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
input()
"""


async def test_a_file_that_another_process_holds_is_refused(path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(StartError, match="is being written by another process"):
            await a_sink(path).open()
        other.communicate(b"\n")


async def test_a_file_that_is_rotated_while_it_is_opened_is_left_alone(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = path.with_name("moved")
    real = fcntl.flock

    def rotate_first(fd: int, operation: int) -> None:
        monkeypatch.undo()
        path.rename(moved)
        real(fd, operation)

    monkeypatch.setattr(fcntl, "flock", rotate_first)
    async with opened(path) as sink:
        assert (moved.exists(), path.exists()) == (True, True)
        await sink.send(batch(1))
    assert (sequences(moved), sequences(path)) == ([], [1])


@pytest.mark.parametrize(
    "settings",
    [
        {"path": ""},
        {"path": "a\0b"},
        {"keep": -1},
        {"rotate_bytes": -1},
        {"fsync": "sometimes"},
        {"fsync_seconds": 0},
        {"paht": "x"},
    ],
)
def test_settings_out_of_range_are_refused(path: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"path": str(path)} | settings, File.Config)


# What others do to the file.


async def test_a_file_that_was_moved_is_made_anew(path: Path) -> None:
    moved = path.with_name("moved")
    async with opened(path) as sink:
        await sink.send(batch(1))
        path.rename(moved)
        await sink.send(batch(2))
    assert (sequences(moved), sequences(path)) == ([1], [2])
    assert mode(path) == "0o600"


async def test_a_file_that_was_moved_and_made_again_is_taken(path: Path) -> None:
    moved = path.with_name("moved")
    async with opened(path) as sink:
        await sink.send(batch(1))
        path.rename(moved)
        path.touch(0o644)
        await sink.send(batch(2))
    assert (sequences(moved), sequences(path)) == ([1], [2])
    assert mode(path) == "0o600"


async def test_a_file_that_was_removed_is_made_anew(path: Path) -> None:
    async with opened(path) as sink:
        await sink.send(batch(1))
        path.unlink()
        await sink.send(batch(2))
    assert sequences(path) == [2]


async def test_a_file_that_was_truncated_goes_on_at_its_start(path: Path) -> None:
    async with opened(path) as sink:
        await sink.send(batch(1, 2, 3))
        os.truncate(path, 0)
        await sink.send(batch(4))
    assert sequences(path) == [4]


async def test_events_wait_while_the_path_is_no_file(path: Path) -> None:
    async with opened(path) as sink:
        await sink.send(batch(1))
        path.unlink()
        path.symlink_to("/etc/hostname")
        kept = batch(2)
        with pytest.raises(Retry, match="is a symbolic link"):
            await sink.send(kept)
        path.unlink()
        await sink.send(kept)
    assert sequences(path) == [2]


async def test_events_wait_while_the_folder_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "events.ndjson"
    async with opened(path) as sink:
        folder.rename(tmp_path / "moved")
        kept = batch(1)
        with pytest.raises(Retry, match="does not exist"):
            await sink.send(kept)
        folder.mkdir()
        await sink.send(kept)
    assert sequences(path) == [1]


# Disks that fail.


def fill(disk: Path, leave_bytes: int) -> Path:
    free = os.statvfs(disk)
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(free.f_bavail * free.f_frsize - leave_bytes))
    return ballast


async def test_a_full_disk_tears_no_line_and_nothing_is_lost_or_doubled(small_disk: Path) -> None:
    path = small_disk / "events.ndjson"
    async with opened(path) as sink:
        await sink.send(batch(1))
        ballast = fill(small_disk, leave_bytes=20_000)
        large = batch(*range(2, 100))
        for _ in range(3):
            with pytest.raises(Retry, match=f"the disk of {path} is full"):
                await sink.send(large)
            assert sequences(path) == [1]
        await sink.send(batch(100))
        ballast.unlink()
        await sink.send(large)
    assert sequences(path) == [1, 100, *range(2, 100)]


async def test_an_outlet_delivers_when_the_disk_has_room_again(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = small_disk / "events.ndjson"
    ballast = fill(small_disk, leave_bytes=0)
    ledger = Ledger()
    counts = ledger.sink("file")
    config = a_config(path, queue_events=100)
    outlet = Outlet("file", File(config), config, counts, lambda *_: None)
    await outlet.open()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(outlet.run())
        for n in range(3):
            outlet.offer(batch(*range(n * 40, n * 40 + 40)))
        await until(lambda: "is full: make room" in caplog.text)
        assert (counts.queued, counts.dropped["queue full"], counts.delivered) == (80, 40, 0)
        ballast.unlink()
        await outlet.drain(10)
        task.cancel()
    await outlet.close()
    assert ledger.imbalances() == []
    assert counts.delivered == 80
    assert sequences(path) == list(range(80))


async def test_a_disk_that_is_read_only_is_refused_with_a_sentence(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(StartError, match="is on a file system that is read-only"):
        await a_sink(small_disk / "events.ndjson").open()


async def test_after_an_error_of_the_disk_the_file_is_opened_anew(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opens = []
    real = os.open

    def count(name: Path, *rest: int) -> int:
        opens.append(name)
        return real(name, *rest)

    async with opened(path) as sink:
        monkeypatch.setattr(os, "write", fails)
        kept = batch(1)
        with pytest.raises(Retry):
            await sink.send(kept)
        monkeypatch.undo()
        monkeypatch.setattr(os, "open", count)
        await sink.send(kept)
    assert opens == [path]
    assert sequences(path) == [1]


@pytest.mark.parametrize("number", [errno.EIO, errno.EDQUOT, errno.EROFS, errno.ESTALE])
async def test_half_a_batch_is_taken_back_when_the_disk_fails(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    real = os.write

    def half(fd: int, data: bytes) -> int:
        monkeypatch.setattr(os, "write", fail)
        return real(fd, data[: len(data) // 2])

    def fail(fd: int, data: bytes) -> int:
        raise OSError(number, os.strerror(number))

    async with opened(path) as sink:
        await sink.send(batch(1))
        kept = batch(2, 3)
        monkeypatch.setattr(os, "write", half)
        with pytest.raises(Retry):
            await sink.send(kept)
        assert sequences(path) == [1]
        monkeypatch.undo()
        await sink.send(kept)
    assert sequences(path) == [1, 2, 3]


async def test_half_a_batch_that_cannot_be_taken_back_is_ended(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write

    def fail(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def half(fd: int, data: bytes) -> int:
        monkeypatch.setattr(os, "write", fail)
        monkeypatch.setattr(os, "ftruncate", fail)
        return real(fd, data[:50])

    async with opened(path) as sink:
        kept = batch(1)
        monkeypatch.setattr(os, "write", half)
        with pytest.raises(Retry, match="has failed to read or write"):
            await sink.send(kept)
        monkeypatch.undo()
        await sink.send(kept)
    torn, whole = path.read_bytes().splitlines()
    assert len(torn) == 50
    assert json.loads(whole)["sequence"] == 1


# What is safe when.


class Disk:
    """Counts what is brought to the disk, by the name of the file."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.synced: list[str] = []
        self.failure: OSError | None = None
        monkeypatch.setattr(os, "fsync", self.fsync)

    def fsync(self, fd: int) -> None:
        if self.failure is not None:
            raise self.failure
        self.synced.append(Path(f"/proc/self/fd/{fd}").readlink().name)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


async def test_always_means_that_each_batch_is_on_the_disk(path: Path, disk: Disk) -> None:
    async with opened(path, fsync="always") as sink:
        for n in (1, 2):
            await sink.send(batch(n))
            assert disk.synced.count(path.name) == n


async def test_a_batch_that_does_not_reach_the_disk_is_taken_back(path: Path, disk: Disk) -> None:
    async with opened(path, fsync="always") as sink:
        disk.failure = OSError(errno.ENOSPC, "full")
        kept = batch(1)
        with pytest.raises(Retry, match="is full"):
            await sink.send(kept)
        disk.failure = None
        await sink.send(kept)
    assert sequences(path) == [1]


async def test_interval_means_that_it_is_on_the_disk_soon_also_when_nothing_follows(
    path: Path, disk: Disk
) -> None:
    async with opened(path, fsync="interval", fsync_seconds=0.05) as sink:
        for n in range(10):
            await sink.send(batch(n))
        await until(lambda: path.name in disk.synced)
        assert disk.synced.count(path.name) < 10


async def test_a_close_brings_everything_to_the_disk(path: Path, disk: Disk) -> None:
    async with opened(path, fsync="interval", fsync_seconds=1000) as sink:
        await sink.send(batch(1))
        assert path.name not in disk.synced
    assert path.name in disk.synced


async def test_never_means_that_the_kernel_decides(path: Path, disk: Disk) -> None:
    async with opened(path, fsync="never") as sink:
        await sink.send(batch(1))
    assert disk.synced == []


async def test_a_rotated_file_is_brought_to_the_disk(path: Path, disk: Disk) -> None:
    async with opened(
        path, fsync="interval", fsync_seconds=1000, rotate_bytes=1, compress=False
    ) as sink:
        await sink.send(batch(1))
        await sink.send(batch(2))
        assert f"{path.name}.1" in disk.synced


# Slow disks.


class Gate:
    """Holds up every write to the file until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = threading.Event()
        self.reached = threading.Event()
        self.real: Callable[[int, bytes], int] = os.write
        monkeypatch.setattr(os, "write", self.write)

    def write(self, fd: int, data: bytes) -> int:
        self.reached.set()
        assert self.open.wait(10)
        return self.real(fd, data)


async def test_a_slow_write_does_not_hold_up_the_loop(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(path) as sink:
        gate = Gate(monkeypatch)
        sending = asyncio.gather(sink.send(batch(1)))
        await until(gate.reached.is_set)
        assert not sending.done()
        gate.open.set()
        await sending
    assert sequences(path) == [1]


@pytest.mark.parametrize("written", ["before the retry", "after the retry"])
async def test_a_write_that_outlives_its_timeout_is_not_made_twice(
    path: Path, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    async with opened(path) as sink:
        gate = Gate(monkeypatch)
        slow = batch(1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await sink.send(slow)
        if written == "before the retry":
            gate.open.set()
            await until(lambda: path.stat().st_size)
        sending = asyncio.gather(sink.send(slow))
        await asyncio.sleep(0)
        gate.open.set()
        await sending
        await sink.send(batch(2))
    assert sequences(path) == [1, 2]


async def test_a_write_that_fails_after_its_timeout_is_made_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(path) as sink:
        slow = batch(1)
        gate = Gate(monkeypatch)
        real, gate.real = gate.real, fails
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await sink.send(slow)
        gate.open.set()
        with pytest.raises(Retry):
            await sink.send(slow)
        gate.real = real
        await sink.send(slow)
    assert sequences(path) == [1]


def fails(fd: int, data: bytes) -> int:
    raise OSError(errno.EIO, os.strerror(errno.EIO))
