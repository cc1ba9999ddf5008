# SPDX-License-Identifier: Apache-2.0
"""The live kernel: programs attached, rings drained."""

from __future__ import annotations

import asyncio
import logging
import mmap
import os
import select
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final

import msgspec

from nodeagent.errors import BpfError
from nodeagent.event import AgentEvent
from nodeagent.kernel.btf import Btf
from nodeagent.kernel.cgroup import CONTROLLERS
from nodeagent.kernel.counters import KernelCounters
from nodeagent.kernel.features import ITERATOR, LISTING, ON_DEMAND, Hook, KernelTypes, plan
from nodeagent.kernel.libbpf import Libbpf
from nodeagent.kernel.object import BpfObject
from nodeagent.kernel.policy import Policy, Rules
from nodeagent.kernel.probe import refuses_trampolines
from nodeagent.kernel.ring import Ring
from nodeagent.kernel.tracepoint import Tracepoints
from nodeagent.kernel.wire import Decoder, Records
from nodeagent.ledger import Ledger
from nodeagent.source import Item, Listing, ProcListing, Summaries
from nodeagent.source.proc import proc_processes

__all__ = ["Clock", "Kernel", "LiveSource", "load_kernel"]

log: Final = logging.getLogger(__name__)

READ_BYTES: Final = 1 << 19
"""At most this much of each ring in one batch, so that sinks get their turn."""
BACKLOG_BYTES: Final = READ_BYTES // 4
"""When a ring still holds this much after a batch, read on without a pause."""
PAUSE_SECONDS: Final = 0.15
"""After a batch, let the next one grow: a batch costs more than a record."""
BULK_SECONDS: Final = 0.1
"""After a rest, let what can wait grow for so long."""
LONGEST_REST_SECONDS: Final = 1.0
"""For a wake-up that was missed: a program that was interrupted gave it too early."""
EXIT_ARGUMENTS: Final = 2
"""Of sched_process_exit where it tells that the whole group died, since v6.16."""
LIST_SECONDS: Final = 5.0
"""Between two lists of all processes, which cost a busy node some milliseconds."""
REST_SECONDS: Final = 2.0
"""At the end, wait this long for programs that are still running on other CPUs."""
STEP_NS: Final = 1_000_000
"""Follow the wall clock when it moved by more than this against the boot clock."""
TOLD_STEP_NS: Final = 100_000_000
"""Tell the stream of a step of at least this much; less is how a clock is kept right."""


class Clock:
    """The wall clock at boot. Small corrections are left out, so that times do not jitter."""

    def __init__(self, boot_ns: int | None = None) -> None:
        """Read both clocks; `boot_ns` is what another agent goes by, so that times are the same."""
        self.boot_ns = self._measure()
        if boot_ns is not None and abs(self.boot_ns - boot_ns) <= STEP_NS:
            self.boot_ns = boot_ns
        self._untold_ns = 0

    def refresh(self) -> int:
        """The wall clock at boot in ns since 1970, new when the clock was stepped."""
        measured = self._measure()
        if abs(measured - self.boot_ns) > STEP_NS:
            # Once more: somebody else may have had the processor between two readings.
            measured = self._measure()
        step_ns = measured - self.boot_ns
        if abs(step_ns) > STEP_NS:
            log.info("clock_stepped by_ms=%.1f", step_ns / 1e6)
            self.boot_ns = measured
        if abs(step_ns) >= TOLD_STEP_NS:
            self._untold_ns += step_ns
        return self.boot_ns

    def steps(self) -> Iterator[AgentEvent]:
        """What is to be said before the first times by the clock as it is now."""
        if self._untold_ns:
            details: dict[str, object] = {"stepped_seconds": round(self._untold_ns / 1e9, 3)}
            self._untold_ns = 0
            yield AgentEvent("agent.clock", time.time_ns(), details)

    @staticmethod
    def _measure() -> int:
        before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        wall = time.time_ns()
        after = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        return wall - (before + after) // 2


class Kernel(msgspec.Struct, frozen=True):
    """The object, loaded and not yet attached, and what belongs to it."""

    loaded: BpfObject
    hooks: list[Hook]
    btf: Btf
    """The object's own types."""
    decoder: Decoder
    counters: KernelCounters
    rings: tuple[Ring, Ring]
    """High value first."""
    policy: Policy
    why_no_trampolines: str | None
    """None when they are used."""


@contextmanager
def load_kernel(
    opened: BpfObject,
    libbpf: Libbpf,
    rules: Rules,
    *,
    high_ring_bytes: int,
    bulk_ring_bytes: int,
    argv_bytes: int,
    controller: str,
    family: str = "auto",
    moments: int | None = None,
) -> Iterator[Kernel]:
    """Set up and load the object for the kinds in `rules`; raises StartError.

    `moments` is the map of another agent that watches, too.

    `controller` of cgroups as kernel/cgroup.py has it.
    `family` of hooks: trampoline, tracepoint or auto, which takes the first that works.
    """
    refused = _refused(opened, libbpf, family)
    with ExitStack() as stack:
        tracepoints = stack.enter_context(Tracepoints(libbpf))
        btf = opened.btf()
        decoder = Decoder(btf)
        types = KernelTypes(libbpf)
        try:
            hooks = plan(opened, types, tracepoints, rules.kinds, trampolines=refused is None)
            exit_arguments = types.tracepoint_arguments("sched_process_exit")
            submit_arguments = types.tracepoint_arguments("io_uring_submit_sqe")
        finally:
            types.close()
        opened.set_constants(
            btf,
            {
                "argv_bytes": argv_bytes,
                "pause_ns": int(PAUSE_SECONDS * 1e9),
                "high_ring_bytes": high_ring_bytes,
                "bulk_ring_bytes": bulk_ring_bytes,
                "page_bytes": mmap.PAGESIZE,
                "submit_sqe_arguments": submit_arguments or 0,
                "exit_has_group_dead": int(exit_arguments == EXIT_ARGUMENTS),
                "cgroup_controller": ("", *CONTROLLERS).index(controller),
            },
        )
        opened.set_max_entries("high", high_ring_bytes)
        opened.set_max_entries("bulk", bulk_ring_bytes)
        if moments is not None:
            opened.share("moments", moments)
        programs = [hook.program for hook in hooks if not hook.missing]
        opened.load([*programs, LISTING])
        opened.open_places(programs, tracepoints)
        policy = Policy(opened, btf, decoder.kinds)
        policy.apply(rules)
        rings = []
        for name, size in (("high", high_ring_bytes), ("bulk", bulk_ring_bytes)):
            ring = Ring(opened.map(name), size)
            stack.callback(ring.close)
            rings.append(ring)
        served = {hook.program: hook.kind for hook in hooks if not hook.missing}
        counters = KernelCounters(opened, btf, decoder.kinds, served)
        high, bulk = rings
        yield Kernel(opened, hooks, btf, decoder, counters, (high, bulk), policy, refused)


def _refused(opened: BpfObject, libbpf: Libbpf, family: str) -> str | None:
    """Why there are no trampolines; raises BpfError when the family must have them."""
    if family == "tracepoint":
        return "kernel.hooks = tracepoint"
    refused = refuses_trampolines(libbpf, opened.path)
    if refused and family == "trampoline":
        raise BpfError(
            f"this kernel takes no fentry programs ({refused}), which kernel.hooks asks for:"
            ' set it to "auto"'
        )
    return refused


class LiveSource:
    """Records of the running kernel. `attach()` comes first."""

    def __init__(
        self, kernel: Kernel, clock: Clock, ledger: Ledger, summary_seconds: float
    ) -> None:
        """Keep the kernel's side of `ledger` at the end of the stream.

        What the kernel counts comes at the latest two `summary_seconds` later.
        """
        self._kernel = kernel
        self._summary_seconds = summary_seconds
        self._next_summary = time.monotonic() + summary_seconds
        self._clock = clock
        self._ledger = ledger
        self._attached = False
        self._stopping = False
        self._alarm: _Alarm | None = None
        self._listed: list[Item] = []
        self._unknown = 0
        self._next_list = 0.0

    def attach(self) -> None:
        """Attach all programs, unless they are, and list all processes; raises BpfError."""
        if self._attached:
            return
        self._attached = True
        kernel = self._kernel
        # The first list tells the kernel who we are, before anything is counted.
        listed = self._list_processes()
        for hook in kernel.hooks:
            if hook.missing:
                log.info("hook_missing program=%s why=%s", hook.program, hook.missing)
            elif hook.family != ITERATOR:
                kernel.loaded.attach(hook.program)
        kernel.policy.attached()
        # Whatever was born since then is in the second list or in the stream.
        listed |= self._list_processes()
        others = [seen for seen in proc_processes() if seen.pid not in listed]
        self._listed.insert(0, ProcListing(others))
        for hook in kernel.hooks:
            if hook.family == ITERATOR and not hook.missing and hook.program not in ON_DEMAND:
                self._iterate(hook.program)

    def stop(self) -> None:
        """Detach, drain and end."""
        self._stopping = True
        if self._alarm is not None:
            self._alarm.wake()

    async def items(self) -> AsyncIterator[Item]:
        """The lists of processes, then batches of records until stopped and drained."""
        self._alarm = alarm = _Alarm(self._kernel.rings)
        try:
            while not self._stopping:
                while self._listed:
                    yield self._listed.pop(0)
                for summaries in self._due_summaries():
                    yield summaries
                records = self._read()
                if records is None:
                    await self._rest(alarm)
                    continue
                for step in self._clock.steps():
                    yield step
                yield records
                if any(ring.held_bytes > BACKLOG_BYTES for ring in self._kernel.rings):
                    # The sinks get their turn even when there is always more to read.
                    await asyncio.sleep(0)
                else:
                    await alarm.pause(PAUSE_SECONDS)
        finally:
            alarm.close()
        async for item in self._drain():
            yield item
        self._ledger.ended = True

    async def _rest(self, alarm: _Alarm) -> None:
        """Until there is something to read or to sum up."""
        high, bulk = self._kernel.rings
        await alarm.wait(min(self._next_summary - time.monotonic(), LONGEST_REST_SECONDS))
        if bulk.held_bytes and not (high.held_bytes or bulk.is_filling or self._stopping):
            await alarm.wait(BULK_SECONDS)

    async def _drain(self) -> AsyncIterator[Item]:
        """What is left when the programs stop."""
        # To detach all programs takes the kernel a second or two; that can wait.
        self._kernel.policy.stop()
        deadline = time.monotonic() + REST_SECONDS
        while time.monotonic() < deadline:
            records = self._read()
            if records is not None:
                for step in self._clock.steps():
                    yield step
                yield records
            elif self._at_rest():
                break
            else:
                await asyncio.sleep(0.01)
        for summaries in self._summarise(tables=2):
            yield summaries

    def count(self) -> None:
        """Bring the kernel's side of the ledger up to date."""
        self._ledger.kernel = self._kernel.counters.read()

    def _at_rest(self) -> bool:
        self.count()
        return not self._ledger.imbalances()

    def list_again(self, unknown: int) -> None:
        """List all processes, when more are `unknown` by now, but not all the time."""
        now = time.monotonic()
        if unknown > self._unknown and now >= self._next_list:
            self._unknown = unknown
            self._next_list = now + LIST_SECONDS
            self._list_processes()

    def _list_processes(self) -> set[int]:
        """Ask the kernel for all processes; returns their pids."""
        kernel = self._kernel
        try:
            data = kernel.loaded.iterate(LISTING)
        except BpfError as error:
            # Outside the initial pid namespace this pid is not ours: then we see ourselves.
            log.warning("no_process_iterator why=%s instead=/proc", error)
            kernel.policy.set_own_pid(os.getpid())
            return set()
        self._listed.append(Listing(data, self._clock.boot_ns))
        return {seen.tid for seen in kernel.decoder.decode_listing(data, 0)}

    def _iterate(self, program: str) -> None:
        """Run it once; what it finds comes on the rings."""
        try:
            self._kernel.loaded.iterate(program)
        except BpfError as error:
            log.warning("no_iteration program=%s why=%s", program, error)

    def _due_summaries(self) -> Iterator[Summaries | AgentEvent]:
        now = time.monotonic()
        if now >= self._next_summary:
            self._next_summary = now + self._summary_seconds
            yield from self._summarise(tables=1)

    def _summarise(self, tables: int) -> Iterator[Summaries | AgentEvent]:
        """What the kernel has counted instead of sending it."""
        for _ in range(tables):
            now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            records = self._kernel.policy.take_turn(now_ns, self._clock.refresh())
            yield from self._clock.steps()
            if records is not None:
                yield Summaries(records)

    def _read(self) -> Records | None:
        """What both rings hold, as one batch."""
        high, bulk = self._kernel.rings
        data, starts, ends = high.read(READ_BYTES)
        more, more_starts, more_ends = bulk.read(READ_BYTES)
        if more_starts:
            shift = len(data)
            data += more
            starts += [start + shift for start in more_starts] if shift else more_starts
            ends += [end + shift for end in more_ends] if shift else more_ends
        if not starts:
            return None
        return Records(data, starts, ends, self._clock.refresh())


class _Alarm:
    """Wakes the loop when the kernel wakes the readers of the rings.

    A ring stays readable as long as it holds records, so it is watched edge by edge: the
    kernel wakes us for the first record of a ring after a rest and when a ring fills.
    """

    def __init__(self, rings: Sequence[Ring]) -> None:
        self._rings = rings
        self._wake: Callable[[], None] | None = None
        self._hasty = False
        self._epoll = select.epoll()
        for ring in rings:
            self._epoll.register(ring.fd, select.EPOLLIN | select.EPOLLET)
        asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._on_edge)

    async def wait(self, longest_seconds: float) -> None:
        """Until there is something to read, at most this long."""
        await self._sleep(longest_seconds, hasty=False)

    async def pause(self, seconds: float) -> None:
        """This long, or until a ring fills up."""
        await self._sleep(seconds, hasty=True)

    def wake(self) -> None:
        """End what `wait` or `pause` is waiting for."""
        if self._wake is not None:
            self._wake()

    def close(self) -> None:
        """Watch the rings no more."""
        asyncio.get_running_loop().remove_reader(self._epoll.fileno())
        self._epoll.close()

    async def _sleep(self, seconds: float, *, hasty: bool) -> None:
        loop = asyncio.get_running_loop()
        woken: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            if not woken.done():
                woken.set_result(None)

        self._wake = wake
        self._hasty = hasty
        timer = loop.call_later(seconds, wake)
        try:
            await woken
        finally:
            timer.cancel()
            self._wake = None

    def _on_edge(self) -> None:
        self._epoll.poll(0)
        if not self._hasty or any(ring.is_filling for ring in self._rings):
            self.wake()
