# SPDX-License-Identifier: Apache-2.0
"""What is measured. Each bench gives figures, and raises RuntimeError when something is wrong.

Bars and aims are those of the first milestone; what peers cost on the same loads stands
beside them where it is known.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

from nodeagent.kernel.features import PROCESS_KINDS, SERVES
from nodeagent.kernel.libbpf import Libbpf
from nodeagent.kernel.tracepoint import Tracepoints, open_tracepoint
from tests.bench.figure import Figure
from tests.bench.installing import (
    missing,
    seconds_to_first_event_after_installation,
    system,
)
from tests.bench.latency import latencies, options
from tests.bench.lists import list_figures
from tests.bench.load import Done, Load, Running
from tests.bench.pods import cgroups, serving
from tests.bench.watch import (
    SOURCE,
    Agent,
    Bpftrace,
    Receiver,
    Runs,
    Statistics,
    Watched,
    busy_seconds,
    dropped,
    lost,
    nap,
)
from tests.delivery.kills import killed, lost_between, under_two_keys

OPENS_PER_SECOND: Final = 20_000
EXECS_PER_SECOND: Final = 300
DRAIN_SECONDS: Final = 0.25
LONGEST_DRAIN_SECONDS: Final = 5.0
WARM_UP_SECONDS: Final = 1.0
SAMPLE_SECONDS: Final = 0.25
MARKER_SECONDS: Final = 0.01
MARKERS_SECONDS: Final = 4.0
MEBIBYTE: Final = 1 << 20
SCRATCH: Final = Path(__file__).parents[2] / ".make"
FOREIGN_SHARE: Final = 0.1
"""Events that the load did not cause, of those that it did, in a quiet run."""
FOREIGN_CPU: Final = 0.2
"""Cores that others keep busy in a quiet run; the bench itself reads the output meanwhile."""
COMPILER_STEPS: Final = 20_000
QUIET_PER_SECOND: Final = 20
"""Events a second on a machine that is idle."""
PROGRAM_NAME_BYTES: Final = 15
TRACED_NS: Final = 10
"""What the slower way of system calls costs at the least."""
CONTAINERS: Final = 500
SLEEPERS: Final = 10_000
SLEEPERS_PER_SECOND: Final = 1000
TABLE_SECONDS: Final = 15.0
"""Until what has ended is forgotten."""
BUDGET_PERCENT: Final = 2.0
"""A tenth of what so many opens cost on a usual machine."""
SOAK_OPENS_PER_SECOND: Final = 4800
SOAK_EXECS_PER_SECOND: Final = 50
"""Four events each, so that all together are 5,000 a second."""
SOAK_PARTS: Final = 4
"""In the first of them memory may grow."""
SOAK_SAMPLES: Final = 240
GRACE_SECONDS: Final = 5.0
"""The start of an agent is not judged."""
SETTLED_SECONDS: Final = 3.0
"""From the onset of a load until the agent is within its budget."""
WINDOW_SECONDS: Final = 10.0
LONGEST_BACK_SECONDS: Final = 30.0

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
    soak_seconds: float = 1200.0
    kills: int = 100
    patience: int = 15
    """Runs at most, when others disturb them; then the least disturbed count."""


QUICK: Final = Plan(
    runs=1,
    load_seconds=2.0,
    overload_seconds=3.0,
    idle_seconds=2.0,
    soak_seconds=8.0,
    kills=5,
    patience=1,
)


@dataclass(frozen=True)
class Idle:
    """One look at an agent that has little to do."""

    cpu_percent: float
    rss_mebibytes: float
    events_per_second: float

    @property
    def is_quiet(self) -> bool:
        """Others did little meanwhile."""
        return self.events_per_second <= QUIET_PER_SECOND


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

    def rounds(self, what: str, good: Callable[[], int] | None = None) -> Iterator[int]:
        """One number for each run, until so many of them are `good`, or patience ends."""
        for number in range(self.plan.runs if good is None else self.plan.patience):
            done = number if good is None else good()
            if done >= self.plan.runs:
                return
            self.say(f"{what}: run {done + 1} of {self.plan.runs}")
            yield number


@dataclass(frozen=True)
class Cost:
    """What a load cost the process that watched it."""

    done: Done
    cpu_seconds: float
    runs: dict[str, Runs]
    lines: int
    """Lines that it wrote meanwhile."""
    lines_each: int
    """Lines that an operation causes."""
    others_cpu: float
    """Cores that neither it nor the load kept busy."""
    lost: int = 0
    """Events that did not fit into the rings."""
    dropped: int = 0
    """Events that the sink did not take."""
    stages: Mapping[str, float] = field(default_factory=dict)
    """CPU of each stage of the pipeline for an event of the whole run, in microseconds."""

    @property
    def gone(self) -> int:
        """Events that are not in the file."""
        return self.lost + self.dropped

    @property
    def foreign_share(self) -> float:
        """Lines that the load did not cause, of those that it did; negative: some are gone."""
        own = self.done.operations * self.lines_each
        return (self.lines - own) / own

    @property
    def is_quiet(self) -> bool:
        """Others did little meanwhile."""
        return self.foreign_share <= FOREIGN_SHARE and self.others_cpu <= FOREIGN_CPU

    @property
    def noise(self) -> float:
        """The less the better."""
        return self.foreign_share / FOREIGN_SHARE + self.others_cpu / FOREIGN_CPU

    def ebpf_ns(self) -> int:
        """Run time of all programs."""
        return sum(runs.nanoseconds for runs in self.runs.values())

    def facts(self) -> dict[str, object]:
        """All of it for the JSON."""
        programs = {
            name: {"runs": runs.count, "us_each": round(runs.each_us, 3)}
            for name, runs in self.runs.items()
            if runs.count
        }
        return {
            "operations": self.done.operations,
            "foreign_share": round(self.foreign_share, 3),
            "others_cpu": round(self.others_cpu, 3),
            "lost": self.lost,
            "dropped": self.dropped,
            "cpu_seconds": round(self.cpu_seconds, 3),
            "programs": programs,
        }


def cost_of(watched: Watched, load: Generator, seconds: float, lines_each: int = 1) -> Cost:
    """Run a load for so long and say what it cost `watched`, which has warmed up before.

    `lines_each` is how many lines an operation causes.
    """
    warmed = finish(load(WARM_UP_SECONDS))
    # This opens files, which the agent sees too.
    runs = watched.runs()
    settle(watched, warmed.operations * lines_each)
    start, busy = time.monotonic(), busy_seconds()
    lines, cpu = watched.lines(), watched.cpu_seconds()
    done = finish(load(seconds))
    settle(watched, lines + done.operations * lines_each)
    cpu = watched.cpu_seconds() - cpu
    others = busy_seconds() - busy - cpu - done.cpu_seconds
    lines = watched.lines() - lines
    after = watched.runs()
    return Cost(
        done,
        cpu,
        {name: after[name] - runs[name] for name in after},
        lines,
        lines_each,
        others / (time.monotonic() - start),
    )


def settle(watched: Watched, lines: int) -> None:
    """Wait until what is under way is in the file, which has so many lines then."""
    nap(DRAIN_SECONDS)
    deadline = time.monotonic() + LONGEST_DRAIN_SECONDS
    while watched.lines() < lines and time.monotonic() < deadline:
        nap(SAMPLE_SECONDS)


def finish(load: AbstractContextManager[Running]) -> Done:
    """Run a load to its end."""
    with load as running:
        return running.wait()


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder that is removed afterwards, not under /tmp: to run programs there is suspicious."""
    SCRATCH.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=SCRATCH))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def agent_costs(
    bench: Bench, what: str, load: Generator, lines_each: int, options: Sequence[str] = ()
) -> list[Cost]:
    """The cost of a load to the agent in each run.

    What others do on the machine is seen too, and costs too, so that the runs are taken
    in which it was least.
    """
    costs: list[Cost] = []
    for _ in bench.rounds(what, lambda: sum(cost.is_quiet for cost in costs)):
        with Agent(bench.folder, *options) as agent, Statistics(bench.libbpf):
            agent.wait_until_ready()
            cost = cost_of(agent, load, bench.plan.load_seconds, lines_each)
            report = agent.finish()
        cost = replace(cost, lost=lost(report), dropped=dropped(report), stages=stages_of(report))
        if not cost.gone and cost.foreign_share < 0:
            raise RuntimeError(f"{cost.done.operations} operations gave {cost.lines} lines only")
        costs.append(cost)
    costs.sort(key=lambda cost: cost.noise)
    return costs[: bench.plan.runs]


def stages_of(report: Mapping[str, Any]) -> dict[str, float]:
    """CPU of each stage for an event, in microseconds, from what the agent says at its end."""
    events = sum(row["decoded"] for row in report["kinds"].values())
    return {name: spent / events * 1e6 for name, spent in report["cpu_seconds"].items()}


def open_cost(bench: Bench) -> list[Figure]:
    """CPU of the agent and run time of its programs for each open, at a steady rate."""
    load = partial(bench.load.opens, rate=OPENS_PER_SECOND)
    costs = agent_costs(bench, "open", load, 1, EACH)
    cpu = [cost.cpu_seconds / cost.lines * 1e6 for cost in costs]
    ebpf = [of_kind(cost.runs, "open").each_us for cost in costs]
    enrichment = [cost.stages["process"] + cost.stages["file"] for cost in costs]
    detection = [cost.stages["detect"] for cost in costs]
    facts = {"runs": [cost.facts() for cost in costs]}
    return [
        Figure("open: agent CPU per event", "µs", cpu, bar=8.0, facts=facts),
        Figure("open: eBPF time per event", "µs", ebpf, bar=1.2),
        Figure("open: enrichment of an event", "µs", enrichment, bar=0.5),
        Figure("open: detection in an event", "µs", detection, bar=2.0),
        Figure("open: events lost", "", [sum(cost.gone for cost in costs)], bar=0),
    ]


def exec_cost(bench: Bench) -> list[Figure]:
    """The same for fork+exec+exit, which are three events."""
    load = partial(bench.load.execs, rate=EXECS_PER_SECOND)
    costs = agent_costs(bench, "fork+exec+exit", load, 3)
    cpu = [cost.cpu_seconds / cost.done.operations * 1e6 for cost in costs]
    ebpf = [
        sum(of_kind(cost.runs, kind).nanoseconds for kind in PROCESS_KINDS)
        / cost.done.operations
        / 1e3
        for cost in costs
    ]
    facts = {"runs": [cost.facts() for cost in costs]}
    return [
        Figure("fork+exec+exit: agent CPU", "µs", cpu, bar=97.0, aim=50.0, facts=facts),
        Figure("fork+exec+exit: eBPF time", "µs", ebpf, bar=36.0),
        Figure("fork+exec+exit: events lost", "", [sum(cost.gone for cost in costs)], bar=0),
    ]


def slowdown(bench: Bench) -> list[Figure]:
    """A flat-out open+close loop with and without the agent, in turn.

    It holds what the programs cost and what a busy agent takes from a loop that shares
    a core or its caches with it.
    """
    seconds = bench.plan.load_seconds / 3
    alone, watched = [], []
    for _ in bench.rounds("flat out, in turn"):
        alone.append(1e9 / finish(bench.load.opens(seconds)).rate)
        with Agent(bench.folder, *ROTATED, *EACH) as agent:
            agent.wait_until_ready()
            watched.append(1e9 / finish(bench.load.opens(seconds)).rate)
            agent.finish()
    ratios = [slow / fast for slow, fast in zip(watched, alone, strict=True)]
    return [
        Figure("flat-out open+close: slowdown", "times", ratios, bar=1.47, aim=1.3),
        Figure("flat-out open+close: alone", "ns", alone),
        Figure("flat-out open+close: watched", "ns", watched),
    ]


def unrelated(bench: Bench) -> list[Figure]:
    """What a system call costs more, which no program looks at, with and without the agent in turn.

    A tracepoint of any system call makes the kernel take its slower way for all of them. What
    that costs is seen without the agent, with tracepoints of a call that nobody makes.
    """
    seconds = bench.plan.load_seconds / 6
    alone, slower, more = [], [], []
    for _ in bench.rounds("unrelated calls, in turn"):
        alone.append(1e9 / finish(bench.load.calls(seconds)).rate)
        with another_call_traced(bench.libbpf):
            slower.append(1e9 / finish(bench.load.calls(seconds)).rate - alone[-1])
        with Agent(bench.folder, *ROTATED) as agent:
            agent.wait_until_ready()
            nap(WARM_UP_SECONDS)
            more.append(1e9 / finish(bench.load.calls(seconds)).rate - alone[-1])
            agent.finish()
    if statistics.median(slower) < TRACED_NS:
        raise RuntimeError("another program traces system calls, so the price is paid already")
    return [
        Figure("unrelated call: alone", "ns", alone),
        Figure("unrelated call: more with tracepoints alone", "ns", slower),
        Figure("unrelated call: more with the agent", "ns", more, bar=40.0),
    ]


@contextmanager
def another_call_traced(libbpf: Libbpf) -> Iterator[None]:
    """Tracepoints at the entry and the exit of a call that nobody makes, without a program."""
    with ExitStack() as stack:
        tracepoints = stack.enter_context(Tracepoints(libbpf))
        for side in ("enter", "exit"):
            number = tracepoints.id(f"syscalls/sys_{side}_swapon")
            stack.callback(os.close, open_tracepoint(libbpf, number))
        yield


def overload(bench: Bench) -> list[Figure]:
    """Two generators flat out, so that no core is left for the agent."""
    seconds = bench.plan.overload_seconds
    bench.say(f"overload: two generators for {seconds:g} s")
    memory: list[float] = []
    with Agent(bench.folder, *ROTATED, *EACH) as agent:
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
    """From the start of the process to the first event that can be seen.

    Also of what `make dist` has built, where it has.
    """
    figures = []
    for what, (program, bar) in {"": (SOURCE, 2.0), **built()}.items():
        seconds = [seconds_to_first_event(bench.folder, program) for _ in bench.rounds("ready")]
        figures.append(Figure(f"ready: first event seen after{what}", "s", seconds, bar=bar))
    return figures


def built() -> dict[str, tuple[Sequence[str], float]]:
    """The program in its folder and in one file, with the seconds that it may take."""
    found: dict[str, tuple[Sequence[str], float]] = {}
    for what, pattern in {", folder": "nodeagent/nodeagent", ", one file": "*-linux-*[!z]"}.items():
        for path in DIST.glob(pattern):
            found[what] = ([str(path)], 1.5)
    return found


def install(bench: Bench) -> list[Figure]:
    """From the installation of the package until the machine is watched."""
    if made := missing():
        raise RuntimeError(f"there is nothing to install: run `{made}` first")
    with system(bench.folder) as root:
        seconds = [seconds_to_first_event_after_installation(root) for _ in bench.rounds("install")]
    return [Figure("install: dpkg -i to the first event", "s", seconds, bar=5.0)]


def latency(bench: Bench) -> list[Figure]:
    """From a system call to its finding in the sink, while the agent has a lot to do."""
    usual, worst, facts = [], [], []
    for _ in bench.rounds("latency"):
        with Agent(bench.folder, *options(bench.folder), *EACH) as agent:
            agent.wait_until_ready()
            with bench.load.opens(bench.plan.load_seconds, rate=OPENS_PER_SECOND) as running:
                found = latencies(agent, bench.plan.load_seconds)
                running.wait()
            agent.finish()
        cuts = statistics.quantiles(found, n=100, method="inclusive")
        usual.append(cuts[49])
        worst.append(cuts[98])
        facts.append({"findings": len(found), "largest": round(max(found), 1)})
    return [
        Figure("latency: system call to finding, p50", "ms", usual),
        Figure("latency: the same, p99", "ms", worst, bar=250.0, facts={"runs": facts}),
    ]


def seconds_to_first_event(folder: Path, program: Sequence[str]) -> float:
    """Opens a new name every 10 ms; the first that is in the output tells."""
    opened: dict[str, float] = {}
    with Agent(folder, *EACH, program=program) as agent:
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
    """Memory and CPU while nobody does much; what the machine did anyway is said."""
    seconds = bench.plan.idle_seconds / bench.plan.runs
    parts: list[Idle] = []
    with Agent(bench.folder) as agent:
        agent.wait_until_ready()
        nap(WARM_UP_SECONDS)
        for _ in bench.rounds("idle", lambda: sum(part.is_quiet for part in parts)):
            parts.append(watch_idle(agent, seconds))  # noqa: PERF401 - read as it grows
        agent.finish()
    parts.sort(key=lambda part: part.events_per_second)
    taken = parts[: bench.plan.runs]
    return [
        Figure("idle: RSS", "MiB", [part.rss_mebibytes for part in taken], bar=64.0),
        Figure("idle: CPU", "% of a core", [part.cpu_percent for part in taken], bar=0.5),
        Figure("idle: events meanwhile", "a second", [part.events_per_second for part in taken]),
    ]


def watch_idle(agent: Agent, seconds: float) -> Idle:
    """Look at it for so long."""
    lines, start, used = agent.lines(), time.monotonic(), agent.cpu_seconds()
    nap(seconds)
    elapsed = time.monotonic() - start
    return Idle(
        (agent.cpu_seconds() - used) / elapsed * 100,
        agent.rss_bytes() / MEBIBYTE,
        (agent.lines() - lines) / elapsed,
    )


def tables(bench: Bench) -> list[Figure]:
    """Memory for many containers and processes that live at once.

    Before that the rings were full once, and one container was asked about.
    """
    socket = bench.folder / "cri.sock"
    options = ("--set", f'containers.cri_sockets=["{socket}"]', *EACH)
    with (
        serving(socket),
        cgroups(CONTAINERS) as folder,
        Agent(bench.folder, *options) as agent,
    ):
        agent.wait_until_ready()
        bench.say("tables: warming up")
        with bench.load.sleepers(1, 1, folder):
            finish(bench.load.opens(TABLE_SECONDS / 3, rate=OPENS_PER_SECOND))
        nap(TABLE_SECONDS)
        before = agent.rss_bytes()
        bench.say(f"tables: {CONTAINERS} containers")
        with bench.load.sleepers(CONTAINERS, SLEEPERS_PER_SECOND / 4, folder):
            nap(TABLE_SECONDS)
            with_containers = agent.rss_bytes()
            bench.say(f"tables: {SLEEPERS} processes")
            with bench.load.sleepers(SLEEPERS, SLEEPERS_PER_SECOND):
                nap(TABLE_SECONDS)
                with_all = agent.rss_bytes()
        report = agent.finish()
    unnamed = unnamed_events(agent.output)
    process = (with_all - with_containers) / SLEEPERS
    container = (with_containers - before) / CONTAINERS - process
    return [
        Figure("tables: RSS per live process", "KiB", [process / 1024], bar=1.0),
        Figure("tables: RSS per container", "KiB", [container / 1024], bar=4.0),
        Figure("tables: RSS with all of them", "MiB", [with_all / MEBIBYTE], bar=96.0),
        Figure("tables: events without a name", "", [unnamed], bar=0),
        Figure("tables: events lost", "", [lost(report) + dropped(report)], bar=0),
    ]


def unnamed_events(output: Path) -> int:
    """Execs in a container that do not say which pod it was."""
    unnamed = named = 0
    with output.open("rb") as lines:
        for line in lines:
            if line.startswith(b'{"kind":"exec"') and b'"container":{' in line:
                if b'"pod":{"name":"pod-' in line:
                    named += 1
                else:
                    unnamed += 1
    if named + unnamed < CONTAINERS:
        raise RuntimeError(f"{named + unnamed} programs in {CONTAINERS} containers were seen")
    return unnamed


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


def counted(bench: Bench) -> list[Figure]:
    """Opens that repeat, with the default policy: the kernel counts them.

    The price of one at a steady rate, all told; and how much longer two compilers take,
    which compute for some microseconds after each open.
    """
    seconds = bench.plan.load_seconds / 3
    price, ebpf, alone, watched = [], [], [], []
    for _ in bench.rounds("counted, in turn"):
        with Agent(bench.folder) as agent, Statistics(bench.libbpf):
            agent.wait_until_ready()
            cost = cost_of(agent, partial(bench.load.opens, rate=OPENS_PER_SECOND), seconds, 0)
            agent.finish()
        runs = of_kind(cost.runs, "open")
        spent_ns = cost.cpu_seconds * 1e9 + runs.nanoseconds
        ebpf.append(runs.each_us)
        price.append(spent_ns / cost.done.operations / 1e3)
        alone.append(compile_ns(bench, seconds))
        with Agent(bench.folder) as agent:
            agent.wait_until_ready()
            watched.append(compile_ns(bench, seconds))
            agent.finish()
    ratios = [(slow / fast - 1) * 100 for slow, fast in zip(watched, alone, strict=True)]
    return [
        Figure("counted open: agent CPU and eBPF together", "µs", price, bar=0.6),
        Figure("counted open: eBPF time", "µs", ebpf),
        Figure("two compilers: slowdown", "%", ratios, bar=3.0),
    ]


def https(bench: Bench) -> list[Figure]:
    """The same opens to a server with TLS, through the spool and packed by zstd."""
    load = partial(bench.load.opens, rate=OPENS_PER_SECOND)
    cpu, gone, ratio, facts = [], [], [], []
    for _ in bench.rounds("https"):
        spool = bench.folder / "spool"
        shutil.rmtree(spool, ignore_errors=True)
        with Receiver(bench.folder) as receiver:
            settings = {
                "url": f"https://localhost:{receiver.port}/",
                "ca_file": receiver.ca_file,
                "compression": "zstd",
                "queue_events": 100_000,
            }
            options = (*EACH, "--set", f"spool.folder={spool}")
            with Agent(bench.folder, *options, sink="https", settings=settings) as agent:
                agent.wait_until_ready()
                cost = cost_of(agent, load, bench.plan.load_seconds, 1)
                report = agent.finish()
        cpu.append(cost.cpu_seconds / cost.lines * 1e6)
        gone.append(lost(report) + dropped(report))
        ratio.append(receiver.seen["lines"] / receiver.seen["packed"])
        facts.append({**cost.facts(), **receiver.seen})
    return [
        Figure("https: agent CPU per event", "µs", cpu, bar=12.0, facts={"runs": facts}),
        Figure("https: events lost", "", [sum(gone)], bar=0),
        Figure("https: bytes of lines in a byte that was sent", "", ratio),
    ]


def soak(bench: Bench) -> list[Figure]:
    """Memory of an agent that has a lot to do, for long."""
    seconds = bench.plan.soak_seconds
    resident: list[int] = []
    with Receiver(bench.folder) as receiver:
        settings = {
            "url": f"https://localhost:{receiver.port}/",
            "ca_file": receiver.ca_file,
            "compression": "zstd",
        }
        options = (*EACH, "--set", f"spool.folder={bench.folder / 'spool'}")
        with Agent(bench.folder, *options, sink="https", settings=settings) as agent:
            agent.wait_until_ready()
            with (
                bench.load.opens(seconds, rate=SOAK_OPENS_PER_SECOND) as opens,
                bench.load.execs(seconds, rate=SOAK_EXECS_PER_SECOND) as execs,
            ):
                end = time.monotonic() + seconds
                while (left := end - time.monotonic()) > 0:
                    bench.say(f"soak: {left:.0f} s left")
                    nap(min(left, seconds / SOAK_SAMPLES))
                    resident.append(agent.rss_bytes())
                opens.wait()
                execs.wait()
            report = agent.finish()
    part = len(resident) // SOAK_PARTS
    growth = statistics.median(resident[-part:]) - statistics.median(resident[part : 2 * part])
    facts = {"rss_mebibytes": [round(each / MEBIBYTE, 1) for each in resident]}
    return [
        Figure("soak: highest RSS", "MiB", [max(resident) / MEBIBYTE], bar=128.0, facts=facts),
        Figure("soak: growth of RSS since a quarter", "MiB", [growth / MEBIBYTE], bar=1.0),
        Figure("soak: events lost", "", [lost(report) + dropped(report)], bar=0),
    ]


def kills(bench: Bench) -> list[Figure]:
    """SIGKILL at random moments under load, between an outlet with a spool and its server."""
    keys = asyncio.run(killed(bench.folder, bench.plan.kills, bench.say))
    return [
        Figure("kills: events that came", "", [sum(map(len, keys.values()))]),
        Figure("kills: events lost before later ones", "", [lost_between(keys)], bar=0),
        Figure("kills: events under two keys", "", [under_two_keys(keys)], bar=0),
    ]


def budget(bench: Bench) -> list[Figure]:
    """Ten times what the agent may spend: how it stays within that, and for how long it sheds."""
    allowed = BUDGET_PERCENT / 100
    options = (*EACH, "--set", f"budget.cpu_percent={BUDGET_PERCENT}")
    seconds = max(bench.plan.load_seconds * 2, SETTLED_SECONDS + WINDOW_SECONDS + 1)
    most, back, precious = [], [], []
    for _ in bench.rounds("budget"):
        with Agent(bench.folder, *options) as agent:
            agent.wait_until_ready()
            nap(GRACE_SECONDS)
            started, use = time.monotonic(), []
            with bench.load.opens(seconds, rate=OPENS_PER_SECOND) as running:
                while time.monotonic() < started + seconds:
                    use.append((time.monotonic() - started, agent.cpu_seconds()))
                    nap(SAMPLE_SECONDS)
                running.wait()
            ended = time.time()
            nap(LONGEST_BACK_SECONDS)
            report = agent.finish()
        levels = [json.loads(line) for line in agent.output.open() if '"agent.level"' in line]
        if not levels or levels[-1]["level"]:
            raise RuntimeError(f"levels were {[each['level'] for each in levels]}")
        most.append(highest(use, SETTLED_SECONDS, WINDOW_SECONDS) / allowed)
        back.append(datetime.fromisoformat(levels[-1]["time"][:26] + "+00:00").timestamp() - ended)
        precious.append(
            sum(report["kinds"][kind]["throttled"] for kind in PROCESS_KINDS)
            + sum(sum(report["kinds"][kind]["lost"].values()) for kind in PROCESS_KINDS)
        )
    return [
        Figure("ten times the budget: CPU in 10 s, of the budget", "times", most, bar=1.2),
        Figure("ten times the budget: until all is shown again", "s", back, bar=30.0),
        Figure("ten times the budget: precious events shed or lost", "", [sum(precious)], bar=0),
    ]


def highest(use: Sequence[tuple[float, float]], start: float, window: float) -> float:
    """Cores in the busiest window that begins after `start`; `use` is CPU seconds by moment."""
    return max(
        (later_cpu - cpu) / (later - moment)
        for moment, cpu in use
        for later, later_cpu in use
        if moment >= start and window <= later - moment < window + 2 * SAMPLE_SECONDS
    )


def compile_ns(bench: Bench, seconds: float) -> float:
    """Time for one open and what is computed after it, by two processes at once."""
    load = partial(bench.load.opens, seconds, steps=COMPILER_STEPS)
    with load() as first, load() as second:
        return 2e9 / (first.wait().rate + second.wait().rate)


DIST: Final = Path(__file__).parents[2] / "dist"
EACH: Final = ("--set", "filter.repeated_opens=report", "--set", "filter.failed_opens=all")
"""Report every open, as the peers do."""

ROTATED: Final = ("--set", f"sinks.file.rotate_bytes={64 * MEBIBYTE}")
"""Flat out, a file would fill the disk: keep no more than this of it."""


def lists(bench: Bench) -> list[Figure]:
    """Threat lists of a million entries."""
    return list(list_figures(bench.folder, bench.plan.runs, bench.say))


BENCHES: Final[dict[str, Callable[[Bench], list[Figure]]]] = {
    "open": open_cost,
    "counted": counted,
    "exec": exec_cost,
    "slowdown": slowdown,
    "unrelated": unrelated,
    "https": https,
    "budget": budget,
    "overload": overload,
    "ready": readiness,
    "install": install,
    "latency": latency,
    "idle": idle,
    "tables": tables,
    "lists": lists,
    "bpftrace": bpftrace,
    "kills": kills,
    "soak": soak,
}
ON_REQUEST: Final = frozenset({"install", "kills", "soak"})
"""Too long to be part of all."""
