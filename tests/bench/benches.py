# SPDX-License-Identifier: Apache-2.0
"""What is measured. Each bench gives figures, and raises RuntimeError when something is wrong.

Bars and aims are those of the first milestone; what peers cost on the same loads stands
beside them where it is known.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

from nodeagent.kernel.features import SERVES
from nodeagent.kernel.libbpf import Libbpf
from tests.bench.figure import Figure
from tests.bench.load import Done, Load, Running
from tests.bench.watch import Agent, Bpftrace, Runs, Statistics, Watched, dropped, lost, nap

OPENS_PER_SECOND: Final = 20_000
EXECS_PER_SECOND: Final = 300
DRAIN_SECONDS: Final = 0.5
"""After a load: what is under way reaches the file."""
WARM_UP_SECONDS: Final = 1.0
SAMPLE_SECONDS: Final = 0.25
MARKER_SECONDS: Final = 0.01
MARKERS_SECONDS: Final = 4.0
MEBIBYTE: Final = 1 << 20
PROGRAM_NAME_BYTES: Final = 15

Generator: TypeAlias = Callable[[float], AbstractContextManager[Running]]
"""A load for so many seconds."""

PEERS: Final = {
    "open": 'tracepoint:syscalls:sys_enter_openat { printf("%s %d %s\\n", comm, pid,'
    " str(args->filename)); }",
    "exec": 'tracepoint:syscalls:sys_enter_execve { printf("%s %d ", comm, pid);'
    " join(args->argv); }",
}
"""bpftrace scripts."""


@dataclass(frozen=True)
class Plan:
    """How long and how often."""

    runs: int = 5
    load_seconds: float = 10.0
    overload_seconds: float = 20.0
    idle_seconds: float = 20.0


QUICK: Final = Plan(runs=1, load_seconds=2.0, overload_seconds=3.0, idle_seconds=2.0)


@dataclass(frozen=True)
class Bench:
    """What a bench is given."""

    load: Load
    libbpf: Libbpf
    folder: Path
    """Its own, removed afterwards."""
    plan: Plan
    say: Callable[[str], None]
    """Shows progress."""

    def rounds(self, what: str) -> Iterator[int]:
        """One number for each run."""
        for number in range(1, self.plan.runs + 1):
            self.say(f"{what}: run {number} of {self.plan.runs}")
            yield number


@dataclass(frozen=True)
class Cost:
    """What a load cost the process that watched it."""

    done: Done
    cpu_seconds: float
    runs: dict[str, Runs]
    lines: int
    """Lines that it wrote meanwhile."""

    def ebpf_ns(self) -> int:
        """Run time of all programs."""
        return sum(runs.nanoseconds for runs in self.runs.values())


def cost_of(watched: Watched, load: Generator, seconds: float) -> Cost:
    """Run a load for so long and say what it cost `watched`, which has warmed up before."""
    finish(load(WARM_UP_SECONDS))
    nap(DRAIN_SECONDS)
    lines, cpu, runs = count_lines(watched.output), watched.cpu_seconds(), watched.runs()
    done = finish(load(seconds))
    nap(DRAIN_SECONDS)
    after = watched.runs()
    return Cost(
        done,
        watched.cpu_seconds() - cpu,
        {name: after[name] - runs[name] for name in after},
        count_lines(watched.output) - lines,
    )


def finish(load: AbstractContextManager[Running]) -> Done:
    """Run a load to its end."""
    with load as running:
        return running.wait()


def count_lines(path: Path) -> int:
    """Newlines in a file."""
    with path.open("rb") as file:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(MEBIBYTE), b""))


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder under /tmp that is removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="nodeagent-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def open_cost(bench: Bench) -> list[Figure]:
    """CPU of the agent and run time of its programs for each open, at a steady rate."""
    seconds = bench.plan.load_seconds
    micros, ebpf, programs = [], [], []
    gone = 0
    for _ in bench.rounds("open"):
        with Agent(bench.folder) as agent, Statistics(bench.libbpf):
            agent.wait_until_ready()
            cost = cost_of(agent, partial(bench.load.opens, rate=OPENS_PER_SECOND), seconds)
            report = agent.finish()
        gone += lost(report) + dropped(report)
        if not gone and cost.lines < cost.done.operations:
            raise RuntimeError(f"{cost.done.operations} opens, but {cost.lines} lines in the file")
        micros.append(cost.cpu_seconds / cost.lines * 1e6)
        ebpf.append(per_run_us(of_kind(cost.runs, "open")))
        programs.append(by_program(cost.runs))
    return [
        Figure("open: agent CPU per event", "µs", micros, bar=8.0),
        Figure("open: eBPF time per event", "µs", ebpf, bar=1.2, facts={"programs": programs}),
        Figure("open: events lost", "", [gone], bar=0),
    ]


def exec_cost(bench: Bench) -> list[Figure]:
    """The same for fork+exec+exit."""
    seconds = bench.plan.load_seconds
    micros, ebpf, programs = [], [], []
    gone = 0
    for _ in bench.rounds("fork+exec+exit"):
        with Agent(bench.folder) as agent, Statistics(bench.libbpf):
            agent.wait_until_ready()
            cost = cost_of(agent, partial(bench.load.execs, rate=EXECS_PER_SECOND), seconds)
            report = agent.finish()
        gone += lost(report) + dropped(report)
        micros.append(cost.cpu_seconds / cost.done.operations * 1e6)
        ebpf.append(cost.ebpf_ns() / cost.done.operations / 1e3)
        programs.append(by_program(cost.runs))
    return [
        Figure("fork+exec+exit: agent CPU", "µs", micros, bar=97.0, aim=50.0),
        Figure("fork+exec+exit: eBPF time", "µs", ebpf, bar=36.0, facts={"programs": programs}),
        Figure("fork+exec+exit: events lost", "", [gone], bar=0),
    ]


def slowdown(bench: Bench) -> list[Figure]:
    """A flat-out open+close loop with and without the agent, in turn."""
    seconds = bench.plan.load_seconds / 3
    ratios, alone, watched = [], [], []
    for _ in bench.rounds("flat out, in turn"):
        without = finish(bench.load.opens(seconds))
        with Agent(bench.folder, *ROTATED) as agent:
            agent.wait_until_ready()
            under = finish(bench.load.opens(seconds))
            agent.finish()
        alone.append(1e9 / without.rate)
        watched.append(1e9 / under.rate)
        ratios.append(without.rate / under.rate)
    return [
        Figure("flat-out open+close: slowdown", "times", ratios, bar=1.47, aim=1.3),
        Figure("flat-out open+close: alone", "ns", alone),
        Figure("flat-out open+close: watched", "ns", watched),
    ]


def overload(bench: Bench) -> list[Figure]:
    """Two generators flat out, so that no core is left for the agent."""
    seconds = bench.plan.overload_seconds
    bench.say(f"overload: two generators for {seconds:g} s")
    memory: list[float] = []
    with Agent(bench.folder, *ROTATED) as agent:
        agent.wait_until_ready()
        with bench.load.opens(seconds) as first, bench.load.opens(seconds) as second:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                nap(SAMPLE_SECONDS)
                if not agent.is_alive:
                    raise RuntimeError(f"the agent died:\n{agent.complaints()}")
                memory.append(agent.rss_bytes() / MEBIBYTE)
            done = [first.wait(), second.wait()]
        report = agent.finish()
    row = report["kinds"]["open"]
    operations = sum(each.operations for each in done)
    if row["seen"] < operations:
        raise RuntimeError(f"{operations} opens, but only {row['seen']} seen")
    rate = operations / max(each.seconds for each in done)
    share = lost(report, ["open"]) / row["seen"] * 100
    facts = {"ledger": report["kinds"], "sinks": report["sinks"]}
    return [
        Figure("overload: opens a second", "", [rate]),
        Figure("overload: lost, all counted", "%", [share], facts=facts),
        Figure("overload: dropped by the sink", "", [dropped(report)]),
        Figure("overload: RSS", "MiB", memory),
        Figure("overload: largest RSS", "MiB", [max(memory)], bar=128.0),
    ]


def readiness(bench: Bench) -> list[Figure]:
    """From the start of the process to the first event that can be seen."""
    return [
        Figure(
            "ready: first event seen after",
            "s",
            [seconds_to_first_event(bench.folder) for _ in bench.rounds("ready")],
            bar=2.0,
        )
    ]


def seconds_to_first_event(folder: Path) -> float:
    """Opens a new name every 10 ms; the first that is in the output tells."""
    opened: dict[str, float] = {}
    with Agent(folder) as agent:
        deadline = agent.started + MARKERS_SECONDS
        while time.monotonic() < deadline:
            name = str(folder / f"marker-{len(opened)}")
            opened[name] = time.monotonic() - agent.started
            try:
                os.close(os.open(name, os.O_RDONLY))
            except FileNotFoundError:
                nap(MARKER_SECONDS)
        agent.finish()
        for line in agent.output.open("rb"):
            if b"/marker-" in line:
                event = json.loads(line)
                if (name := event.get("argument", "")) in opened:
                    return opened[name]
    raise RuntimeError(f"none of {len(opened)} opens was seen")


def idle(bench: Bench) -> list[Figure]:
    """Memory and CPU when nothing is asked of it but what the machine does anyway."""
    pieces = max(1, bench.plan.runs)
    cpu, memory = [], []
    with Agent(bench.folder) as agent:
        agent.wait_until_ready()
        nap(WARM_UP_SECONDS)
        before = count_lines(agent.output)
        for number in range(1, pieces + 1):
            bench.say(f"idle: part {number} of {pieces}")
            start, used = time.monotonic(), agent.cpu_seconds()
            nap(bench.plan.idle_seconds / pieces)
            cpu.append((agent.cpu_seconds() - used) / (time.monotonic() - start) * 100)
            memory.append(agent.rss_bytes() / MEBIBYTE)
        events = count_lines(agent.output) - before
        agent.finish()
    return [
        Figure("idle: RSS", "MiB", memory, bar=64.0),
        Figure("idle: CPU", "% of a core", cpu, bar=0.5, facts={"events": events}),
        Figure("idle: events of the machine", "a second", [events / bench.plan.idle_seconds]),
    ]


def bpftrace(bench: Bench) -> list[Figure]:
    """The same two loads, watched by bpftrace."""
    if shutil.which("bpftrace") is None:
        bench.say("bpftrace: skipped, since it is not installed (apt-get install bpftrace)")
        return []
    seconds = bench.plan.load_seconds
    loads: Mapping[str, Generator] = {
        "open": partial(bench.load.opens, rate=OPENS_PER_SECOND),
        "exec": partial(bench.load.execs, rate=EXECS_PER_SECOND),
    }
    figures = []
    for kind, load in loads.items():
        costs = []
        for _ in bench.rounds(f"bpftrace, {kind}"):
            with Bpftrace(bench.folder, PEERS[kind]) as peer, Statistics(bench.libbpf):
                peer.wait_until("Attaching")
                costs.append(cost_of(peer, load, seconds))
        cpu = [cost.cpu_seconds / cost.done.operations * 1e6 for cost in costs]
        ebpf = [cost.ebpf_ns() / cost.done.operations / 1e3 for cost in costs]
        figures += [
            Figure(f"bpftrace: CPU per {kind}", "µs", cpu),
            Figure(f"bpftrace: eBPF time per {kind}", "µs", ebpf),
        ]
    return figures


def of_kind(runs: Mapping[str, Runs], kind: str) -> Runs:
    """The runs of all programs that serve a kind."""
    names = {program[:PROGRAM_NAME_BYTES] for program, served in SERVES.items() if served == kind}
    own = (each for name, each in runs.items() if name[:PROGRAM_NAME_BYTES] in names)
    return sum(own, start=Runs())


def per_run_us(runs: Runs) -> float:
    """Microseconds of one run."""
    return runs.nanoseconds / runs.count / 1e3 if runs.count else 0.0


def by_program(runs: Mapping[str, Runs]) -> dict[str, dict[str, float]]:
    """Runs and their mean of each program that ran."""
    return {
        name: {"runs": each.count, "us_each": round(per_run_us(each), 3)}
        for name, each in runs.items()
        if each.count
    }


ROTATED: Final = ("--set", f"sinks.file.rotate_bytes={64 * MEBIBYTE}")
"""Flat out, a file would fill the disk: keep no more than this of it."""

BENCHES: Final[dict[str, Callable[[Bench], list[Figure]]]] = {
    "open": open_cost,
    "exec": exec_cost,
    "slowdown": slowdown,
    "overload": overload,
    "ready": readiness,
    "idle": idle,
    "bpftrace": bpftrace,
}
