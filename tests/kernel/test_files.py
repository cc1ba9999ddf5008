# SPDX-License-Identifier: Apache-2.0
"""The file of a program that ran: its hash, its origin and who wrote it, on the real stream."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.kernel.stream import Event, Stream

JOINED = ("inode", "device", "file_bytes", "file_changed")


def executed(stream: Stream, pid: int, path: str) -> Event:
    return stream.one(kind="exec", process__pid=pid, path=path)


def later(stream: Stream, event: Event) -> Event:
    """The line that tells what was pending in an event."""
    return stream.one(
        kind="agent.file",
        mount_namespace=event["process"]["namespaces"]["mnt"],
        **{name: event[name] for name in JOINED},
    )


def run(program: Path | str, *arguments: str) -> int:
    with subprocess.Popen([program, *arguments], stdout=subprocess.DEVNULL) as process:
        process.wait()
        return process.pid


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_program_that_was_written_and_ran_once_is_told_with_its_writer(
    stream: Stream, tmp_path: Path
) -> None:
    program = tmp_path / "dropped"
    with subprocess.Popen(["/bin/cp", "/bin/true", program]) as copying:
        copying.wait()
    event = executed(stream, run(program), str(program))
    assert event["file_bytes"] == program.stat().st_size
    assert event["file"]["modified_by"]["pid"] == copying.pid
    assert event["file"]["modified_at"] < event["time"]
    told = later(stream, event)
    assert told["sha256"] == sha256(program)
    assert told["path"] == str(program)
    assert told["modified_by"]["pid"] == copying.pid
    again = executed(stream, run(program), str(program))
    assert again["file"]["sha256"] == told["sha256"]
    assert again["file"]["origin"] == told["origin"]


def test_program_that_removed_itself_is_told(stream: Stream, tmp_path: Path) -> None:
    program = Path(shutil.copy("/bin/sleep", tmp_path / "vanishing"))
    expected = sha256(program)
    with subprocess.Popen([program, "60"]) as process:
        program.unlink()
        told = later(stream, executed(stream, process.pid, str(program)))
        process.kill()
    assert told["sha256"] == expected


def test_program_that_never_had_a_name_is_told(stream: Stream) -> None:
    descriptor = os.memfd_create("nameless")
    os.write(descriptor, Path("/bin/sleep").read_bytes())
    with subprocess.Popen([f"/proc/self/fd/{descriptor}", "60"], pass_fds=[descriptor]) as process:
        os.close(descriptor)
        event = executed(stream, process.pid, "/memfd:nameless")
        told = later(stream, event)
        process.kill()
    assert event["file"]["origin"] == told["origin"] == "memfd"
    assert event["file"]["modified_by"]["pid"] == os.getpid()
    assert told["sha256"] == sha256(Path("/bin/sleep"))


def test_program_in_memory_backed_storage_is_told(stream: Stream) -> None:
    program = Path(shutil.copy("/bin/true", "/dev/shm/nodeagent-test"))
    try:
        told = later(stream, executed(stream, run(program), str(program)))
    finally:
        program.unlink()
    assert told["origin"] == "tmpfs"


def test_renamed_program_was_named_by_who_renamed_it(stream: Stream, tmp_path: Path) -> None:
    shutil.copy("/bin/true", tmp_path / "before")
    with subprocess.Popen(["/bin/mv", tmp_path / "before", tmp_path / "after"]) as moving:
        moving.wait()
    event = executed(stream, run(tmp_path / "after"), str(tmp_path / "after"))
    assert event["file"]["modified_by"]["pid"] == moving.pid


def test_library_that_is_mapped_is_told(stream: Stream, tmp_path: Path) -> None:
    library = tmp_path / "library.so"
    library.write_bytes(os.urandom(8192))
    code = (
        "import mmap,sys;file=open(sys.argv[1],'rb')\n"
        "mmap.mmap(file.fileno(),8192,prot=mmap.PROT_READ|mmap.PROT_EXEC)"
    )
    pid = run(sys.executable, "-c", code, str(library))
    event = stream.one(kind="mmap", process__pid=pid, path=str(library))
    assert later(stream, event)["sha256"] == sha256(library)


def test_memory_without_a_file_has_none(stream: Stream) -> None:
    code = "import mmap;mmap.mmap(-1,4096,prot=mmap.PROT_WRITE|mmap.PROT_EXEC)"
    pid = run(sys.executable, "-c", code)
    event = stream.first(
        lambda e: e["kind"] == "mmap" and e["process"]["pid"] == pid and not e["inode"]
    )
    assert event["file"] is None


def test_replay_tells_the_same(tmp_path: Path) -> None:
    recording, live = tmp_path / "recording", tmp_path / "live"
    program = Path(shutil.copy("/bin/true", tmp_path / "recorded"))
    options = ("--sink", "file", "--set", f"sinks.file.path={live}", "--record", str(recording))
    with Stream(*options) as stream:
        told = later(stream, executed(stream, run(program), str(program)))
    assert told["sha256"] == sha256(program)
    command = [sys.executable, "-m", "nodeagent", "replay", str(recording), "--format", "json"]
    done = subprocess.run(command, capture_output=True, check=True)
    assert done.stdout == live.read_bytes()
    assert told in [json.loads(line) for line in done.stdout.splitlines()]


def test_without_hashes_it_says_so() -> None:
    with Stream("--set", "files.hash=false") as stream:
        event = executed(stream, run("/bin/true"), "/usr/bin/true")
        assert event["file"]["sha256_missing"] == "off"
        assert stream.stop() == 143
    assert not [event for event in stream.events if event["kind"] == "agent.file"]
