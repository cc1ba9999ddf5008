# SPDX-License-Identifier: Apache-2.0
"""Who did it: right through fork, exec, exit, reuse of pids and late events."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from nodeagent.enrich import process
from nodeagent.enrich.process import ProcessTable
from nodeagent.event import (
    TICK_NS,
    Event,
    Namespaces,
    OlderProcess,
    Other,
    Process,
    ProcessSeen,
    Task,
)
from tests.events import (
    BOOT,
    TIME,
    a_fork,
    a_kill,
    a_task,
    an_exec,
    an_exit,
    an_open,
    an_unshare,
    some_facts,
)

SECOND = 1_000_000_000


class World:
    """A table and a clock; tasks stand for the bytes that the kernel would send."""

    def __init__(self, summary_seconds: float = 5.0) -> None:
        self.tasks: dict[bytes, Task] = {}
        self.table = ProcessTable(self.tasks.__getitem__, BOOT, summary_seconds=summary_seconds)
        self.now = TIME

    def raw(self, task: Task) -> bytes:
        key = repr(task).encode()
        self.tasks[key] = task
        return key

    def happens(self, event: Event, task: Task) -> Process:
        self.now += 1
        event.time = self.now
        event.task = self.raw(task)
        event.process = None
        self.table.enrich([event])
        assert event.process is not None
        return event.process

    def seen(self, task: Task, path: str, **facts: Any) -> ProcessSeen:
        return ProcessSeen(
            0,
            0,
            0,
            task.pid,
            0,
            self.raw(task),
            None,
            None,
            None,
            path,
            some_facts(**{"namespace_pid": task.pid, **facts}),
        )


@pytest.fixture
def world() -> World:
    return a_world()


def a_world(summary_seconds: float = 5.0) -> World:
    made = World(summary_seconds)
    init = a_task(pid=1, parent_pid=0, start_time=1, exec_id=0, comm="init")
    shell = a_task(pid=100, parent_pid=1, start_time=50)
    # The children come first, as an iterator may give them.
    made.table.fill(
        [
            made.seen(shell, "/bin/bash", parent_start_time=1),
            made.seen(init, "/sbin/init", parent_start_time=0),
        ]
    )
    return made


SHELL = a_task(pid=100, parent_pid=1, start_time=50)
CHILD = a_task(pid=101, parent_pid=100, start_time=90)
CHILD_PROGRAM = a_task(pid=101, parent_pid=100, start_time=90, exec_id=2, comm="ls")


def lineage(process: Process) -> list[tuple[int, str]]:
    return [(ancestor.pid, ancestor.path) for ancestor in process.lineage]


def test_process_older_than_the_agent_has_its_lineage(world: World) -> None:
    process = world.happens(an_open(), SHELL)
    assert process.path == "/bin/bash"
    assert lineage(process) == [(1, "/sbin/init")]


def test_child_runs_the_program_of_its_parent_until_exec(world: World) -> None:
    world.happens(a_fork(child=CHILD, facts=some_facts(parent_start_time=50)), SHELL)
    assert world.happens(an_open(), CHILD).path == "/bin/bash"
    after = world.happens(an_exec(path="/bin/ls"), CHILD_PROGRAM)
    assert after.path == "/bin/ls"
    assert lineage(after) == [(100, "/bin/bash"), (1, "/sbin/init")]


def test_lineage_tells_who_each_ancestor_was(world: World) -> None:
    world.happens(an_open(), msgspec.structs.replace(SHELL, uid=1000, euid=1000))
    child = world.happens(a_fork(child=CHILD, facts=some_facts(parent_start_time=50)), SHELL)
    assert [(a.uid, a.euid, a.namespace_pid) for a in child.lineage] == [(0, 0, 1)]
    shell, init = world.happens(an_open(), CHILD).lineage
    assert (shell.uid, shell.euid, shell.namespace_pid) == (0, 0, 100)
    assert init.uuid != shell.uuid == child.uuid


def test_children_after_a_change_of_user_have_another_parent(world: World) -> None:
    facts = some_facts(parent_start_time=50)
    world.happens(a_fork(child=CHILD, facts=facts), SHELL)
    dropped = msgspec.structs.replace(SHELL, uid=1000, euid=1000)
    second = a_task(pid=102, parent_pid=100, start_time=91)
    world.happens(a_fork(child=second, facts=facts), dropped)
    assert world.happens(an_open(), CHILD).lineage[0].uid == 0
    assert world.happens(an_open(), second).lineage[0].uid == 1000


def test_uuid_stays_through_exec_and_is_that_of_the_target(world: World) -> None:
    before = world.happens(an_open(), CHILD)
    after = world.happens(an_exec(path="/bin/ls"), CHILD_PROGRAM)
    killed = a_kill(target=Other(start_time=90, pid=101, passed_pid=101))
    world.happens(killed, SHELL)
    assert killed.target_process is not None
    assert before.uuid == after.uuid == killed.target_process.uuid
    assert json.loads(killed.target_process.json)["uuid"] == after.uuid


def test_failed_exec_changes_nothing(world: World) -> None:
    assert world.happens(an_exec(path="", result=-2), SHELL).path == "/bin/bash"


def test_late_event_is_of_the_program_that_caused_it(world: World) -> None:
    world.happens(a_fork(child=CHILD, facts=some_facts(parent_start_time=50)), SHELL)
    world.happens(an_exec(path="/bin/ls"), CHILD_PROGRAM)
    world.happens(an_exit(), CHILD_PROGRAM)
    assert world.happens(an_open(), CHILD).path == "/bin/bash"
    assert world.happens(an_open(), CHILD_PROGRAM).path == "/bin/ls"


def test_reused_pid_is_another_process(world: World) -> None:
    world.happens(a_fork(child=CHILD, facts=some_facts(parent_start_time=50)), SHELL)
    world.happens(an_exit(), CHILD)
    again = a_task(pid=101, parent_pid=1, start_time=95)
    init = a_task(pid=1, parent_pid=0, start_time=1, exec_id=0, comm="init")
    world.happens(a_fork(child=again, facts=some_facts(parent_start_time=1)), init)
    process = world.happens(an_open(), again)
    assert process.path == "/sbin/init"
    assert lineage(process) == [(1, "/sbin/init")]


def test_changed_credentials_and_name_are_seen_at_once(world: World) -> None:
    before = json.loads(b"{" + world.happens(an_open(), SHELL).json[1:])["process"]
    renamed = a_task(pid=100, parent_pid=1, start_time=50, euid=7, comm="sshd")
    after = json.loads(b"{" + world.happens(an_open(), renamed).json[1:])["process"]
    assert (before["euid"], before["comm"]) == (0, "bash")
    assert (after["euid"], after["comm"]) == (7, "sshd")
    assert after["path"] == before["path"] == "/bin/bash"


def test_unknown_process_is_counted_and_finds_its_parent_by_pid(world: World) -> None:
    stranger = a_task(pid=500, parent_pid=100, start_time=400)
    process = world.happens(an_open(), stranger)
    assert (process.path, process.facts) == ("", None)
    assert lineage(process) == [(100, "/bin/bash"), (1, "/sbin/init")]
    assert world.table.unknown == 1


def test_list_tells_what_an_unknown_process_is_and_changes_nothing_else(world: World) -> None:
    stranger = a_task(pid=500, parent_pid=100, start_time=400)
    world.happens(an_open(), stranger)
    shell = world.happens(an_open(), SHELL)
    world.table.fill(
        [
            world.seen(stranger, "/usr/bin/strange", parent_start_time=50),
            world.seen(SHELL, "/bin/other", parent_start_time=1),
        ]
    )
    process = world.happens(an_open(), stranger)
    assert process.path == "/usr/bin/strange"
    assert process.facts is not None
    assert lineage(process) == [(100, "/bin/bash"), (1, "/sbin/init")]
    assert world.happens(an_open(), SHELL) is shell


def test_process_that_slept_is_described_as_before(world: World) -> None:
    shell = world.happens(an_open(), SHELL)
    for pid in range(1000, 1000 + 3 * process.YOUNG_VIEWS):
        world.happens(an_open(), a_task(pid=pid, parent_pid=100, start_time=pid))
    assert len(world.table._views) + len(world.table._old_views) <= 2 * process.YOUNG_VIEWS
    again = world.happens(an_open(), SHELL)
    assert again is not shell
    assert again.json == shell.json


def test_process_from_proc_is_the_one_of_the_same_tick_only(world: World) -> None:
    older = OlderProcess(pid=60, parent_pid=61, start_time=4 * TICK_NS, path="/sbin/hidden")
    parent = OlderProcess(pid=61, parent_pid=0, start_time=0, path="/sbin/first")
    world.table.fill_older([older, parent])
    same = world.happens(an_open(), a_task(pid=60, parent_pid=61, start_time=4 * TICK_NS + 7))
    assert (same.path, lineage(same)) == ("/sbin/hidden", [(61, "/sbin/first")])
    other = world.happens(an_open(), a_task(pid=60, parent_pid=61, start_time=5 * TICK_NS))
    assert other.path == ""
    assert world.table.unknown == 1


def test_lineage_has_at_most_sixteen_steps(world: World) -> None:
    parent = SHELL
    for pid in range(200, 230):
        child = a_task(pid=pid, parent_pid=parent.pid, start_time=pid)
        facts = some_facts(parent_start_time=parent.start_time)
        world.happens(a_fork(child=child, facts=facts), parent)
        parent = child
    process = world.happens(an_open(), parent)
    assert [ancestor.pid for ancestor in process.lineage] == list(range(228, 212, -1))


@pytest.mark.parametrize("summary_seconds", [5, 60])
def test_what_has_ended_is_remembered_until_its_counts_have_come(summary_seconds: int) -> None:
    world = a_world(summary_seconds)
    before = len(world.table)
    world.happens(a_fork(child=CHILD, facts=some_facts(parent_start_time=50)), SHELL)
    world.happens(an_exec(path="/bin/ls"), CHILD_PROGRAM)
    world.happens(an_exit(), CHILD_PROGRAM)
    assert len(world.table) == before + 2
    world.now += 2 * summary_seconds * SECOND
    world.happens(an_open(), SHELL)
    assert world.happens(an_open(), CHILD_PROGRAM).path == "/bin/ls"
    world.now += process.GRACE_NS
    world.happens(an_open(), SHELL)
    world.happens(an_open(), SHELL)
    assert len(world.table) == before


def test_table_is_bounded_and_counts_what_it_drops(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "PROGRAMS_LIMIT", 10)
    for pid in range(1000, 1100):
        world.happens(an_open(), a_task(pid=pid, parent_pid=1, start_time=pid))
    assert len(world.table) == 10
    assert world.table.forgotten == 92


def test_process_that_renames_itself_for_ever_costs_bounded_memory(world: World) -> None:
    for number in range(1000):
        task = a_task(pid=100, parent_pid=1, start_time=50, comm=str(number))
        world.happens(an_open(), task)
    assert len(world.table._views) == process.VIEWS_LIMIT


def test_target_is_found_by_the_pid_that_was_passed(world: World) -> None:
    kill = a_kill(target_process=None, target=Other(start_time=0, pid=0, passed_pid=100))
    world.happens(kill, a_task(pid=1, parent_pid=0, start_time=1, exec_id=0, comm="init"))
    assert kill.target_process is not None
    assert (kill.target_process.pid, kill.target_process.path) == (100, "/bin/bash")


def test_nobody_has_the_number_of_the_kernel(world: World) -> None:
    nobody = a_task(pid=0, parent_pid=0, start_time=0, exec_id=0, comm="kernel")
    world.happens(an_open(), nobody)
    kill = a_kill(target_process=None, target=Other(start_time=0, pid=0, passed_pid=0))
    world.happens(kill, a_task(pid=1, parent_pid=0, start_time=1, exec_id=0, comm="init"))
    assert kill.target_process is None


def test_target_that_the_kernel_names_is_found_by_its_identity(world: World) -> None:
    other = a_kill(target_process=None, target=Other(start_time=51, pid=100, passed_pid=100))
    world.happens(other, SHELL)
    assert other.target_process is None
    same = a_kill(target_process=None, target=Other(start_time=50, pid=100, passed_pid=1))
    world.happens(same, SHELL)
    assert same.target_process is not None
    assert same.target_process.path == "/bin/bash"


def test_target_in_a_pid_namespace_is_found_by_its_number_in_there(world: World) -> None:
    facts = some_facts(parent_start_time=50, namespace_pid=7)
    inside = a_task(pid=102, parent_pid=100, start_time=91)
    world.happens(
        a_fork(child=CHILD, facts=some_facts(parent_start_time=50, namespace_pid=6)), SHELL
    )
    world.happens(a_fork(child=inside, facts=facts), SHELL)
    kill = a_kill(target_process=None, target=Other(start_time=0, pid=0, passed_pid=7))
    world.happens(kill, CHILD)
    assert kill.target_process is not None
    assert kill.target_process.pid == 102


def test_new_namespaces_show_in_what_the_process_does_from_then_on(world: World) -> None:
    before = world.happens(an_open(), SHELL)
    facts = some_facts(parent_start_time=1, capabilities=0)
    world.happens(an_unshare(facts=facts), SHELL)
    after = world.happens(an_open(), SHELL)
    assert before.facts is not None
    assert before.facts.capabilities
    assert after.facts == facts


def test_program_is_of_the_host_where_it_was_started_not_where_it_went(
    world: World,
) -> None:
    inside = a_task(pid=102, parent_pid=100, start_time=91, exec_id=0)
    container = Namespaces(cgroup=1, ipc=1, mnt=1, net=1, pid=1, time=1, user=1, uts=1)
    facts = some_facts(parent_start_time=50, namespace_pid=1, namespaces=container)
    world.happens(a_fork(child=inside, facts=facts), SHELL)
    # What makes a container goes into it.
    assert world.happens(an_open(), inside).of_host
    own = world.happens(an_exec(path="/usr/bin/runc", facts=facts), inside)
    assert not own.of_host
    child = a_task(pid=103, parent_pid=102, start_time=92)
    facts = some_facts(parent_start_time=91, namespace_pid=2, namespaces=container)
    world.happens(a_fork(child=child, facts=facts), inside)
    copy = world.happens(an_open(), child)
    assert not copy.of_host
    assert [each.of_host for each in copy.lineage[:2]] == [False, True]


def test_script_goes_with_a_process_and_what_it_forks_until_another_program(world: World) -> None:
    facts = some_facts(parent_start_time=50)
    manager = a_task(pid=110, parent_pid=100, start_time=95, exec_id=0)
    world.happens(a_fork(child=manager, facts=facts), SHELL)
    manager = msgspec.structs.replace(manager, exec_id=1)
    script = "/usr/bin/dnf"
    started = world.happens(an_exec(path="/usr/bin/python3.9", script=script, facts=facts), manager)
    assert started.script == script
    child = a_task(pid=111, parent_pid=110, start_time=96, exec_id=1)
    world.happens(a_fork(child=child, facts=some_facts(parent_start_time=95)), manager)
    assert world.happens(an_open(), child).script == script
    child = msgspec.structs.replace(child, exec_id=2)
    other = an_exec(path="/usr/bin/bash", facts=some_facts(parent_start_time=95))
    last = world.happens(other, child)
    assert last.script == ""
    assert last.lineage[0].script == script


def test_node_that_is_a_container_has_programs_of_its_own() -> None:
    made = World()
    init = a_task(pid=5001, parent_pid=0, start_time=1, exec_id=0)
    runtime = a_task(pid=5009, parent_pid=5001, start_time=2)
    made.table.fill(
        [
            made.seen(init, "/sbin/init", namespace_pid=1),
            made.seen(runtime, "/usr/bin/containerd", namespace_pid=9),
        ]
    )
    assert made.happens(an_open(), runtime).of_host


def test_failed_change_changes_nothing(world: World) -> None:
    world.happens(an_unshare(facts=some_facts(capabilities=0), result=-1), SHELL)
    facts = world.happens(an_open(), SHELL).facts
    assert facts is not None
    assert facts.capabilities
