# SPDX-License-Identifier: Apache-2.0
"""Published ways to hide, as far as it takes more than one event to tell."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.kernel.stream import ACTS, Acted, Stream, act, build

Do = Callable[..., Acted]
RACES = 200
STOPPED_SECONDS = 1.0


@pytest.fixture(scope="module")
def evasion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled evasion.c."""
    return build(ACTS / "evasion.c", tmp_path_factory.mktemp("evasion") / "evasion")


def test_e1_name_that_changes_during_the_call_does_not_hide_the_file(
    stream: Stream, evasion: Path, tmp_path: Path
) -> None:
    acted = act(evasion, "race_open", cwd=tmp_path)
    inodes = {str(tmp_path / f"file{n}"): acted.said[f"inode{n}"] for n in (1, 2)}
    raced = [e for e in stream.of(acted.pid, "open") if e["flags"] == ["O_RDONLY", "O_NOFOLLOW"]]
    assert len(raced) == RACES
    assert all(inodes[e["path"]] == e["inode"] for e in raced)


def test_e1_address_that_changes_during_the_call_does_not_hide_the_peer(
    stream: Stream, evasion: Path, tmp_path: Path
) -> None:
    acted = act(evasion, "race_connect", cwd=tmp_path)
    events = stream.of(acted.pid, "connect")
    reached = [f"127.0.0.{ord(byte)}" for byte in acted.said["reached"][1:]]
    assert len(reached) == RACES
    assert [e["remote"]["address"] for e in sorted(events, key=lambda e: e["time"])] == reached


def test_e15_flood_of_opens_hides_no_program(tmp_path: Path) -> None:
    """The flood fills its own ring, which is a page, and not that of precious kinds."""
    (tmp_path / "file").touch()
    flood = f"while True:\n    open({str(tmp_path / 'file')!r}, 'a').close()"
    with Stream("--only", "exec,open", "--set", "kernel.bulk_ring_bytes=4096") as stream:
        flooding = [subprocess.Popen(["python3", "-IS", "-c", flood]) for _ in range(2)]
        try:
            run = [subprocess.Popen(["/bin/true"]) for _ in range(50)]
            for program in run:
                program.wait()
        finally:
            for each in flooding:
                each.kill()
                each.wait()
        stream.stop()
    report = stream.events[-1]
    seen = {e["process"]["pid"] for e in stream.events if e["kind"] == "exec"}
    assert {program.pid for program in run} <= seen
    assert sum(report["kinds"]["open"]["lost"].values()) > 0
    assert not report["kinds"]["exec"]["lost"]
    assert "balanced" in stream.errors


def test_e17_taking_hold_of_a_map_of_the_agent_is_an_event(stream: Stream) -> None:
    listed = subprocess.run(
        ["bpftool", "map", "show", "name", "settings"],
        capture_output=True,
        check=True,
        env={**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"},
    )
    assert listed.stdout
    event = stream.first(
        lambda e: e["kind"] == "bpf" and e.get("name") == "settings" and e["own"], "own map taken"
    )
    assert event["process"]["comm"] == "bpftool"
    assert event["command"] == "BPF_MAP_GET_FD_BY_ID"


def mapped(pid: int, name: str, permissions: str) -> str:
    """Where the first mapping of this name and these permissions starts, see proc_pid_maps(5)."""
    for line in Path(f"/proc/{pid}/maps").read_text(encoding="ascii").splitlines():
        addresses, allowed, *_, last = line.split()
        if last == name and allowed == permissions:
            return f"0x{addresses.partition('-')[0]}"
    raise AssertionError(f"process {pid} has no {name} {permissions}")


HEAP = ("[heap]", "rw-p")
"""What the agent has decoded."""
RING = ("anon_inode:bpf-map", "r--s")
"""Records that wait for it."""


def test_e20_memory_of_the_agent_is_not_rewritten_in_silence(stream: Stream, evasion: Path) -> None:
    agent = stream.agent.pid
    # What waits is written by the kernel alone.
    for memory, result in ((HEAP, 8), (RING, -errno.EFAULT)):
        acted = act(evasion, "rewrite", str(agent), mapped(agent, *memory))
        (event,) = stream.of(acted.pid, "vm_write")
        assert acted.said["result"] == event["result"] == result
        assert event["target_process"]["pid"] == agent
    stream.one(
        kind="finding",
        type="DefenseEvasion:Runtime/ProcessInjection.VirtualMemoryWrite",
        context__targetProcess__pid=agent,
    )


def test_e20_memory_of_the_agent_is_not_rewritten_through_proc_in_silence(
    stream: Stream, evasion: Path
) -> None:
    agent = stream.agent.pid
    for memory, refused in ((HEAP, False), (RING, True)):
        acted = act(evasion, "rewrite_by_file", str(agent), mapped(agent, *memory))
        assert (acted.said["result"] < 0) is refused
        opened = [e for e in stream.of(acted.pid, "open") if e["path"] == f"/proc/{agent}/mem"]
        assert [e["flags"] for e in opened] == [["O_RDWR"]]
    stream.one(
        kind="finding",
        type="DefenseEvasion:Runtime/ProcessInjection.Proc",
        context__targetProcess__pid=agent,
    )


@contextmanager
def stopped(agent: subprocess.Popen[bytes]) -> Iterator[None]:
    """The agent looks at nothing in this block, nor for a moment after it."""
    agent.send_signal(signal.SIGSTOP)
    try:
        yield
        time.sleep(STOPPED_SECONDS)
    finally:
        agent.send_signal(signal.SIGCONT)


def test_e22_program_that_is_gone_before_anybody_looks_is_known_as_a_whole(stream: Stream) -> None:
    stream.catch_up()
    with stopped(stream.agent):
        run = subprocess.Popen(["/bin/true", "argument"])
        run.wait()
    (event,) = stream.of(run.pid, "exec")
    assert event["argv"] == ["/bin/true", "argument"]
    assert event["path"] == event["process"]["path"] == os.path.realpath("/bin/true")
    assert event["cwd"] == str(Path.cwd())
    assert event["process"]["lineage"][0]["pid"] == os.getpid()
    assert event["inode"] == Path("/bin/true").stat().st_ino
    (end,) = stream.of(run.pid, "exit")
    assert end["process"]["uuid"] == event["process"]["uuid"]


def test_e28_what_happens_while_the_agent_is_stopped_is_told_with_its_own_time(
    stream: Stream, evasion: Path
) -> None:
    stream.catch_up()
    with stopped(stream.agent):
        acted = act(evasion, "nothing")
        done = datetime.now(UTC)
    (event,) = stream.of(acted.pid, "exec")
    assert datetime.fromisoformat(event["time"]) < done
    stop = stream.one(kind="kill", signal="SIGSTOP", process__pid=os.getpid())
    assert stop["target_process"]["pid"] == stream.agent.pid
    assert datetime.fromisoformat(stop["time"]) < datetime.fromisoformat(event["time"])
