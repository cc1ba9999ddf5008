# SPDX-License-Identifier: Apache-2.0
"""The composition root: a Config in, a running pipeline out. Only this file knows everyone."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import os
import platform
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from nodeagent import __version__
from nodeagent.config import Config
from nodeagent.control import Control
from nodeagent.detect.detectors import own_detectors
from nodeagent.detect.engine import Engine
from nodeagent.detect.lists import ThreatLists, builtin_lists, read_list
from nodeagent.detect.suppress import Suppressions, read_suppressions
from nodeagent.enrich import Enricher
from nodeagent.enrich.file import FileTable
from nodeagent.enrich.process import ProcessTable
from nodeagent.errors import ConfigError
from nodeagent.event import AgentEvent
from nodeagent.follow.followers import Follow, Followers
from nodeagent.follow.node import id_of_boot, name_of_node
from nodeagent.kernel.btf import Btf
from nodeagent.kernel.cgroup import controller_of
from nodeagent.kernel.features import TABLE_KINDS, family_of
from nodeagent.kernel.libbpf import Libbpf
from nodeagent.kernel.object import BpfObject, find_object
from nodeagent.kernel.policy import Rules
from nodeagent.kernel.privileges import Privileges
from nodeagent.kernel.wire import Decoder, task_reader
from nodeagent.ledger import Ledger
from nodeagent.outlet import Outlet, Router
from nodeagent.pipeline import Pipeline
from nodeagent.redact import Redactor
from nodeagent.sink import Sink
from nodeagent.source.cgroups import ExcludedCgroups
from nodeagent.source.live import Clock, Kernel, LiveSource, load_kernel
from nodeagent.source.recording import Facts, Recorder, Recording
from nodeagent.source.replay import ReplaySource
from nodeagent.spool import Spool
from nodeagent.throttle import Throttle
from nodeagent.usage import usage_of
from sinks import SINKS

if TYPE_CHECKING:
    from nodeagent.metrics import MetricsServer

__all__ = ["Outcome", "replay", "run", "sink_types"]

log: Final = logging.getLogger(__name__)

SINK_GROUP: Final = "nodeagent.sinks"
ENRICHER_GROUP: Final = "nodeagent.enrichers"


class Outcome(msgspec.Struct):
    """How a run ended."""

    exit_code: int
    ledger: Ledger
    seconds: float
    problem: str | None = None
    """What went wrong on the way, as a sentence."""


class _Stop:
    """Why and when the run ends; the first reason counts."""

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop
        self.reason: str | None = None
        self.exit_code = 0

    def __call__(self, reason: str, exit_code: int = 0) -> None:
        if self.reason is None:
            self.reason = reason
            self.exit_code = exit_code
            self._stop()


def sink_types() -> Mapping[str, type[Sink]]:
    """Every sink there is: our own, and those that installed packages register."""
    others: dict[str, type[Sink]] = {}
    for entry in entry_points(group=SINK_GROUP):
        if entry.name in SINKS or entry.name in others:
            raise ConfigError(f"two packages bring a sink named {entry.name}: remove one of them")
        others[entry.name] = entry.load()
    return SINKS.beside(others)


def _enrichers(config: Config) -> list[Enricher]:
    """Those that were asked for; raises ConfigError when no package brings one of them."""
    brought = {entry.name: entry for entry in entry_points(group=ENRICHER_GROUP)}
    if missing := [name for name in config.enrichers if name not in brought]:
        there = ", ".join(sorted(brought)) or "none"
        raise ConfigError(
            f"enrichers: no installed package brings {', '.join(missing)}; there is: {there}"
        )
    return [brought[name].load()() for name in config.enrichers]


async def run(
    config: Config, *, duration_seconds: float | None = None, record: Path | None = None
) -> Outcome:
    """Stream this machine's events until a signal, the duration or the last sink ends it.

    Raises StartError before the first event.
    """
    ledger = Ledger()
    started = time.monotonic()
    Privileges.of_this_process().demand()
    libbpf = Libbpf()
    clock = Clock()
    controller = controller_of(config.kernel.cgroups)
    with ExitStack() as stack:
        path = Path(config.kernel.object) if config.kernel.object else find_object()
        opened = stack.enter_context(BpfObject(libbpf, path))
        kernel = stack.enter_context(
            load_kernel(
                opened,
                libbpf,
                _rules(config),
                high_ring_bytes=config.kernel.high_ring_bytes,
                bulk_ring_bytes=config.kernel.bulk_ring_bytes,
                argv_bytes=config.kernel.argv_bytes,
                controller=controller,
                family=config.kernel.hooks,
            )
        )
        source = LiveSource(kernel, clock, ledger, config.filter.summary_seconds)
        stop = _Stop(source.stop)
        node_name = name_of_node(config.node)
        boot_id = id_of_boot()
        recorder = None
        if record is not None:
            facts = Facts(
                __version__,
                platform.machine(),
                platform.release(),
                clock.boot_ns,
                config.kinds,
                config.containers.wait_events,
                node_name,
                boot_id,
                config.files.hash,
            )
            recorder = Recorder(record, facts, opened.btf_bytes())
            stack.callback(recorder.close)
        waiting_events = config.containers.wait_events
        processes = ProcessTable(
            task_reader(kernel.btf),
            clock.boot_ns,
            waiting_events=waiting_events,
            node_name=node_name,
            boot_id=boot_id,
        )
        files = FileTable(processes.brief_of, hashes=config.files.hash)
        beside: dict[str, Follow] = {}
        cgroups = None
        if excluded := config.filter.exclude_cgroups:
            cgroups = stack.enter_context(
                ExcludedCgroups(libbpf, kernel.policy, excluded, controller)
            )
            beside["cgroups"] = cgroups.follow
        async with _outlets(config, ledger, stop, spools=True) as router:
            pipeline = Pipeline(
                kernel.decoder,
                processes,
                router,
                ledger,
                config.kinds,
                files=files,
                excluded_uids=config.filter.exclude_uids,
                excluded_cgroups=cgroups.ids if cgroups else None,
                enrichers=_enrichers(config),
                engine=_engine(config, ledger, clock.boot_ns, node_name),
                suppressions=_suppressions(config, ledger),
                redactor=_redactor(config),
                findings_only=config.detect.only,
                recorder=recorder,
            )
            followers = Followers(libbpf, config, pipeline, controller)
            stack.callback(followers.close)
            beside |= followers.tasks()
            beside |= _reporters(config, source, pipeline, ledger, kernel)
            source.attach()
            if config.metrics.listen:
                stack.callback(_metrics(config, source, pipeline, ledger, kernel).close)
            pipeline.feed(_said("start", _start_facts(config)))
            pipeline.feed(_said("coverage", _coverage(config.kinds, kernel)))
            followers.start()
            log.info("ready seconds=%.2f", time.monotonic() - started)
            # What is loaded by now stays: the collector need not look at it again and again.
            gc.freeze()
            _trim()
            with _signals(stop), _timer(stop, duration_seconds):
                await _stream(source, pipeline, followers, router, beside)
            pipeline.finish()
            reason = stop.reason or "end of the stream"
            pipeline.feed(_said("stop", {"reason": reason, **ledger.report()}))
    problem = recorder.failure if recorder is not None else None
    return _outcome(stop, ledger, started, problem)


def _trim() -> None:
    """Give memory back to the system that was needed for loading alone."""
    # In glibc; see malloc_trim(3).
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _rules(config: Config) -> Rules:
    chosen = config.filter
    return Rules(
        # Without these nobody would know who did the rest, and where.
        kinds=TABLE_KINDS | set(config.kinds),
        count_repeats=chosen.repeated_opens == "count",
        failed_opens=chosen.failed_opens,
        excluded_uids=chosen.exclude_uids,
        excluded_paths=chosen.exclude_paths,
        watched_paths=chosen.watch_paths,
        dns_ports=config.kernel.dns_ports,
    )


def _engine(config: Config, ledger: Ledger, boot_ns: int, node_name: str) -> Engine | None:
    """Raises ConfigError for a threat list that cannot be used."""
    chosen = config.detect
    if not chosen.findings:
        return None
    lists = builtin_lists() if chosen.builtin_lists else []
    lists += [
        read_list(Path(path), category)
        for category, paths in chosen.lists.items()
        for path in paths
    ]
    return Engine(
        own_detectors(ThreatLists(lists)),
        boot_ns=boot_ns,
        node=node_name,
        failures=ledger.failures,
        signals=chosen.signals,
        update_seconds=chosen.update_seconds,
    )


def _suppressions(config: Config, ledger: Ledger) -> Suppressions:
    """Raises ConfigError for a file that cannot be used."""
    rules = [each for path in config.detect.suppressions for each in read_suppressions(Path(path))]
    return Suppressions(rules, ledger.suppressed)


def _redactor(config: Config) -> Redactor | None:
    """Raises ConfigError for a pattern that cannot be used."""
    return Redactor(config.redact.patterns) if config.redact.argv else None


async def replay(config: Config, path: Path) -> Outcome:
    """Put a recording through the same pipeline; needs no root and no kernel.

    Raises StartError when the file cannot be replayed at all.
    """
    ledger = Ledger()
    started = time.monotonic()
    with ExitStack() as stack:
        recording = Recording(path)
        stack.callback(recording.close)
        btf = Btf(recording.btf)
        decoder = Decoder(btf)
        source = ReplaySource(recording, decoder, ledger)
        stop = _Stop(source.stop)
        facts = recording.facts
        processes = ProcessTable(
            task_reader(btf),
            facts.boot_ns,
            waiting_events=facts.waiting_events,
            node_name=facts.node_name,
            boot_id=facts.boot_id,
        )
        files = FileTable(processes.brief_of, hashes=facts.hashes)
        kinds = [kind for kind in config.kinds if kind in facts.kinds]
        # A recording can be replayed again, so nothing has to wait on the disk.
        async with _outlets(config, ledger, stop, spools=False) as router:
            pipeline = Pipeline(
                decoder,
                processes,
                router,
                ledger,
                kinds,
                files=files,
                enrichers=_enrichers(config),
                engine=_engine(config, ledger, facts.boot_ns, facts.node_name),
                suppressions=_suppressions(config, ledger),
                redactor=_redactor(config),
                findings_only=config.detect.only,
            )
            with _signals(stop):
                async for item in source.items():
                    pipeline.feed(item)
                    # A recording can wait, so nothing is dropped.
                    await router.settle()
            pipeline.finish()
    problem = str(source.damage) if source.damage else None
    return _outcome(stop, ledger, started, problem)


async def _stream(
    source: LiveSource,
    pipeline: Pipeline,
    followers: Followers,
    router: Router,
    beside: Mapping[str, Follow],
) -> None:
    """The whole stream, with some tasks beside it."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(follow(), name=name) for name, follow in beside.items()]
        async for item in source.items():
            pipeline.feed(item)
            followers.ask()
            source.list_again(pipeline.unknown_processes)
            await router.relax()
        for task in tasks:
            task.cancel()


def _tell_level(pipeline: Pipeline, facts: dict[str, object]) -> None:
    pipeline.feed(_said("level", facts))


async def _report(
    source: LiveSource, pipeline: Pipeline, ledger: Ledger, interval_seconds: float
) -> None:
    """The state of the ledger into the stream, again and again."""
    while interval_seconds:
        await asyncio.sleep(interval_seconds)
        source.count()
        pipeline.feed(_said("ledger", ledger.report()))


def _reporters(
    config: Config, source: LiveSource, pipeline: Pipeline, ledger: Ledger, kernel: Kernel
) -> dict[str, Follow]:
    """Tasks that tell how the agent is: into the stream, and to those who ask."""
    interval = config.ledger.interval_seconds
    tell = partial(_tell_level, pipeline)
    tasks: dict[str, Follow] = {
        "ledger": partial(_report, source, pipeline, ledger, interval),
        "throttle": Throttle(config, kernel.policy, source.count, ledger, tell).follow,
    }
    if config.control.socket:
        status = partial(_status, config, source, pipeline, ledger)
        tasks["control"] = Control(Path(config.control.socket), {"status": status}).serve
    return tasks


def _metrics(
    config: Config, source: LiveSource, pipeline: Pipeline, ledger: Ledger, kernel: Kernel
) -> MetricsServer:
    """Raises StartError."""
    # It takes some MiB, which not everybody needs.
    from nodeagent.metrics import MetricsServer  # noqa: PLC0415

    status = partial(_status, config, source, pipeline, ledger)
    families = {
        kind: family_of(hook for hook in kernel.hooks if hook.kind == kind) for kind in config.kinds
    }
    return MetricsServer(config.metrics.listen, status, families)


def _status(
    config: Config, source: LiveSource, pipeline: Pipeline, ledger: Ledger
) -> dict[str, object]:
    """What the agent says of itself when it is asked."""
    source.count()
    return {
        "version": __version__,
        "node": name_of_node(config.node),
        "pid": os.getpid(),
        "time": time.time(),
        "usage": msgspec.to_builtins(usage_of()),
        "programs": pipeline.known_programs,
        "ledger": ledger.report(),
    }


@asynccontextmanager
async def _outlets(
    config: Config, ledger: Ledger, stop: _Stop, *, spools: bool
) -> AsyncIterator[Router]:
    """All sinks open, each with its task; drained and closed at the end."""
    types = sink_types()
    living = set(config.sinks)

    def on_closed(name: str, why: str) -> None:
        log.info("sink_closed sink=%s why=%s", name, why)
        living.discard(name)
        if not living:
            stop("nobody reads any more")

    outlets = []
    for name, chosen in config.sinks.items():
        sink = types[chosen.type](chosen.config)
        spool = _spool(config, name, sink) if spools and chosen.config.spool else None
        counts, seconds = ledger.sink(name), config.spool.fsync_seconds
        outlets.append(
            Outlet(name, sink, chosen.config, counts, on_closed, spool=spool, fsync_seconds=seconds)
        )
    opened: list[Outlet] = []
    try:
        for outlet in outlets:
            await outlet.open()
            opened.append(outlet)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each.run(), name=f"outlet {each.name}") for each in outlets]
            try:
                yield Router(outlets)
                await asyncio.gather(*(each.drain(config.shutdown_seconds) for each in outlets))
            finally:
                for task in tasks:
                    task.cancel()
    finally:
        for outlet in opened:
            await outlet.close()


def _spool(config: Config, name: str, sink: Sink) -> Spool:
    """Raises ConfigError for a sink that cannot have one."""
    chosen = config.sinks[name]
    if sink.encoder is None:
        raise ConfigError(f"sinks.{name}.spool: a sink of type {chosen.type} can have no spool")
    folder = Path(config.spool.folder) / name
    return Spool(folder, chosen.config.spool_bytes, fsync=config.spool.fsync)


@contextmanager
def _signals(stop: _Stop) -> Iterator[None]:
    """SIGINT and SIGTERM end the run in order; the exit code is 128 plus the signal."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, stop, number.name, 128 + number)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


@contextmanager
def _timer(stop: _Stop, seconds: float | None) -> Iterator[None]:
    if seconds is None:
        yield
        return
    handle = asyncio.get_running_loop().call_later(seconds, stop, "duration")
    try:
        yield
    finally:
        handle.cancel()


def _said(what: str, details: dict[str, object]) -> AgentEvent:
    return AgentEvent(f"agent.{what}", time.time_ns(), details)


def _start_facts(config: Config) -> dict[str, object]:
    return {
        "version": __version__,
        "kernel": platform.release(),
        "machine": platform.machine(),
        "kinds": config.kinds,
    }


def _coverage(kinds: Iterable[str], kernel: Kernel) -> dict[str, object]:
    """How each kind is seen on this kernel."""
    shown = {}
    for kind in kinds:
        own = [hook for hook in kernel.hooks if hook.kind == kind]
        shown[kind] = {
            "family": family_of(own),
            "programs": [hook.program for hook in own if not hook.missing],
            "missing": {hook.program: hook.missing for hook in own if hook.missing},
        }
    return {"kinds": shown, "why_no_trampolines": kernel.why_no_trampolines}


def _outcome(stop: _Stop, ledger: Ledger, started: float, problem: str | None) -> Outcome:
    # What went wrong counts more than what ended the run.
    failed = problem is not None or ledger.imbalances()
    exit_code = 1 if failed else stop.exit_code
    return Outcome(exit_code, ledger, time.monotonic() - started, problem)
