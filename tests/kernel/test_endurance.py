# SPDX-License-Identifier: Apache-2.0
"""However a run ends: nothing is left, the next one starts clean and says what was missed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

import pytest

from tests.kernel.stream import Event, Stream, bpf_ids, mounts, wait_until_freed
from tests.kernel.test_ledger import check_balance
from tests.polling import wait_for
from tests.requirement import need

STOPPED_SECONDS = float(os.environ.get("STOPPED_SECONDS", "4"))
RESTARTS = int(os.environ.get("RESTARTS", "3"))
BEAT_SECONDS = 10.0
MEMORY = {
    Path("/sys/fs/cgroup/memory"): ("memory.limit_in_bytes", "memory.oom_control"),
    Path("/sys/fs/cgroup"): ("memory.max", "memory.events"),
}
"""Where the controller of memory is: in version 1 or 2 of cgroups."""
LIMIT_BYTES = 64 << 20
EATER = f"""
input()
held = b"x" * {2 * LIMIT_BYTES}
"""


class Node:
    """Where an agent keeps everything that it keeps."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kept = folder / "state.json"

    def run(self, *options: str) -> Stream:
        files = {
            "state.file": self.kept,
            "control.socket": self.folder / "control.sock",
            "spool.folder": self.folder / "spool",
            "sinks.file.path": self.folder / "events.ndjson",
            "sinks.store.path": self.folder / "findings.db",
            # Nobody listens there, so what goes to it waits on the disk.
            "sinks.https.url": "http://127.0.0.1:9/",
        }
        settings = [word for key, value in files.items() for word in ("--set", f"{key}={value}")]
        sinks = ("--sink", "file", "--sink", "store", "--sink", "https")
        # Few hooks are as good as many here, and attached sooner.
        few = ("--only", "exec,open,exit", "--set", "shutdown_seconds=0.5")
        return Stream(*sinks, *settings, *few, *options)

    def files(self) -> set[str]:
        """All but segments, which come and go."""
        found = (str(path.relative_to(self.folder)) for path in self.folder.rglob("*"))
        return {path for path in found if not re.search(r"(high|bulk)-\d+", path)}


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def previous(stream: Stream) -> Event | None:
    """What the run says of the one before."""
    found: Event | None = stream.one(kind="agent.start")["previous"]
    return found


@contextmanager
def leaving_nothing(stream: Stream) -> Iterator[None]:
    """The agent ends in the block; nothing of it stays in the kernel."""
    before = mounts()
    ours = bpf_ids(stream.agent.pid)
    assert len(ours) > 20
    yield
    assert stream.ended() is not None
    wait_until_freed(ours)
    assert mounts() == before


@contextmanager
def memory_cgroup() -> Iterator[tuple[Path, str]]:
    """One with a small limit, and the name of the file that counts what the kernel killed."""
    root = next((path for path in MEMORY if (path / "memory.stat").exists()), None)
    need("kernel", root is not None, "there is no cgroup with a controller of memory")
    assert root is not None
    limit, counts = MEMORY[root]
    folder = root / f"nodeagent-endurance-{os.getpid()}"
    folder.mkdir()
    try:
        need("kernel", (folder / limit).exists(), "the memory of cgroups cannot be limited here")
        (folder / limit).write_text(str(LIMIT_BYTES))
        yield folder, counts
    finally:
        for _ in range(100):
            with suppress(OSError):
                folder.rmdir()
                break
            time.sleep(0.1)


def run_out_of_memory(pid: int) -> None:
    """Another process takes all of the cgroup's memory, and the kernel ends the agent for it."""
    with (
        memory_cgroup() as (folder, counts),
        subprocess.Popen(
            [sys.executable, "-c", EATER], stdin=subprocess.PIPE, text=True, stderr=subprocess.PIPE
        ) as eater,
    ):
        Path(f"/proc/{pid}/oom_score_adj").write_text("1000")
        for each in (pid, eater.pid):
            (folder / "cgroup.procs").write_text(str(each))
        try:
            assert eater.stdin is not None
            eater.stdin.write("\n")
            eater.stdin.flush()
            wait_for(lambda: "oom_kill 0" not in (folder / counts).read_text())
        finally:
            eater.kill()


ENDS: dict[str, tuple[Callable[[int], None], int, str | None]] = {
    "term": (lambda pid: os.kill(pid, signal.SIGTERM), 128 + signal.SIGTERM, "SIGTERM"),
    "kill": (lambda pid: os.kill(pid, signal.SIGKILL), -signal.SIGKILL, None),
    "memory": (run_out_of_memory, -signal.SIGKILL, None),
}


def test_each_end_leaves_nothing_and_is_told_by_the_next_start(node: Node) -> None:
    """One run after the other; each says how that before it has ended."""
    ended: str | None = "nothing yet"
    since = 0.0
    files: set[str] = set()
    for end, code, reason in ENDS.values():
        with node.run() as stream:
            before = previous(stream)
            if since:
                assert before is not None
                assert before["ended"] == ended
                # What nobody saw coming may have been up to a beat later.
                away = time.time() - since
                assert 0 < before["gap_seconds"] < away + BEAT_SECONDS + 1
            else:
                assert before is None
            subprocess.run(["true"], check=True)
            stream.catch_up()
            wait_for(node.kept.exists)
            with leaving_nothing(stream):
                since = time.time()
                end(stream.agent.pid)
            assert stream.agent.returncode == code
        files |= node.files()
        ended = reason
    with node.run() as stream:
        before = previous(stream)
        assert before is not None
        assert before["ended"] is None
        assert stream.stop() == 128 + signal.SIGTERM
    warnings = re.findall(" warning (.*)", stream.errors)
    # Nobody takes what waits in the spool.
    unsent = ("sink_retry sink=https", "sink_not_drained sink=https events=0 ")
    assert [line for line in warnings if not line.startswith(unsent)] == []
    check_balance(stream.events[-1])
    assert stream.events[-1]["sinks"]["https"]["recovered"]
    # The socket is gone after an end in order, and nothing has come that was not there before.
    assert node.files() <= files - {"control.sock"}


def test_it_can_be_started_again_and_again(node: Node) -> None:
    ours = set()
    for number in range(RESTARTS):
        with node.run() as stream:
            told = previous(stream)
            assert (told is not None) == bool(number)
            assert told is None or told["ended"] == "SIGTERM"
            ours |= bpf_ids(stream.agent.pid)
            assert stream.stop() == 128 + signal.SIGTERM
        check_balance(stream.events[-1])
    if number:
        assert stream.events[-1]["sinks"]["https"]["recovered"]
    wait_until_freed(ours)


def test_what_happens_while_it_is_stopped_is_told_later_or_counted_as_lost(
    node: Node, tmp_path: Path
) -> None:
    loop = f"for i in range(5000):\n try: open('{tmp_path}/none')\n except OSError: pass"
    with node.run("--set", "kernel.bulk_ring_bytes=65536") as stream:
        stream.catch_up()
        os.kill(stream.agent.pid, signal.SIGSTOP)
        began = time.time_ns()
        subprocess.run([sys.executable, "-c", loop], check=True)
        subprocess.run(["true", "while-it-was-stopped"], check=True)
        time.sleep(STOPPED_SECONDS)
        os.kill(stream.agent.pid, signal.SIGCONT)
        seen = stream.first(lambda event: "while-it-was-stopped" in event.get("argv", ()))
        # It bears the time when it happened.
        at = datetime.fromisoformat(seen["time"]).timestamp()
        assert began / 1e9 <= at < time.time() - STOPPED_SECONDS + 1
        stream.stop()
    report = stream.events[-1]
    check_balance(report)
    assert report["kinds"]["open"]["lost"]["ring full"] > 1000
    assert report["kinds"]["exec"]["lost"] == {}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 32 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_full_disk_costs_what_does_not_fit_and_nothing_else(small_disk: Path) -> None:
    node = Node(small_disk)
    little = ("sinks.file.kinds=['exec']", "sinks.https.kinds=['exec']")
    options = [word for each in little for word in ("--set", each)]
    with node.run(*options, "--set", "sinks.https.spool_bytes=1048576") as stream:
        stream.catch_up()
        wait_for(node.kept.exists)
        filler = small_disk / "filler"
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(b"x" * 4096):
                pass
        for number in range(50):
            subprocess.run(["true", f"full-{number}"], check=True)
        stream.catch_up()
        full = ("spool_failed sink=https why=No space left", "events.ndjson is full: make room")
        wait_for(lambda: all(words in stream.errors for words in full))
        filler.unlink()
        for number in range(50):
            subprocess.run(["true", f"free-{number}"], check=True)
        stream.catch_up()
        lines = node.folder / "events.ndjson"
        wait_for(lambda: "free-49" in lines.read_text())
        with leaving_nothing(stream):
            stream.agent.terminate()
    report = stream.events[-1]
    check_balance(report)
    assert report["sinks"]["stdout"]["dropped"] == {}
    with node.run() as stream:
        before = previous(stream)
        assert before is not None
        assert before["ended"] == "SIGTERM"
        stream.stop()
    check_balance(stream.events[-1])
    assert all(words not in stream.errors for words in full)
    # No line is torn.
    for line in lines.read_text().splitlines():
        json.loads(line)


def test_second_agent_with_the_same_state_says_who_has_it(node: Node) -> None:
    with node.run() as stream:
        wait_for(lambda: node.kept.exists() and node.kept.read_bytes() != b"")
        second = node.run()
        assert second.ended() == 2
        (sentence,) = second.errors.strip().splitlines()
        assert sentence.startswith(f"nodeagent: another agent (pid {stream.agent.pid}) runs with")
        assert str(node.kept) in sentence
        stream.stop()
