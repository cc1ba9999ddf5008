# SPDX-License-Identifier: Apache-2.0
"""Every event is accounted for, and nothing is left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from nodeagent.event import EVENTS
from tests.kernel.stream import Acted, Event, Stream, bpf_ids, mounts, wait_until_freed

Do = Callable[..., Acted]
KINDS = tuple(EVENTS)


def check_balance(report: Event) -> None:
    """The equations of the ledger, from the last event of a stream."""
    for kind, row in report["kinds"].items():
        lost = sum(row["lost"].values())
        assert row["seen"] == (
            row["sent"] + row["filtered"] + row["aggregated"] + row["throttled"] + lost
        ), kind
        assert row["sent"] == row["decoded"] + row["bad"], kind
    for name, row in report["sinks"].items():
        dropped = sum(row["dropped"].values())
        assert row["routed"] == row["delivered"] + row["queued"] + row["spooled"] + dropped, name


def check_sequences(events: list[Event]) -> None:
    """On each CPU the numbers of a kind are without a gap: nothing was lost on the way."""
    numbers: dict[tuple[str, int], list[int]] = defaultdict(list)
    for event in events:
        if "sequence" in event:
            numbers[event["kind"], event["cpu"]].append(event["sequence"])
    for (kind, cpu), found in numbers.items():
        assert sorted(found) == list(range(len(found))), (kind, cpu)


def family(process: Event) -> set[int]:
    """The pids of a process and its ancestors."""
    return {process["pid"], *(ancestor["pid"] for ancestor in process["lineage"])}


def test_busy_compile_is_watched_and_the_ledger_balances(tmp_path: Path) -> None:
    sources = [tmp_path / f"part{i}.c" for i in range(24)]
    for source in sources:
        source.write_text("#include <stdio.h>\nint f(void) { return puts(__FILE__); }\n", "ascii")
    rules = "all: " + " ".join(f"{s.stem}.o" for s in sources) + "\n"
    (tmp_path / "Makefile").write_text(rules, "ascii")
    with Stream() as stream:
        make = subprocess.Popen(["make", "-s", "-j2", "-C", tmp_path])
        assert make.wait() == 0
        stream.one(kind="exit", process__pid=make.pid)
        assert stream.stop() == 128 + signal.SIGTERM
    report = stream.events[-1]
    assert report["kind"] == "agent.stop"
    check_balance(report)
    check_sequences(stream.events)
    counted = Counter(event["kind"] for event in stream.events)
    assert {kind: report["kinds"][kind]["decoded"] for kind in KINDS} == {
        kind: counted[kind] for kind in KINDS
    }
    assert sum(not row["lost"] for row in report["kinds"].values()) == len(KINDS)
    compiled = {
        event["argv"][-1]
        for event in stream.events
        if event["kind"] == "exec"
        and event["filename"].endswith("/as")
        and not event["result"]
        and make.pid in family(event["process"])
    }
    assert len(compiled) == len(sources)
    ours = [e for e in stream.events if "process" in e and make.pid in family(e["process"])]
    assert len([event for event in ours if event["kind"] == "open"]) > 20 * len(sources)
    assert all(event["process"]["path"] for event in ours)
    assert "balanced: every event is accounted for" in stream.errors


def test_stream_is_in_the_order_of_time_within_a_batch(do: Do) -> None:
    with Stream() as stream:
        for _ in range(20):
            acted = do("fork")
        stream.one(kind="exit", process__pid=acted.pid)
    for kind in ("exec", "exit"):
        times = [event["time"] for event in stream.events if event["kind"] == kind]
        assert times == sorted(times)


def test_a_small_ring_loses_and_says_exactly_how_much(tmp_path: Path) -> None:
    loop = f"for i in range(60000):\n try: open('{tmp_path}/none')\n except OSError: pass"
    with Stream("--set", "kernel.bulk_ring_bytes=4096") as stream:
        done = subprocess.run([sys.executable, "-c", loop], check=False)
        assert done.returncode == 0
        for cpu in sorted(os.sched_getaffinity(0)):
            see_an_open_of(cpu, stream)
        stream.stop()
    report = stream.events[-1]
    check_balance(report)
    lost = report["kinds"]["open"]["lost"]["ring full"]
    assert lost > 1000
    # The gaps in the sequence say the same without the report.
    last: dict[int, int] = {}
    held = 0
    for event in stream.events:
        if event["kind"] == "open":
            last[event["cpu"]] = max(last.get(event["cpu"], 0), event["sequence"])
            held += 1
    gaps = sum(last.values()) + len(last) - held
    # What was lost after the last event that got through leaves no gap.
    assert lost * 0.9 <= gaps <= lost
    # What is rare and precious has a ring of its own.
    assert report["kinds"]["exec"]["lost"] == {}


def see_an_open_of(cpu: int, stream: Stream) -> None:
    """Until one of this CPU gets through."""
    every = os.sched_getaffinity(0)
    path = f"/nowhere/cpu-{cpu}"
    os.sched_setaffinity(0, {cpu})
    try:
        for _ in range(100):
            with contextlib.suppress(OSError):
                os.open(path, os.O_RDONLY)
            time.sleep(0.2)
            if any(e.get("argument") == path for e in list(stream.events)):
                return
    finally:
        os.sched_setaffinity(0, every)
    raise AssertionError(f"no open of CPU {cpu} got through")


def test_only_shows_what_was_asked_for_and_keeps_the_lineage(do: Do) -> None:
    with Stream("--only", "listen") as stream:
        acted = do("listen", "stream", "inet", "127.0.0.1", "0")
        event = stream.one(kind="listen", process__pid=acted.pid)
        assert event["process"]["path"].endswith("/act")
        assert event["process"]["lineage"][0]["pid"] == os.getpid()
        stream.stop()
    assert {event["kind"] for event in stream.events} == {
        "agent.start",
        "agent.coverage",
        "agent.node",
        "listen",
        "agent.stop",
    }
    report = stream.events[-1]
    check_balance(report)
    assert set(stream.events[1]["kinds"]) == {"listen"}
    assert report["kinds"]["exec"]["withheld"] == report["kinds"]["exec"]["decoded"] > 0


def test_own_operations_are_counted_as_filtered_and_never_shown(tmp_path: Path) -> None:
    with Stream() as stream:
        pid = stream.agent.pid
        for number in range(5):
            (tmp_path / str(number)).touch()
        stream.stop()
    assert not [e for e in stream.events if e.get("process", {}).get("pid") == pid]
    assert stream.events[-1]["kinds"]["open"]["filtered"] > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_in_the_kernel(number: signal.Signals) -> None:
    before = mounts()
    with Stream() as stream:
        coverage = stream.one(kind="agent.coverage")
        ours = bpf_ids(stream.agent.pid)
        assert mounts() == before
        code = stream.stop(number)
    assert code == (-number if number == signal.SIGKILL else 128 + number)
    loaded = sum(len(each["programs"]) for each in coverage["kinds"].values())
    assert Counter(what for what, _ in ours)["prog"] >= loaded > len(EVENTS)
    wait_until_freed(ours)


def test_duration_ends_the_run_in_order() -> None:
    started = time.monotonic()
    with Stream("--duration", "0.5") as stream:
        assert stream.ended() == 0
    assert time.monotonic() - started < 15
    assert stream.events[-1]["kind"] == "agent.stop"
    assert stream.events[-1]["reason"] == "duration"


def test_ledger_is_written_into_the_stream_at_the_interval() -> None:
    with Stream("--set", "ledger.interval_seconds=0.3") as stream:
        first = stream.one(kind="agent.ledger")
        second = stream.first(lambda e: e["kind"] == "agent.ledger" and e["time"] > first["time"])
    assert set(second["kinds"]) == set(KINDS)


def test_reader_that_leaves_ends_the_run_without_a_traceback() -> None:
    command = [sys.executable, "-m", "nodeagent", "run", "--format", "json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as agent:
        assert agent.stdout is not None
        assert agent.stderr is not None
        assert "agent.start" in agent.stdout.readline()
        agent.stdout.close()
        Path("/etc/hostname").read_bytes()
        errors = agent.stderr.read()
    assert agent.returncode == 0
    assert "Traceback" not in errors
    assert "sink_closed sink=stdout why=nobody reads" in errors
