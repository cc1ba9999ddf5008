# SPDX-License-Identifier: Apache-2.0
"""One agent takes over from another: both watch for a moment, and nothing is missed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nodeagent.control import ask
from tests.kernel.stream import Event, Stream, bpf_ids, held_by
from tests.kernel.test_ledger import check_balance
from tests.polling import wait_for

LOAD = """
import os, select, sys
number = 0
while not select.select([0], [], [], 0)[0]:
    child = os.posix_spawn("/bin/true", ["true", f"load-{number}"], {})
    os.waitpid(child, 0)
    number += 1
print(number)
"""
OVERLAP_SECONDS = 1.0
PROCESSES = {"exec", "fork", "exit"}


class Node:
    """Where agents take over from each other."""

    def __init__(self, folder: Path) -> None:
        self.kept = folder / "state.json"
        self.control = folder / "control.sock"

    def run(self, *options: str) -> Stream:
        places = ("--set", f"state.file={self.kept}", "--set", f"control.socket={self.control}")
        # A busy machine must not fill it while nobody reads.
        return Stream(*places, "--set", "kernel.high_ring_bytes=33554432", *options)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


@contextmanager
def load() -> Iterator[list[int]]:
    """Programs that run one after the other; gives their number at the end, and the pid."""
    counted: list[int] = []
    with subprocess.Popen(
        [sys.executable, "-c", LOAD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        yield counted
        said, _ = running.communicate("\n")
        counted += [int(said), running.pid]


def name(event: Event) -> tuple[str, str, int]:
    """As `event_id()` has it."""
    return event["kind"], event["time"], event["tid"]


def loaded(stream: Stream, pid: int) -> dict[str, Event]:
    """Programs of the load by their argument."""
    return {
        event["argv"][-1]: event
        for event in stream.events
        if event["kind"] == "exec" and event["process"]["lineage"][0]["pid"] == pid
    }


def test_every_program_is_in_one_of_both_streams_and_in_both_by_the_same_id(node: Node) -> None:
    with node.run() as old:
        old.catch_up()
        held = bpf_ids(old.agent.pid)
        with load() as counted:
            time.sleep(0.5)
            new = node.run("--take-over")
            old.one(kind="agent.hand_over")
            # So that it goes later, and both watch for longer.
            os.kill(old.agent.pid, signal.SIGSTOP)
            wait_for(lambda: any(what == "link" for what, _ in held_by(new.agent.pid)))
            time.sleep(OVERLAP_SECONDS)
            os.kill(old.agent.pid, signal.SIGCONT)
            # What it was told to keep running, it does not start again at once.
            assert old.ended() == 0
            start = new.one(kind="agent.start")
            time.sleep(0.5)
        with new:
            new.catch_up()
            assert ask(node.control, "status")["pid"] == new.agent.pid
            assert json.loads(node.kept.read_text())["pid"] == new.agent.pid
            new.stop()
    number, pid = counted
    before, after = loaded(old, pid), loaded(new, pid)
    assert before.keys() | after.keys() == {f"load-{each}" for each in range(number)}
    both = before.keys() & after.keys()
    assert len(both) > 50
    assert {each: name(before[each]) for each in both} == {each: name(after[each]) for each in both}
    # The same for all that these programs did, but for those that ran as the hooks of the new
    # one came and those of the old one went.
    whole = sorted(both, key=lambda each: before[each]["time"])[len(both) // 4 : -1]
    seen = [shared(stream, {before[each]["tid"] for each in whole}) for stream in (old, new)]
    assert seen[0] == seen[1]
    assert {kind for kind, _, _ in seen[0]} >= {"exec", "exit", "open"}
    for stream in (old, new):
        check_balance(stream.events[-1])
        names = Counter(map(name, (e for e in stream.events if "tid" in e)))
        assert names.most_common(1)[0][1] == 1
    told = [e for e in old.events if e["kind"] == "agent.hand_over"]
    assert [each["pid"] for each in told] == [new.agent.pid]
    assert old.events[-1]["reason"] == "hand-over"
    assert start["previous"]["ended"] == "hand-over"
    assert start["previous"]["gap_seconds"] == 0
    check_silence(old, new)
    wait_for(lambda: not held & bpf_ids())


def shared(stream: Stream, tids: set[int]) -> set[tuple[str, str, int]]:
    """Events of these threads, without those of a parent that go with another one."""
    kinds = {"exec", "exit", "open", "mmap", "mprotect"}
    return {name(e) for e in stream.events if e["kind"] in kinds and e["tid"] in tids}


def check_silence(old: Stream, new: Stream) -> None:
    """Neither tells of the other more than that it lives."""
    began = old.one(kind="agent.hand_over")["time"]
    # A finding has no time of its own.
    since = [event for event in old.events if event.get("time", "9") > began]
    for stream, other in ((since, new), (new.events, old)):
        of_other = [e for e in stream if e.get("process", {}).get("pid") == other.agent.pid]
        told = [(e["kind"], e.get("path")) for e in of_other if e["kind"] not in PROCESSES]
        assert not told
        assert not [e for e in stream if e["kind"] in {"finding", "bpf"} and about(e, other)]


def about(event: Event, agent: Stream) -> object:
    return event.get("process", {}).get("pid") == agent.agent.pid


def test_one_that_does_not_answer_is_left_in_peace(node: Node) -> None:
    with node.run("--set", "control.socket=") as old:
        wait_for(lambda: node.kept.exists() and node.kept.read_bytes() != b"")
        new = node.run("--take-over")
        assert new.ended() == 2
        (sentence,) = new.errors.strip().splitlines()
        assert "does not hand over: no agent answers at" in sentence
        old.catch_up()


def test_who_was_handed_over_to_before_rests_and_ends_with_the_other_one(node: Node) -> None:
    """As pods do, which are started again when they end."""
    with node.run("--take-over") as old:
        # Nobody was there.
        assert old.one(kind="agent.start")["previous"] is None
        with node.run("--take-over") as new:
            old.one(kind="agent.stop")
            wait_for(lambda: "rests until" in old.errors)
            assert old.agent.poll() is None
            assert not any(bpf_ids(old.agent.pid))
            new.stop()
        assert old.ended() == 0
