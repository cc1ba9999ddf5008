# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: ASYNC220, ASYNC240  a test may hold up its own loop

import asyncio
import gzip
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from nodeagent.encode import encode
from sinks import rotation
from tests.delivery.files import (
    a_sink,
    batch,
    everything,
    names,
    numbered,
    opened,
    rotated,
    sequences,
)
from tests.events import an_exec
from tests.polling import until

ROOT = Path(__file__).parents[2]
LINE_BYTES = len(encode([an_exec(sequence=10)]))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.ndjson"


async def test_a_file_rotates_before_it_grows_too_large(path: Path) -> None:
    limit = 10 * LINE_BYTES
    async with opened(path, rotate_bytes=limit, keep=100, compress=False) as sink:
        for n in range(10, 90, 4):
            await sink.send(batch(n, n + 1, n + 2, n + 3))
    assert everything(path) == list(range(10, 90))
    assert {len(sequences(each)) for each in rotated(path)} == {8}


async def test_a_batch_larger_than_the_limit_gets_a_file_of_its_own(path: Path) -> None:
    async with opened(path, rotate_bytes=LINE_BYTES, compress=False) as sink:
        await sink.send(batch(1, 2, 3))
        await sink.send(batch(4, 5, 6))
    assert [sequences(each) for each in rotated(path)] == [[1, 2, 3]]
    assert sequences(path) == [4, 5, 6]


async def test_number_one_is_the_newest_and_the_oldest_go(path: Path) -> None:
    async with opened(path, rotate_bytes=1, keep=3, compress=False) as sink:
        for n in range(1, 8):
            await sink.send(batch(n))
    assert names(path) == ["", ".1", ".2", ".3"]
    assert everything(path) == [4, 5, 6, 7]


async def test_a_smaller_keep_removes_more(path: Path) -> None:
    async with opened(path, rotate_bytes=1, keep=6, compress=False) as sink:
        for n in range(1, 8):
            await sink.send(batch(n))
    async with opened(path, rotate_bytes=1, keep=2, compress=False) as sink:
        await sink.send(batch(8))
    assert everything(path) == [6, 7, 8]


async def test_keep_zero_keeps_no_rotated_file(path: Path) -> None:
    async with opened(path, rotate_bytes=1, keep=0) as sink:
        await sink.send(batch(1))
        await sink.send(batch(2))
    assert names(path) == [""]
    assert sequences(path) == [2]


async def test_no_limit_means_no_rotation(path: Path) -> None:
    async with opened(path, rotate_bytes=0) as sink:
        for n in range(20):
            await sink.send(batch(n))
    assert names(path) == [""]


async def test_rotated_files_are_compressed(path: Path) -> None:
    async with opened(path, rotate_bytes=1, keep=3) as sink:
        for n in range(1, 8):
            await sink.send(batch(n))
        await until(lambda: names(path) == ["", ".1.gz", ".2.gz", ".3.gz"])
    assert everything(path) == [4, 5, 6, 7]


async def test_rotation_goes_on_while_files_are_compressed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotation, "CHUNK_BYTES", 64)
    async with opened(path, rotate_bytes=20 * LINE_BYTES, keep=1000) as sink:
        for n in range(0, 2000, 5):
            await sink.send(batch(*range(n, n + 5)))
        await until(lambda: all(each.suffix == ".gz" for each in rotated(path)))
    assert len(rotated(path)) > 80
    assert everything(path) == list(range(2000))


async def test_compression_holds_little_in_memory(path: Path) -> None:
    with numbered(path, ".1").open("wb") as file:
        file.writelines(encode([an_exec()]) for _ in range(60_000))
        assert file.tell() > 40_000_000
    before = peak_rss_bytes(reset=True)
    async with opened(path):
        await until(lambda: names(path) == ["", ".1.gz"])
    assert peak_rss_bytes() - before < 10_000_000


def peak_rss_bytes(*, reset: bool = False) -> int:
    if reset:
        # "5" resets the peak, see proc(5).
        Path("/proc/self/clear_refs").write_text("5")
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024


async def test_a_close_does_not_wait_for_a_compression(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = encode([an_exec(sequence=1)]) * 1000
    numbered(path, ".1").write_bytes(content)
    begun, go_on = threading.Event(), threading.Event()
    real = rotation.write_whole

    def slow(fd: int, data: bytes) -> None:
        begun.set()
        go_on.wait(10)
        real(fd, data)

    monkeypatch.setattr(rotation, "CHUNK_BYTES", 1000)
    monkeypatch.setattr(rotation, "write_whole", slow)
    sink = a_sink(path)
    await sink.open()
    await until(begun.is_set)
    closing = asyncio.gather(sink.close())
    await asyncio.sleep(0)
    go_on.set()
    await closing
    assert names(path) == ["", ".1"]
    monkeypatch.undo()
    async with opened(path):
        await until(lambda: names(path) == ["", ".1.gz"])
    assert gzip.decompress(rotated(path)[0].read_bytes()) == content


async def test_a_compressed_file_keeps_its_time(path: Path) -> None:
    plain = numbered(path, ".1")
    plain.write_bytes(encode([an_exec()]))
    os.utime(plain, (1_600_000_000, 1_600_000_000))
    async with opened(path):
        await until(lambda: names(path) == ["", ".1.gz"])
    assert rotated(path)[0].stat().st_mtime == 1_600_000_000


async def test_a_file_of_yesterday_rotates_before_the_first_event_of_today(path: Path) -> None:
    async with opened(path, rotate_seconds=86400, compress=False) as sink:
        await sink.send(batch(1))
        yesterday = time.time() - 86400
        os.utime(path, (yesterday, yesterday))
        await sink.send(batch(2))
        await sink.send(batch(3))
    assert [sequences(each) for each in (path, *rotated(path))] == [[2, 3], [1]]


async def test_a_restart_does_not_forget_the_age_of_a_file(path: Path) -> None:
    path.write_bytes(encode([an_exec(sequence=1)]))
    yesterday = time.time() - 86400
    os.utime(path, (yesterday, yesterday))
    async with opened(path, rotate_seconds=86400, compress=False) as sink:
        await sink.send(batch(2))
    assert [sequences(each) for each in (path, *rotated(path))] == [[2], [1]]


async def test_a_rotation_that_fails_loses_nothing(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    obstacle = numbered(path, ".1")
    obstacle.mkdir()
    async with opened(path, rotate_bytes=1, keep=1) as sink:
        for n in range(5):
            await sink.send(batch(n))
    assert sequences(path) == [0, 1, 2, 3, 4]
    assert caplog.text.count("file_not_rotated") == 1


async def test_a_compression_that_fails_leaves_the_file_as_it_is(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    numbered(path, ".gz.partial").mkdir()
    async with opened(path, compress=False):
        pass
    async with opened(path, rotate_bytes=1) as sink:
        await sink.send(batch(1))
        await sink.send(batch(2))
        await until(lambda: "file_not_compressed" in caplog.text)
    assert everything(path) == [1, 2]


# What a crash leaves behind.


async def test_an_unfinished_compression_is_removed_and_made_again(path: Path) -> None:
    numbered(path, ".1").write_bytes(encode([an_exec(sequence=1)]))
    numbered(path, ".gz.partial").write_bytes(b"\x1f\x8b half")
    async with opened(path):
        await until(lambda: names(path) == ["", ".1.gz"])
    assert everything(path) == [1]


async def test_a_file_that_was_compressed_but_not_removed_is_removed(path: Path) -> None:
    content = encode([an_exec(sequence=1)])
    numbered(path, ".1").write_bytes(content)
    numbered(path, ".1.gz").write_bytes(gzip.compress(content))
    async with opened(path, compress=False):
        assert names(path) == ["", ".1.gz"]
    assert everything(path) == [1]


@pytest.mark.parametrize("free", [1, 2, 3])
async def test_a_rotation_that_stopped_in_its_middle_loses_nothing(path: Path, free: int) -> None:
    numbers = [number for number in (4, 3, 2, 1) if number != free]
    for sequence, number in enumerate(numbers, start=1):
        numbered(path, f".{number}").write_bytes(encode([an_exec(sequence=sequence)]))
    path.write_bytes(encode([an_exec(sequence=4)]))
    async with opened(path, rotate_bytes=1, keep=4, compress=False) as sink:
        assert names(path) == ["", ".1", ".2", ".3"]
        await sink.send(batch(5))
    assert everything(path) == [1, 2, 3, 4, 5]


CHILD = """
import asyncio, sys
import msgspec
from nodeagent.sink import Batch
from sinks.file import File
from tests.events import an_exec

async def main(path, first):
    settings = {"path": path, "rotate_bytes": 4000, "keep": 10000, "fsync": "never"}
    sink = File(msgspec.convert(settings, File.Config))
    await sink.open()
    for n in range(first, first + 1_000_000):
        await sink.send(Batch([an_exec(sequence=n)]))
        print(n, flush=True)

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


async def test_a_kill_at_any_moment_loses_and_doubles_nothing(path: Path) -> None:
    acknowledged = []
    for turn, kill_after in enumerate((1, 9, 57, 120, 333)):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(path), str(turn * 1_000_000)],
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        with child:
            assert child.stdout is not None
            lines = [child.stdout.readline() for _ in range(kill_after)]
            child.send_signal(signal.SIGKILL)
            lines += child.stdout.readlines()
        acknowledged += [int(line) for line in lines if line.endswith(b"\n")]
    async with opened(path, keep=10_000):
        await until(lambda: all(each.suffix == ".gz" for each in rotated(path)))
    found = everything(path)
    assert found == sorted(set(found))
    assert set(acknowledged) <= set(found)
    assert len(found) - len(acknowledged) <= 5
    assert not list(path.parent.glob("*.partial"))
