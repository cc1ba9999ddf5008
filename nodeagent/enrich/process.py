# SPDX-License-Identifier: Apache-2.0
"""The process table: who did it, and who made whom.

It is filled from a list of all processes at the start and then follows fork, exec
and exit. A process is known by pid and start time, the program that it runs by
`exec_id` besides, so an event that arrives late still finds the program that caused it.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, TypeAlias

import msgspec

from nodeagent.encode import brief, container_json, lineage_json, node_json, process_json
from nodeagent.enrich.container import ContainerTable
from nodeagent.enrich.identity import identities
from nodeagent.enrich.user import UserTable
from nodeagent.event import (
    EVENTS,
    TICK_NS,
    Ancestor,
    Brief,
    Changing,
    Event,
    Exec,
    Exit,
    Fork,
    NewCgroup,
    OlderProcess,
    Other,
    Process,
    ProcessFacts,
    ProcessSeen,
    Targeted,
    Task,
)

__all__ = ["ProcessTable"]

LINEAGE_LENGTH: Final = 16
GRACE_NS: Final = 2_000_000_000
"""How long what has ended is remembered when its counts are due, for what comes late."""
PROGRAMS_LIMIT: Final = 32768
VIEWS_LIMIT: Final = 64
"""Views of one program: a process can change its name as often as it likes."""
YOUNG_VIEWS: Final = 400
"""Most processes of a busy node sleep, so views of the last ones that did something are enough."""

_Key: TypeAlias = tuple[int, int, int]
"""pid, start time and exec_id."""


class _Lineage(msgspec.Struct, gc=False):
    """The ancestors of a process and the same as JSON."""

    ancestors: tuple[Ancestor, ...]
    json: str


class _Program(msgspec.Struct, gc=False):
    """One process while it runs one program."""

    pid: int
    start_time: int
    exec_id: int
    path: str
    facts: ProcessFacts | None
    lineage: _Lineage
    uid: int | None
    """As it is now; None when only /proc knew the process."""
    euid: int | None
    of_host: bool = True
    """As for `Process`."""
    script: str = ""
    """As for `Process`."""
    brief: Brief | None = None
    """Made when an event is about it."""
    lineage_of_children: _Lineage | None = None
    """Made when it has its first child, shared by all of them."""
    views: tuple[bytes, ...] = ()
    """Keys of what was made of it."""
    older: _Program | None = None
    """What had the pid before, as long as events may still come of that."""

    @property
    def key(self) -> _Key:
        """What tells it from all others."""
        return self.pid, self.start_time, self.exec_id

    def has(self, start_time: int, exec_id: int) -> bool:
        """Whether it is this one of those that had its pid."""
        return self.start_time == start_time and self.exec_id == exec_id


class ProcessTable:
    """Sets `Event.process`; every table in it is bounded."""

    name = "process"

    def __init__(
        self,
        read_task: Callable[[bytes], Task],
        boot_ns: int,
        *,
        waiting_events: int = 0,
        node_name: str = "",
        boot_id: str = "",
        summary_seconds: float = 5.0,
    ) -> None:
        """`read_task` reads `Event.task`; `boot_ns` is the wall clock at boot, fixed for a run.

        It is fixed so that the start time of a process is always shown the same. At most
        `waiting_events` of one cgroup wait until it is known what it is. `node_name` is in
        all events unless it is empty. `boot_id` makes the UUIDs unique. What has ended is
        remembered until its counts have come, at the latest two `summary_seconds` later.
        """
        self._uuid = identities(boot_id)
        self._node = node_json(node_name)
        self.containers = ContainerTable(self._shown, self._on_container, waiting_events)
        self.users = UserTable(self._shown, self._rewrite)
        self._read_task = read_task
        self._boot_ns = boot_ns
        self._remember_ns = round(2e9 * summary_seconds) + GRACE_NS
        self._newest: dict[int, _Program] = {}
        """By pid; what had it before hangs on that."""
        self._known = 0
        self._in_namespace: dict[tuple[int, int], _Program] = {}
        """By pid namespace and the pid in there; only those outside the initial one."""
        self._host_pids = 0
        """The pid namespace of the node, which may be a container itself, as in kind."""
        self._older: dict[int, OlderProcess] = {}
        self._views: dict[bytes, Process] = {}
        self._old_views: dict[bytes, Process] = {}
        self._extras: dict[type[Event], Callable[[Any, Process], None]] = {
            Fork: self._on_fork,
            Exit: self._on_exit,
            NewCgroup: self._on_cgroup,
            **{kind: self._on_targeted for kind in EVENTS.values() if issubclass(kind, Targeted)},
            **{kind: self._on_changing for kind in EVENTS.values() if issubclass(kind, Changing)},
        }
        """What an event says about a process besides who did it."""
        self._no_lineage = self._make_lineage(())
        self._ended: deque[tuple[int, _Key]] = deque()
        self.unknown = 0
        """Processes that were first seen in the middle of their life."""
        self.forgotten = 0
        """Programs that were dropped because the table was full."""

    def __len__(self) -> int:
        """Programs that are known."""
        return self._known

    def fill(self, processes: Iterable[ProcessSeen]) -> None:
        """Take a list of all processes; what records told of stays."""
        for seen in sorted(processes, key=lambda seen: self._read_task(seen.task).start_time):
            # The oldest one is that which the node began with.
            self._host_pids = self._host_pids or seen.facts.namespaces.pid
            task = self._read_task(seen.task)
            known = self._running(task.pid, task.start_time)
            if known is not None and known.facts is not None and (known.path or not seen.path):
                continue
            if known is not None:
                self._forget_views(known)
            self._add(task, seen.path, seen.facts)

    def fill_older(self, processes: Iterable[OlderProcess]) -> None:
        """Take processes from /proc; each becomes exact when a record first speaks of it."""
        self._older.update((seen.pid, seen) for seen in processes)

    def enrich(self, events: Sequence[Event]) -> None:
        """Complete the events of one batch, which are in the order of time."""
        views = self._views
        extras = self._extras
        for event in events:
            # What the event itself says about its process must be known first.
            if type(event) is Exec and not event.result:
                self._on_exec(event)
            process = views.get(event.task)
            if process is None:
                process = self._view(event.task, self._read_task(event.task))
            event.process = process
            extra = extras.get(type(event))
            if extra is not None:
                extra(event, process)
        if events:
            self._forget(events[-1].time)

    def _on_fork(self, event: Fork, process: Process) -> None:
        # A copy runs what was started elsewhere.
        child = self._add(event.child, process.path, event.facts)
        child.of_host, child.script = process.of_host, process.script

    def _on_exit(self, event: Exit, process: Process) -> None:
        self._ended.append((event.time, _key(process.task)))

    def _on_cgroup(self, event: NewCgroup, _: Process) -> None:
        self.containers.learn_path(event.id, event.path)

    def _on_targeted(self, event: Targeted, process: Process) -> None:
        program = self._find(event.target, process)
        if program is not None:
            event.target_process = self._brief_of(program)

    def process_of(self, pid: int, process: Process) -> Brief | None:
        """Which one it is to which this process gives that number."""
        program = self._numbered(pid, process)
        return None if program is None else self._brief_of(program)

    def brief_of(self, process: Process) -> Brief:
        """Which process it is, made once for each program."""
        program = self._get(*_key(process.task))
        if program is None:
            task = process.task
            return brief(task.pid, task.start_time, process.uuid, process.path, self._boot_ns)
        return self._brief_of(program)

    def _on_changing(self, event: Changing, process: Process) -> None:
        program = self._get(*_key(process.task))
        if program is None or event.result or program.facts == event.facts:
            return
        program.facts = event.facts
        self._forget_views(program)

    def _brief_of(self, program: _Program) -> Brief:
        if program.brief is None:
            pid, start_time = program.pid, program.start_time
            shown = brief(pid, start_time, self._uuid(pid, start_time), program.path, self._boot_ns)
            program.brief = msgspec.structs.replace(
                shown, of_host=program.of_host, script=program.script
            )
        return program.brief

    def _get(self, pid: int, start_time: int, exec_id: int) -> _Program | None:
        """The program of a process, by what the kernel counts with each exec."""
        program = self._newest.get(pid)
        while program is not None and not program.has(start_time, exec_id):
            program = program.older
        return program

    def _running(self, pid: int, start_time: int) -> _Program | None:
        """What a process runs now."""
        program = self._newest.get(pid)
        while program is not None and program.start_time != start_time:
            program = program.older
        return program

    def _find(self, other: Other, process: Process) -> _Program | None:
        """The process that an event is about."""
        if other.start_time:
            return self._living(other.pid, other.start_time)
        return self._numbered(other.passed_pid, process)

    def _numbered(self, pid: int, process: Process) -> _Program | None:
        """By the number that it has for this process; 0 is the kernel, and nobody's number."""
        facts = process.facts
        if not pid:
            return None
        if facts is None or facts.namespace_pid == process.task.pid:
            return self._newest.get(pid)
        return self._in_namespace.get((facts.namespaces.pid, pid))

    def _on_exec(self, event: Exec) -> None:
        task = self._read_task(event.task)
        before = self._running(task.pid, task.start_time)
        if before is not None:
            self._ended.append((event.time, before.key))
            lineage = before.lineage
        else:
            lineage = self._lineage(task, event.facts)
        program = self._program(task, event.path, event.facts, lineage)
        program.script = sys.intern(event.absolute_script)
        self._put(program)

    def _add(self, task: Task, path: str, facts: ProcessFacts | None) -> _Program:
        program = self._program(task, path, facts, self._lineage(task, facts))
        self._put(program)
        return program

    def _program(
        self, task: Task, path: str, facts: ProcessFacts | None, lineage: _Lineage
    ) -> _Program:
        # Most processes run few programs.
        path = sys.intern(path)
        of_host = (
            facts is None
            or facts.namespace_pid == task.pid
            or facts.namespaces.pid == self._host_pids
        )
        return _Program(*_key(task), path, facts, lineage, task.uid, task.euid, of_host)

    def _put(self, program: _Program) -> None:
        if self._known >= PROGRAMS_LIMIT:
            self._drop(self._ended.popleft()[1] if self._ended else self._oldest())
            self.forgotten += 1
        self._drop(program.key)
        program.older = self._newest.get(program.pid)
        self._newest[program.pid] = program
        self._known += 1
        inside = _inside(program)
        if inside is not None:
            self._in_namespace[inside] = program

    def _oldest(self) -> _Key:
        return next(iter(self._newest.values())).key

    def _make_lineage(self, ancestors: tuple[Ancestor, ...]) -> _Lineage:
        return _Lineage(ancestors, lineage_json(ancestors, self._boot_ns))

    def _lineage(self, task: Task, facts: ProcessFacts | None) -> _Lineage:
        """The parent and its lineage, as they are now."""
        if facts is not None:
            parent = self._living(task.parent_pid, facts.parent_start_time)
        else:
            parent = self._newest.get(task.parent_pid)
        if parent is None or (parent.pid, parent.start_time) == (task.pid, task.start_time):
            return self._no_lineage
        if parent.lineage_of_children is None:
            own = self._as_ancestor(parent)
            ancestors = (own, *parent.lineage.ancestors[: LINEAGE_LENGTH - 1])
            parent.lineage_of_children = self._make_lineage(ancestors)
        return parent.lineage_of_children

    def _living(self, pid: int, start_time: int) -> _Program | None:
        return self._running(pid, start_time) or self._from_proc(pid, start_time)

    def _from_proc(self, pid: int, start_time: int, exec_id: int = 0) -> _Program | None:
        """The process as /proc knew it, when it is the same and no other with its pid."""
        seen = self._older.get(pid)
        if seen is None or not 0 <= start_time - seen.start_time < TICK_NS:
            return None
        lineage = self._make_lineage(tuple(self._ancestors(seen)))
        return _Program(pid, start_time, exec_id, seen.path, None, lineage, None, None)

    def _ancestors(self, seen: OlderProcess) -> Iterator[Ancestor]:
        """The lineage of a process that /proc knew."""
        for _ in range(LINEAGE_LENGTH):
            parent = self._older.get(seen.parent_pid)
            if parent is None:
                break
            uuid = self._uuid(parent.pid, parent.start_time)
            yield Ancestor(parent.pid, parent.path, parent.start_time, uuid, None, None, None)
            seen = parent

    def _as_ancestor(self, program: _Program) -> Ancestor:
        pid, start_time = program.pid, program.start_time
        uuid = self._uuid(pid, start_time)
        inside = None if program.facts is None else program.facts.namespace_pid
        ids = program.uid, program.euid
        of_host, script = program.of_host, program.script
        return Ancestor(pid, program.path, start_time, uuid, inside, *ids, of_host, script)

    def _view(self, raw: bytes, task: Task) -> Process:
        """The process as one record describes it: its ids and comm can change at any time."""
        known = self._old_views.pop(raw, None)
        if known is not None:
            self._remember(raw, known)
            return known
        program = self._get(*_key(task))
        if program is None:
            program = self._from_proc(*_key(task))
            if program is not None:
                self._put(program)
            else:
                self.unknown += 1
                program = self._add(task, "", None)
        if (program.uid, program.euid) != (task.uid, task.euid):
            program.uid, program.euid = task.uid, task.euid
            # Children that it has from now on are made by somebody else.
            program.lineage_of_children = None
        if len(program.views) >= VIEWS_LIMIT:
            self._forget_view(program.views[0])
            program.views = program.views[1:]
        program.views = (*program.views, raw)
        uuid = self._uuid(program.pid, program.start_time)
        view = Process(task, program.path, program.facts, program.lineage.ancestors, uuid, b"")
        view.of_host, view.script = program.of_host, program.script
        self._remember(raw, view)
        container = self.containers.describe(view)
        self.users.describe(view)
        self._rewrite(view, container, program.lineage.json)
        return view

    def _remember(self, raw: bytes, view: Process) -> None:
        """Views that nobody asks for while others are made go, the program stays."""
        if len(self._views) >= YOUNG_VIEWS:
            for old, gone in self._old_views.items():
                program = self._get(*_key(gone.task))
                if program is not None:
                    program.views = tuple(each for each in program.views if each != old)
            self._old_views = dict(self._views)
            self._views.clear()
        self._views[raw] = view

    def _shown(self) -> Iterator[Process]:
        """What events may still be given."""
        yield from self._views.values()
        yield from self._old_views.values()

    def _on_container(self, process: Process, container: str) -> None:
        # It may have waited in an event while its user became known.
        self.users.describe(process)
        self._rewrite(process, container)

    def _forget_view(self, raw: bytes) -> None:
        self._views.pop(raw, None)
        self._old_views.pop(raw, None)

    def _forget_views(self, program: _Program) -> None:
        for raw in program.views:
            self._forget_view(raw)
        program.views = ()

    def _rewrite(
        self, process: Process, container: str | None = None, lineage: str | None = None
    ) -> None:
        """Make the JSON of a process anew, with parts of it that are ready."""
        if container is None:
            container = container_json(process.container)
        if lineage is None:
            lineage = lineage_json(process.lineage, self._boot_ns)
        process.json = process_json(process, lineage, self._boot_ns, container + self._node)

    def _forget(self, now_ns: int) -> None:
        """Drop what ended so long ago that nothing comes of it any more."""
        ended = self._ended
        while ended and ended[0][0] < now_ns - self._remember_ns:
            self._drop(ended.popleft()[1])

    def _drop(self, key: _Key) -> None:
        """Forget one, if it is known."""
        pid, start_time, exec_id = key
        newer, program = None, self._newest.get(pid)
        while program is not None and not program.has(start_time, exec_id):
            newer, program = program, program.older
        if program is None:
            return
        self._known -= 1
        self._forget_views(program)
        if newer is not None:
            newer.older = program.older
        elif program.older is not None:
            self._newest[pid] = program.older
        else:
            del self._newest[pid]
        inside = _inside(program)
        if inside is not None and self._in_namespace.get(inside) is program:
            del self._in_namespace[inside]


def _inside(program: _Program) -> tuple[int, int] | None:
    """Its pid namespace and the pid in there, unless that is the initial namespace."""
    facts = program.facts
    if facts is None or facts.namespace_pid == program.pid:
        return None
    return facts.namespaces.pid, facts.namespace_pid


def _key(task: Task) -> _Key:
    return task.pid, task.start_time, task.exec_id
