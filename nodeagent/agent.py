# SPDX-License-Identifier: Apache-2.0
"""The composition root: a Config in, a running pipeline out. Only this file knows everyone."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import platform
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import (
    AbstractContextManager,
    ExitStack,
    asynccontextmanager,
    closing,
    contextmanager,
    nullcontext,
    suppress,
)
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from nodeagent import __version__
from nodeagent.canary import Canary
from nodeagent.config import Config
from nodeagent.control import Answer, Control
from nodeagent.coverage import Coverage
from nodeagent.delivery import Delivery
from nodeagent.detect.suppress import Suppressions
from nodeagent.detection import Detection
from nodeagent.encode import timestamp
from nodeagent.enrich import Enricher
from nodeagent.enrich.file import FileTable
from nodeagent.enrich.process import ProcessTable
from nodeagent.errors import ConfigError
from nodeagent.event import AgentEvent
from nodeagent.follow.followers import Follow, Followers
from nodeagent.follow.integrity import IntegrityFollower
from nodeagent.follow.node import id_of_boot, name_of_node
from nodeagent.kernel.btf import Btf
from nodeagent.kernel.cgroup import controller_of
from nodeagent.kernel.features import ON_DEMAND, family_of
from nodeagent.kernel.integrity import Addresses, KernelCheck
from nodeagent.kernel.libbpf import Libbpf
from nodeagent.kernel.object import BpfObject, find_object
from nodeagent.kernel.privileges import Privileges, give_up
from nodeagent.kernel.wire import Decoder, task_reader
from nodeagent.ledger import Ledger
from nodeagent.life import Life
from nodeagent.notify import Notifier
from nodeagent.outlet import Router
from nodeagent.parts import brought, redactor_of, rules_of, suppressions_of, tables_of
from nodeagent.pipeline import Pipeline
from nodeagent.pods import PodCounts
from nodeagent.reload import Reload
from nodeagent.sink import Sink
from nodeagent.source.cgroups import ExcludedCgroups
from nodeagent.source.live import Clock, Kernel, LiveSource, load_kernel
from nodeagent.source.recording import Facts, Recorder, Recording
from nodeagent.source.replay import ReplaySource
from nodeagent.takeover import REASON, Predecessor, Successor
from nodeagent.throttle import Throttle
from nodeagent.usage import give_back, usage_of
from sinks import SINKS

if TYPE_CHECKING:
    from nodeagent.metrics import MetricsServer

__all__ = ["Outcome", "replay", "run", "sink_types"]

log: Final = logging.getLogger(__name__)

SINK_GROUP: Final = "nodeagent.sinks"
ENRICHER_GROUP: Final = "nodeagent.enrichers"
REST_SECONDS: Final = 1.0
"""Between two looks whether the agent that took over is still there."""


class Outcome(msgspec.Struct):
    """How a run ended."""

    exit_code: int
    ledger: Ledger
    seconds: float
    problem: str | None = None
    """What went wrong on the way, as a sentence."""
    handed_over: bool = False
    """To another agent, which has asked for it."""


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
    chosen = brought(ENRICHER_GROUP, config.enrichers, "enrichers")
    return [entry.load()() for entry in chosen]


async def run(
    config: Config,
    load: Callable[[], Config],
    *,
    duration_seconds: float | None = None,
    record: Path | None = None,
) -> Outcome:
    """Stream this machine's events until a signal, the duration or the last sink ends it.

    `load` reads the configuration again when somebody asks for that. Raises StartError
    before the first event.
    """
    ledger = Ledger()
    started = time.monotonic()
    _demand_privileges()
    libbpf = Libbpf()
    controller = controller_of(config.kernel.cgroups)
    boot_id = id_of_boot()
    with ExitStack() as stack:
        life = stack.enter_context(
            Life(config.state.file, boot_id, take_over=config.state.take_over)
        )
        before = stack.enter_context(_predecessor(config, life))
        clock = Clock(before.boot_ns if before else None)
        opened = stack.enter_context(BpfObject(libbpf, Path(config.kernel.object or find_object())))
        kernel = stack.enter_context(
            load_kernel(
                opened,
                libbpf,
                rules_of(config),
                high_ring_bytes=config.kernel.high_ring_bytes,
                bulk_ring_bytes=config.kernel.bulk_ring_bytes,
                argv_bytes=config.kernel.argv_bytes,
                controller=controller,
                family=config.kernel.hooks,
                moments=before.moments(opened) if before else None,
            )
        )
        # To detach takes a while, for which nobody has to wait.
        stack.callback(life.close)
        # Before there is a second thread. Nothing after the start needs it.
        addresses = stack.enter_context(closing(_addresses()))
        source = LiveSource(kernel, clock, ledger, config.filter.summary_seconds)
        stop = _Stop(source.stop)
        node_name = name_of_node(config.node)
        facts = _facts(config, clock.boot_ns, node_name, boot_id)
        recorder = stack.enter_context(_recording(record, facts, opened))
        processes = ProcessTable(
            task_reader(kernel.btf),
            clock.boot_ns,
            waiting_events=config.containers.wait_events,
            node_name=node_name,
            boot_id=boot_id,
            summary_seconds=config.filter.summary_seconds,
        )
        files = FileTable(processes.brief_of, hashes=config.files.hash)
        detection = Detection(config, ledger, clock.boot_ns, node_name, processes.process_of)
        notifier, pods = Notifier(os.environ), PodCounts()
        beside: dict[str, Follow] = {"watchdog": notifier.follow}
        cgroups = None
        if excluded := config.filter.exclude_cgroups:
            cgroups = ExcludedCgroups(libbpf, kernel.policy, excluded, controller)
            beside["cgroups"] = stack.enter_context(cgroups).follow
        await _take_over(before, kernel, source, life)
        async with _delivering(config, ledger, stop, spools=True) as delivery:
            pipeline = Pipeline(
                kernel.decoder,
                processes,
                delivery.router,
                ledger,
                config.kinds,
                files=files,
                excluded_uids=config.filter.exclude_uids,
                excluded_cgroups=cgroups.ids if cgroups else None,
                enrichers=_enrichers(config),
                engine=detection.engine,
                suppressions=Suppressions(suppressions_of(config), ledger.suppressed),
                redactor=redactor_of(config),
                findings_only=config.detect.only,
                recorder=recorder,
                pods=pods,
            )
            followers = Followers(
                libbpf,
                config,
                pipeline,
                controller,
                lists=detection.lists,
                ledger=ledger,
                integrity=_integrity(kernel, addresses, ledger),
            )
            stack.callback(followers.close)
            beside |= followers.tasks()
            throttle = Throttle(
                config, kernel.policy, source.count, ledger, partial(_tell, pipeline, "level")
            )
            reload = Reload(
                load,
                config,
                policy=kernel.policy,
                pipeline=pipeline,
                delivery=delivery,
                lists=detection.lists,
                expected=detection.expected,
                sigma=detection.sigma,
                refetch=followers.lists.change,
                throttle=throttle,
                ledger=ledger,
                notifier=notifier,
                tell=partial(_tell, pipeline, "reload"),
            )
            coverage = Coverage(
                _hooks(config.kinds, kernel), ledger, partial(_tell, pipeline, "coverage")
            )
            beside |= {
                "throttle": throttle.follow,
                "reload": reload.follow,
                "coverage": coverage.follow,
                "canary": _canary(config, kernel, ledger, pipeline).follow,
                "life": life.follow,
                **_reporters(
                    *(config, source, pipeline, ledger),
                    {"reload": reload.reload, "pods": pods.report, "coverage": coverage.report},
                    successor=Successor(
                        kernel, clock.refresh, stop, partial(_tell, pipeline, "hand_over")
                    ),
                ),
            }
            # An address of no use is told before the kernel has to detach anything.
            if config.metrics.listen:
                stack.callback(_metrics(config, source, pipeline, ledger, kernel).close)
            source.attach()
            _introduce(pipeline, config, life, coverage)
            followers.start()
            _settle(started, notifier)
            with _signals(stop, reload.ask), _timer(stop, duration_seconds):
                await _stream(source, pipeline, followers, delivery.router, beside)
            notifier.stopping()
            _conclude(pipeline, stop.reason or "end", ledger, life)
    problem = recorder.failure if recorder is not None else None
    return _outcome(stop, ledger, started, problem)


def _predecessor(config: Config, life: Life) -> AbstractContextManager[Predecessor | None]:
    """The agent from which this one takes over; raises StartError when it does not want to."""
    return Predecessor(Path(config.control.socket)) if life.waits else nullcontext()


async def _take_over(
    before: Predecessor | None, kernel: Kernel, source: LiveSource, life: Life
) -> None:
    """Watch beside the agent that is there until that has gone."""
    if before is not None:
        before.watch_beside(kernel)
        source.attach()
        await before.leave(life, kernel)


async def rest(config: Config) -> None:
    """After a hand-over: until a signal, or until the other agent has gone."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    log.info("rests until the agent that took over has gone")
    with Life(config.state.file, id_of_boot(), take_over=True) as life:
        while life.waits and not ended.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), REST_SECONDS)
            life.look()


@contextmanager
def _recording(path: Path | None, facts: Facts, opened: BpfObject) -> Iterator[Recorder | None]:
    if path is None:
        yield None
        return
    recorder = Recorder(path, facts, opened.btf_bytes())
    try:
        yield recorder
    finally:
        recorder.close()


def _demand_privileges() -> None:
    """Raises BpfError; what is missed without others is told."""
    may = Privileges.of_this_process()
    may.demand()
    for loss in may.losses:
        log.warning("less why=%r", loss)


def _introduce(pipeline: Pipeline, config: Config, life: Life, coverage: Coverage) -> None:
    """The first lines of the stream."""
    pipeline.feed(_said("start", _start_facts(config, life)))
    coverage.start()


def _conclude(pipeline: Pipeline, reason: str, ledger: Ledger, life: Life) -> None:
    """The last line of the stream."""
    pipeline.finish()
    pipeline.feed(_said("stop", {"reason": reason, **ledger.report()}))
    life.end(reason)


def _canary(config: Config, kernel: Kernel, ledger: Ledger, pipeline: Pipeline) -> Canary:
    return Canary(
        kernel.hooks,
        kernel.counters,
        ledger,
        partial(_tell, pipeline, "canary"),
        dns_port=config.kernel.dns_ports[0] if config.kernel.dns_ports else 53,
        interval_seconds=config.canary.interval_seconds,
    )


def _addresses() -> Addresses:
    """Those of the kernel; what it took to open them, and to load, is given up."""
    addresses = Addresses()
    give_up("CAP_SYS_ADMIN")
    give_up("CAP_SYSLOG")
    return addresses


def _integrity(kernel: Kernel, addresses: Addresses, ledger: Ledger) -> IntegrityFollower | None:
    hooks = [hook for hook in kernel.hooks if hook.program in ON_DEMAND]
    if not hooks or any(hook.missing for hook in hooks):
        return None
    check = KernelCheck(kernel.loaded, kernel.btf, addresses)
    return IntegrityFollower(check, addresses, ledger)


def _facts(config: Config, boot_ns: int, node_name: str, boot_id: str) -> Facts:
    """What a replay has to know."""
    return Facts(
        __version__,
        platform.machine(),
        platform.release(),
        boot_ns,
        config.kinds,
        config.containers.wait_events,
        node_name,
        boot_id,
        config.files.hash,
        config.filter.summary_seconds,
    )


def _settle(started: float, notifier: Notifier) -> None:
    """The start is over: say so, and give back the memory that it needed."""
    log.info("ready seconds=%.2f", time.monotonic() - started)
    notifier.ready()
    # What is loaded by now stays: the collector need not look at it again and again.
    gc.freeze()
    give_back()


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
        processes, files = tables_of(facts, btf)
        detection = Detection(config, ledger, facts.boot_ns, facts.node_name, processes.process_of)
        kinds = [kind for kind in config.kinds if kind in facts.kinds]
        # A recording can be replayed again, so nothing has to wait on the disk.
        async with _delivering(config, ledger, stop, spools=False) as delivery:
            pipeline = Pipeline(
                decoder,
                processes,
                delivery.router,
                ledger,
                kinds,
                files=files,
                enrichers=_enrichers(config),
                engine=detection.engine,
                suppressions=Suppressions(suppressions_of(config), ledger.suppressed),
                redactor=redactor_of(config),
                findings_only=config.detect.only,
            )
            with _signals(stop):
                async for item in source.items():
                    pipeline.feed(item)
                    # A recording can wait, so nothing is dropped.
                    await delivery.router.settle()
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


def _tell(pipeline: Pipeline, what: str, facts: dict[str, object]) -> None:
    pipeline.feed(_said(what, facts))


async def _report(
    source: LiveSource, pipeline: Pipeline, ledger: Ledger, interval_seconds: float
) -> None:
    """The state of the ledger into the stream, again and again."""
    while interval_seconds:
        await asyncio.sleep(interval_seconds)
        source.count()
        pipeline.feed(_said("ledger", ledger.report()))


def _reporters(
    config: Config,
    source: LiveSource,
    pipeline: Pipeline,
    ledger: Ledger,
    answers: Mapping[str, Answer],
    *,
    successor: Successor,
) -> dict[str, Follow]:
    """Tasks that tell how the agent is: into the stream, and to those who ask.

    `answers` are others that are given, beside those that `successor` gives.
    """
    interval = config.ledger.interval_seconds
    tasks: dict[str, Follow] = {"ledger": partial(_report, source, pipeline, ledger, interval)}
    if config.control.socket:
        status = partial(_status, config, source, pipeline, ledger)
        tasks["control"] = Control(
            Path(config.control.socket),
            {"status": status, **answers, **successor.answers()},
            ledger.troubles,
            successor.handing(),
        ).serve
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
async def _delivering(
    config: Config, ledger: Ledger, stop: _Stop, *, spools: bool
) -> AsyncIterator[Delivery]:
    """All sinks open, each with its task; drained and closed at the end."""
    async with asyncio.TaskGroup() as group:
        nobody = partial(stop, "nobody reads any more")
        delivery = Delivery(group, sink_types(), ledger, nobody, spools=spools)
        await delivery.open(config)
        try:
            yield delivery
            await delivery.drain()
        finally:
            await delivery.close()


@contextmanager
def _signals(stop: _Stop, reload: Callable[[], None] | None = None) -> Iterator[None]:
    """SIGINT and SIGTERM end the run in order; the exit code is 128 plus the signal.

    SIGHUP means a reload, where that is possible.
    """
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number.name, 128 + number)
    if reload is not None:
        loop.add_signal_handler(signal.SIGHUP, reload)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
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


def _start_facts(config: Config, life: Life) -> dict[str, object]:
    previous = life.previous()
    return {
        "version": __version__,
        "kernel": platform.release(),
        "machine": platform.machine(),
        "kinds": config.kinds,
        "previous": previous
        and {**msgspec.to_builtins(previous), "alive": timestamp(previous.alive)},
    }


def _hooks(kinds: Iterable[str], kernel: Kernel) -> dict[str, object]:
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
    handed_over = stop.reason == REASON
    return Outcome(exit_code, ledger, time.monotonic() - started, problem, handed_over)
