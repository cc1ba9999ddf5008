# SPDX-License-Identifier: Apache-2.0
"""The composition root: a Config in, a running pipeline out. Only this file knows everyone."""

from __future__ import annotations

import asyncio
import gc
import logging
import platform
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final

import msgspec

from nodeagent import __version__
from nodeagent.config import Config
from nodeagent.enrich.process import ProcessTable
from nodeagent.errors import ConfigError
from nodeagent.event import AgentEvent
from nodeagent.kernel.btf import Btf
from nodeagent.kernel.features import PROCESS_KINDS, family_of
from nodeagent.kernel.libbpf import Libbpf
from nodeagent.kernel.object import BpfObject, find_object
from nodeagent.kernel.policy import Rules
from nodeagent.kernel.privileges import Privileges
from nodeagent.kernel.wire import Decoder, task_reader
from nodeagent.ledger import Ledger
from nodeagent.pipeline import Pipeline
from nodeagent.sink import Outlet, Router, Sink
from nodeagent.source.live import Clock, Kernel, LiveSource, load_kernel
from nodeagent.source.recording import Facts, Recorder, Recording
from nodeagent.source.replay import ReplaySource
from sinks import SINKS

__all__ = ["Outcome", "replay", "run", "sink_types"]

log: Final = logging.getLogger(__name__)

SINK_GROUP: Final = "nodeagent.sinks"


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
    found: dict[str, type[Sink]] = dict(SINKS)
    for entry in entry_points(group=SINK_GROUP):
        if entry.name in found:
            raise ConfigError(f"two packages bring a sink named {entry.name}: remove one of them")
        found[entry.name] = entry.load()
    return found


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
                family=config.kernel.hooks,
            )
        )
        source = LiveSource(kernel, clock, ledger, config.filter.summary_seconds)
        stop = _Stop(source.stop)
        recorder = None
        if record is not None:
            facts = Facts(
                __version__, platform.machine(), platform.release(), clock.boot_ns, config.kinds
            )
            recorder = Recorder(record, facts, opened.btf_bytes())
            stack.callback(recorder.close)
        processes = ProcessTable(task_reader(kernel.btf), clock.boot_ns)
        async with _outlets(config, ledger, stop) as router:
            pipeline = Pipeline(
                kernel.decoder,
                processes,
                router,
                ledger,
                config.kinds,
                excluded_uids=config.filter.exclude_uids,
                recorder=recorder,
            )
            source.attach()
            pipeline.feed(_said("start", _start_facts(config)))
            pipeline.feed(_said("coverage", _coverage(config.kinds, kernel)))
            log.info("ready seconds=%.2f", time.monotonic() - started)
            # What is loaded by now stays: the collector need not look at it again and again.
            gc.freeze()
            with _signals(stop), _timer(stop, duration_seconds):
                await _stream(source, pipeline, router, ledger, config.ledger.interval_seconds)
            reason = stop.reason or "end of the stream"
            pipeline.feed(_said("stop", {"reason": reason, **ledger.report()}))
    problem = recorder.failure if recorder is not None else None
    return _outcome(stop, ledger, started, problem)


def _rules(config: Config) -> Rules:
    chosen = config.filter
    return Rules(
        # Without these the process table would not know who did the rest.
        kinds=PROCESS_KINDS | set(config.kinds),
        count_repeats=chosen.repeated_opens == "count",
        failed_opens=chosen.failed_opens,
        excluded_uids=chosen.exclude_uids,
        excluded_paths=chosen.exclude_paths,
        watched_paths=chosen.watch_paths,
        dns_ports=config.kernel.dns_ports,
    )


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
        processes = ProcessTable(task_reader(btf), recording.facts.boot_ns)
        kinds = [kind for kind in config.kinds if kind in recording.facts.kinds]
        async with _outlets(config, ledger, stop) as router:
            pipeline = Pipeline(decoder, processes, router, ledger, kinds)
            with _signals(stop):
                async for item in source.items():
                    pipeline.feed(item)
                    # A recording can wait, so nothing is dropped.
                    await router.settle()
    problem = str(source.damage) if source.damage else None
    return _outcome(stop, ledger, started, problem)


async def _stream(
    source: LiveSource,
    pipeline: Pipeline,
    router: Router,
    ledger: Ledger,
    interval_seconds: float,
) -> None:
    """The whole stream, with the state of the ledger in it at the interval."""

    async def report() -> None:
        while interval_seconds:
            await asyncio.sleep(interval_seconds)
            source.count()
            pipeline.feed(_said("ledger", ledger.report()))

    async with asyncio.TaskGroup() as group:
        reporter = group.create_task(report(), name="ledger")
        async for item in source.items():
            pipeline.feed(item)
            await router.relax()
        reporter.cancel()


@asynccontextmanager
async def _outlets(config: Config, ledger: Ledger, stop: _Stop) -> AsyncIterator[Router]:
    """All sinks open, each with its task; drained and closed at the end."""
    types = sink_types()
    living = set(config.sinks)

    def on_closed(name: str, why: str) -> None:
        log.info("sink_closed sink=%s why=%s", name, why)
        living.discard(name)
        if not living:
            stop("nobody reads any more")

    outlets = [
        Outlet(name, types[chosen.type](chosen.config), chosen.config, ledger.sink(name), on_closed)
        for name, chosen in config.sinks.items()
    ]
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
