# SPDX-License-Identifier: Apache-2.0
"""Events wait for the name of their container, in order, and never for long."""

from __future__ import annotations

import json

from nodeagent.encode import encode
from nodeagent.enrich import container
from nodeagent.enrich.process import YOUNG_VIEWS, ProcessTable
from nodeagent.enrich.user import UserSeen
from nodeagent.event import Event, Task
from tests.events import BOOT, TIME, a_container, a_fork, a_task, an_open, some_facts

CGROUP = 4711
WAITING = 3


class World:
    """A table, and opens of processes in one cgroup."""

    def __init__(self, waiting_events: int = WAITING) -> None:
        self.tasks: dict[bytes, Task] = {}
        self.processes = ProcessTable(self.tasks.__getitem__, BOOT, waiting_events=waiting_events)
        self.containers = self.processes.containers
        self.now = TIME

    def open(self, cgroup: int = CGROUP, pid: int = 7) -> list[Event]:
        """What may go on after one more open."""
        task = a_task(cgroup=cgroup, pid=pid)
        key = repr(task).encode()
        self.tasks[key] = task
        self.now += 1
        event = an_open(time=self.now, task=key, process=None)
        self.processes.enrich([event])
        return self.containers.hold([event])


def shown(event: Event) -> object:
    return json.loads(encode([event])).get("container")


def test_events_of_a_new_cgroup_wait_in_order_until_it_is_told() -> None:
    world = World()
    assert world.open() == []
    assert world.open() == []
    assert world.containers.waiting == 2
    assert world.containers.take_unknown() == [(CGROUP, None)]
    assert world.containers.take_unknown() == []
    events = world.containers.tell(CGROUP, a_container())
    assert [event.time for event in events] == [TIME + 1, TIME + 2]
    assert all(event.process and event.process.container == a_container() for event in events)
    assert world.containers.waiting == 0


def test_what_waited_is_complete_even_if_its_process_is_forgotten() -> None:
    world = World()
    child = a_task(cgroup=CGROUP, pid=7)
    world.tasks[b"parent"] = a_task(pid=6)
    world.processes.enrich([a_fork(task=b"parent", child=child, facts=some_facts())])
    world.open()
    (question,) = world.processes.users.take_questions()
    for pid in range(1000, 1000 + 3 * YOUNG_VIEWS):
        world.open(cgroup=container.NO_CGROUP, pid=pid)
    world.processes.users.tell(UserSeen(question.key, "shopkeeper"))
    (event,) = world.containers.tell(CGROUP, a_container())
    assert isinstance(found := shown(event), dict)
    assert found["pod"]["name"]
    assert json.loads(encode([event]))["process"]["user"] == "shopkeeper"


def test_json_of_what_waited_has_the_container() -> None:
    world = World()
    world.open()
    (event,) = world.containers.tell(CGROUP, a_container())
    assert isinstance(found := shown(event), dict)
    assert found["pod"]["namespace"] == "shop"


def test_events_of_others_do_not_wait() -> None:
    world = World()
    world.containers.tell(1, None)
    world.open()
    (event,) = world.open(cgroup=1)
    assert shown(event) is None


def test_what_comes_later_is_known_at_once() -> None:
    world = World()
    world.containers.tell(CGROUP, a_container())
    (event,) = world.open()
    assert event.process is not None
    assert event.process.container == a_container()
    assert world.containers.take_unknown() == []


def test_one_event_too_many_lets_all_go_without() -> None:
    world = World()
    for _ in range(WAITING):
        assert world.open() == []
    assert len(world.open()) == WAITING + 1
    assert world.containers.timeouts == WAITING + 1
    assert len(world.open()) == 1


def test_late_answer_completes_the_processes_that_went_on_without() -> None:
    world = World(waiting_events=0)
    (event,) = world.open()
    assert shown(event) is None
    assert world.containers.tell(CGROUP, a_container(enrichment="timeout")) == []
    world.containers.tell(CGROUP, a_container())
    assert isinstance(found := shown(event), dict)
    assert found["enrichment"] == "complete"


def test_what_waits_at_the_end_is_let_go() -> None:
    world = World()
    world.open()
    world.open(cgroup=CGROUP + 1)
    assert len(world.containers.release_all()) == 2
    assert world.containers.waiting == 0


def test_path_that_the_kernel_told_comes_with_the_question() -> None:
    world = World()
    world.containers.learn_path(CGROUP, "/kubepods/pod1")
    world.open()
    assert world.containers.take_unknown() == [(CGROUP, "/kubepods/pod1")]


def test_cgroups_are_bounded() -> None:
    world = World(waiting_events=0)
    for number in range(container.CGROUPS_LIMIT + 10):
        world.containers.tell(number, None)
        world.containers.learn_path(number, "/x")
    assert len(world.containers._cgroups) == container.CGROUPS_LIMIT
    assert len(world.containers._paths) == container.CGROUPS_LIMIT
