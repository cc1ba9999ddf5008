# SPDX-License-Identifier: Apache-2.0
"""Real files, hashed as the file that ran and no other, whatever lies in the way."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nodeagent.config import FilesConfig
from nodeagent.enrich.file import FileKey, FileQuestion, FileSeen
from nodeagent.follow import files
from nodeagent.follow.files import FileFollower
from nodeagent.follow.inside import Inside, namespace_of
from nodeagent.follow.worker import Worker
from nodeagent.kernel.libbpf import Libbpf
from tests.requirement import need

NOBODY = 4_194_304
"""Larger than any pid."""


@pytest.fixture(autouse=True)
def root() -> None:
    need("kernel", os.geteuid() == 0, "only root may look through /proc/PID/root of others")


def key_of(path: Path, **changes: int) -> FileKey:
    state = path.stat()
    fields = {
        "device": state.st_dev,
        "inode": state.st_ino,
        "changed_ns": state.st_ctime_ns,
        "bytes": state.st_size,
        "mount_namespace": namespace_of(os.getpid(), "mnt"),
    }
    return FileKey(**fields | changes)


def question(path: Path, key: FileKey | None = None, **changes: Any) -> FileQuestion:
    fields: dict[str, Any] = {
        "key": key or key_of(path),
        "path": str(path),
        "pids": (os.getpid(),),
        "is_program": False,
        "address": 0,
        "container": None,
    }
    return FileQuestion(**fields | changes)


def answers(*questions: FileQuestion, **config: Any) -> list[FileSeen]:
    told: list[FileSeen] = []
    done = asyncio.Event()

    def tell(seen: FileSeen) -> None:
        told.append(seen)
        if len(told) == len(questions):
            done.set()

    worker = Worker("test")
    settings = FilesConfig(**{"hash_cpu_percent": 100.0} | config)
    follower = FileFollower(settings, Inside(Libbpf().syscall), worker, tell)

    async def ask() -> None:
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            task = group.create_task(follower.follow())
            follower.ask(questions)
            await done.wait()
            task.cancel()

    asyncio.run(ask())
    worker.close()
    return told


def answer(asked: FileQuestion, **config: Any) -> FileSeen:
    (told,) = answers(asked, **config)
    return told


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A program of our own that sleeps."""
    return Path(shutil.copy("/bin/sleep", tmp_path / "program"))


@contextmanager
def running(program: Path) -> Iterator[int]:
    with subprocess.Popen([program, "60"]) as process:
        try:
            yield process.pid
        finally:
            process.kill()


def test_file_is_hashed_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(os.urandom(3 * files.CHUNK_BYTES + 5))
    told = answer(question(path))
    assert (told.sha256, told.missing) == (sha256(path), "")


def test_changed_file_has_no_hash(program: Path) -> None:
    before = key_of(program)
    program.write_bytes(b"x" * before.bytes)
    told = answer(question(program, before))
    assert (told.sha256, told.missing) == ("", "gone")


def test_running_program_is_hashed_after_it_was_removed(program: Path) -> None:
    expected = sha256(program)
    asked = key_of(program)
    with running(program) as pid:
        program.unlink()
        program.write_bytes(b"another one")
        told = answer(question(program, asked, pids=(pid,), is_program=True))
    assert told.sha256 == expected


def test_program_of_an_ended_process_is_found_with_the_eyes_of_its_parent(
    program: Path,
) -> None:
    told = answer(question(program, pids=(NOBODY, os.getpid()), is_program=True))
    assert told.sha256 == sha256(program)


def test_process_of_another_mount_namespace_is_not_asked(program: Path) -> None:
    told = answer(question(program, key_of(program, mount_namespace=1)))
    assert told.missing == "gone"


def test_memfd_is_hashed_and_named() -> None:
    descriptor = os.memfd_create("code")
    os.write(descriptor, Path("/bin/sleep").read_bytes())
    path = Path(f"/proc/self/fd/{descriptor}")
    key = key_of(path)
    with subprocess.Popen([path, "60"], pass_fds=[descriptor]) as process:
        os.close(descriptor)
        told = answer(question(Path("/memfd:code"), key, pids=(process.pid,), is_program=True))
        process.kill()
    assert (told.sha256, told.origin) == (sha256(Path("/bin/sleep")), "memfd")


def test_removed_library_is_found_where_it_is_mapped(tmp_path: Path) -> None:
    path = tmp_path / "library"
    path.write_bytes(os.urandom(4096))
    expected, key = sha256(path), key_of(path)
    code = (
        "import mmap,sys;file=open(sys.argv[1],'rb')\n"
        "area=mmap.mmap(file.fileno(),4096,prot=mmap.PROT_READ|mmap.PROT_EXEC);file.close()\n"
        "print('mapped',flush=True);sys.stdin.read()"
    )
    with subprocess.Popen(
        ["python3", "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        maps = Path(f"/proc/{process.pid}/maps").read_text(encoding="utf-8").splitlines()
        address = next(int(line.split("-")[0], 16) for line in maps if str(path) in line)
        path.unlink()
        told = answer(question(path, key, pids=(process.pid,), address=address))
        process.kill()
    assert told.sha256 == expected


def test_large_file_is_left_out_and_says_so(program: Path) -> None:
    told = answer(question(program), hash_bytes=10)
    assert (told.sha256, told.missing, told.origin) == ("", "too large", "host")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_regular_file_is_not_read(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "odd"
    make(path)
    assert (answer(question(path))).missing == "gone"


def test_hashing_keeps_to_its_share_of_the_cpu(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(bytes(24 * files.CHUNK_BYTES))
    start, cpu = time.monotonic(), time.process_time()
    assert (answer(question(path), hash_cpu_percent=10.0)).sha256
    # It may take longer than that on a busy machine, but never shorter.
    assert time.monotonic() - start > 4 * (time.process_time() - cpu)


def test_file_system_that_hangs_costs_one_answer(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "PATIENCE_SECONDS", 0.2)
    free = threading.Event()
    real = files._has_content

    def hangs(state: os.stat_result, key: FileKey, *, is_held: bool) -> bool:
        if key.inode == 1:
            free.wait()
        return real(state, key, is_held=is_held)

    monkeypatch.setattr(files, "_has_content", hangs)
    stuck = question(program, key_of(program, inode=1))
    told = answers(stuck, question(program))
    free.set()
    assert [(each.sha256, each.missing) for each in told] == [
        ("", "stuck"),
        (sha256(program), ""),
    ]


def test_more_questions_than_can_wait_are_answered_at_once(program: Path) -> None:
    told: list[FileSeen] = []
    worker = Worker("test")
    follower = FileFollower(FilesConfig(), Inside(Libbpf().syscall), worker, told.append)
    follower.ask(question(program) for _ in range(files.QUESTIONS_WAITING + 3))
    assert [seen.missing for seen in told] == ["busy"] * 3
