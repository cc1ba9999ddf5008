# SPDX-License-Identifier: Apache-2.0
"""Who makes most events while the agent sheds is named, and nobody for a busy node."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

import msgspec

from nodeagent.detect.engine import Engine
from nodeagent.detect.flood import ENOUGH, PROGRAMS_LIMIT, STEP, Flood
from nodeagent.event import AgentEvent, Event
from nodeagent.finding import Finding, Severity
from tests.events import BOOT, TIME, a_process, an_open

SECOND = 1_000_000_000
MANY = ENOUGH * STEP * 2
TYPE = "DefenseEvasion:Runtime/AgentFlooded"


def an_engine() -> Engine:
    return Engine([], boot_ns=BOOT, node="n", failures=Counter(), update_seconds=300)


def level(number: object) -> AgentEvent:
    return AgentEvent("agent.level", TIME, {"level": number})


def opens(
    number: int, *, cgroup: int = 7, path: str = "/usr/bin/flood", seconds: float = 0
) -> list[Event]:
    process = a_process(path)
    process.task = msgspec.structs.replace(process.task, cgroup=cgroup)
    event = an_open(process=process)
    event.time = TIME + int(seconds * SECOND)
    return [event] * number


def mixed(*parts: Sequence[Event]) -> list[Event]:
    return [event for together in zip(*parts, strict=True) for event in together]


def found(*batches: Sequence[Event]) -> list[Finding]:
    """By an agent that sheds."""
    engine = an_engine()
    engine.hear(level(2))
    return [finding for batch in batches for finding in engine.inspect(batch)]


def test_who_makes_most_is_named_once() -> None:
    (finding,) = found(opens(MANY), opens(MANY, seconds=1), opens(MANY, seconds=2))
    assert (finding.type, finding.severity) == (TYPE, Severity.LOW)
    assert finding.process is not None
    assert finding.process["executablePath"] == "/usr/bin/flood"
    assert finding.context == {"cgroupId": 7, "cgroupShare": 1.0, "programShare": 1.0}
    assert finding.title.startswith("flood and others in cgroup 7 make so many events")


def test_the_program_that_makes_most_of_the_cgroup_is_named() -> None:
    others = [opens(MANY, path=f"/usr/bin/other{number % 3}") for number in range(STEP // 2 - 1)]
    batch = mixed(opens(MANY), *others)
    # The step of counting must not hit the same one each time.
    batch = [event for at in range(STEP) for event in (*batch[at:], *batch[:at])]
    (finding,) = found(batch)
    assert finding.process is not None
    assert finding.context["cgroupShare"] == 1.0


def test_nobody_is_named_when_no_cgroup_makes_most() -> None:
    parts = [opens(MANY, cgroup=number) for number in range(3)]
    assert not found(mixed(*parts))


def test_nobody_is_named_while_nothing_is_shed() -> None:
    engine = an_engine()
    assert not engine.inspect(opens(MANY))
    for each in (0, 1, "2", None):
        engine.hear(level(each))
        assert not engine.inspect(opens(MANY))


def test_few_events_are_no_flood() -> None:
    """As when memory is short."""
    quiet = [opens(STEP, seconds=number) for number in range(ENOUGH * 3)]
    assert not found(*quiet)


def test_a_level_that_comes_and_goes_is_no_storm() -> None:
    engine = an_engine()
    told = []
    for minute in range(30):
        engine.hear(level(2))
        told += engine.inspect(opens(MANY, path=f"/usr/bin/cc{minute}", seconds=60 * minute))
        engine.hear(level(0))
    assert len(told) == 3


def test_a_flood_makes_no_finding_of_a_signal_as_weak() -> None:
    engine = an_engine()
    engine.hear(level(3))
    (finding,) = engine.inspect(opens(MANY))
    assert finding.evidence["weight"] == 20


def test_what_is_remembered_is_bounded() -> None:
    flood = Flood()
    flood.hear(level(2))
    for number in range(PROGRAMS_LIMIT * 3):
        flood._events.clear()
        flood.count(opens(1, path=f"/usr/bin/{number}"))
    assert len(flood._last) == PROGRAMS_LIMIT


def test_counting_costs_next_to_nothing() -> None:
    flood = Flood()
    flood.hear(level(2))
    batch = mixed(*(opens(1000, cgroup=number) for number in range(3)))
    best = 1.0
    for _ in range(20):
        started = time.thread_time()
        flood.count(batch)
        best = min(best, time.thread_time() - started)
    assert best / len(batch) < 0.3e-6
