# SPDX-License-Identifier: Apache-2.0
"""Every case of tests/cases, on the kernels of several releases."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from tests.cases import Case, all_cases
from tests.detect.shapes import misfits
from tests.findings import Note, note_found, note_near
from tests.kernel.stream import spoken
from tests.matrix import judge, note_cell
from tests.vm.guest import BOTH, STEPS, TRAMPOLINE
from tests.vm.kernels import PLACES, Place, fetched
from tests.vm.machine import Report
from tests.vm.pool import LOAD_MODULE

pytestmark = pytest.mark.vm

NO_SLOWER = 1.2
"""Times; half of what tracepoints cost in a guest, where 447 ns become 631 ns."""

# One scope for all, so that the tests of a kernel stand together.
each_place = pytest.mark.parametrize("place", PLACES, ids=str, scope="session")
each_family = pytest.mark.parametrize(
    ("place", "family"),
    [
        pytest.param(place, family, id=f"{place}-{family}")
        for place in PLACES
        for family in place.families
    ],
    scope="session",
)


@each_place
def test_doctor_finds_that_the_agent_can_run(report: Report) -> None:
    assert report.doctor.code == 0, report.doctor.output + report.doctor.errors


@each_family
def test_agent_starts_and_loses_nothing(report: Report, family: str) -> None:
    watched = report.families[family]
    assert watched.ready, watched.errors
    assert watched.code == 128 + signal.SIGTERM, watched.errors
    (end,) = [event for event in watched.events if event["kind"] == "agent.stop"]
    assert {kind: counts["lost"] for kind, counts in end["kinds"].items() if counts["lost"]} == {}
    # Each hook has seen what the agent does itself to try it.
    assert end["dead"] == []
    assert end["kinds"]["rename"]["filtered"]
    # But for what a filter keeps from trampolines, which is no reason to call them dead.
    assert bool(end["kinds"]["pivot_root"]["filtered"]) == (family != TRAMPOLINE)


@each_place
def test_two_agents_tell_one_event_by_trampolines(place: Place, report: Report) -> None:
    if TRAMPOLINE not in place.families:
        pytest.skip("this kernel takes no trampolines")
    both = report.hand_over
    assert both is not None
    assert both.ready, both.errors
    assert both.code == 0
    old, new = (
        {
            (e["kind"], e["time"], e["tid"])
            for e in events
            if e["kind"] in {"bind", "setuid"} or "/nowhere/" in str(e.get("argument"))
            if e["process"]["pid"] == both.pid
        }
        for events in (both.old, both.new)
    )
    assert old == new
    assert Counter(kind for kind, _, _ in old) == dict.fromkeys(("open", "bind", "setuid"), BOTH)


@each_family
def test_e28_stream_says_that_the_clock_was_stepped(report: Report, family: str) -> None:
    stepped, told, times = 0.0, [], []
    for event in report.families[family].events:
        if event["kind"] == "agent.clock":
            told.append(event["stepped_seconds"])
            stepped += told[-1]
        elif event["kind"] == "exit":
            times.append(datetime.fromisoformat(event["time"]).timestamp() - stepped)
    assert told == pytest.approx(STEPS, abs=1.0)
    # What the steps do not explain is how two processors call the time.
    assert all(later - earlier > -0.1 for earlier, later in pairwise(times))
    assert times[-1] - times[0] < 1800


@each_place
def test_call_that_no_agent_looks_at_costs_nothing_more_by_trampolines(
    place: Place, report: Report, record_property: Note
) -> None:
    for family, watched in report.families.items():
        before, beside, after = watched.call_ns
        told = f"{place} {family}: {before:.0f} ns, {beside:.0f} ns with the agent, {after:.0f} ns"
        record_property("unrelated call", told)
        # What else the host does slows a guest down for minutes: the slower of the two counts.
        assert family != TRAMPOLINE or beside < max(before, after) * NO_SLOWER, told


@each_family
def test_module_that_is_loaded_is_found(
    place: Place, family: str, report: Report, record_property: Note
) -> None:
    if not fetched()[str(place)].module:
        pytest.skip("this kernel comes without modules")
    type_ = "DefenseEvasion:Runtime/KernelModuleLoaded"
    watched = report.families[family]
    done = watched.acts[LOAD_MODULE]
    assert done.code == 0, done.output + done.errors
    said = spoken(done.output)
    assert said["result"] == 0
    (found,) = findings_of(watched.events, said["pid"])
    assert (found["type"], found["severity"]) == (type_, "high")
    assert found["context"]["moduleName"] == "dummy"
    assert found["context"]["moduleFilePath"] == f"/modules/{report.release}.ko"
    assert not list(misfits(found))
    note_found(record_property, found)
    # It unloads one, as rmmod does.
    near = spoken(watched.acts["delete-module-refused"].output)
    assert not findings_of(watched.events, near["pid"])
    note_near(record_property, type_)


@each_family
def test_pointer_of_the_kernel_that_was_changed_is_found(
    family: str, report: Report, record_property: Note
) -> None:
    hooked = report.families[family].hooked
    if not hooked:
        pytest.skip("this kernel does not say where its tables are")
    type_ = "DefenseEvasion:Runtime/KernelHooked"
    events = report.families[family].events
    # Before that a module was loaded and trampolines were attached: these change no pointer.
    told = {e["table"]: e for e in events if e["kind"] == "kernel_hook"}
    assert len(told) == sum(e["kind"] == "kernel_hook" for e in events)
    assert told.keys() == hooked.keys()
    found = {e["context"]["kernelTable"]: e for e in events if e.get("type") == type_}
    assert found.keys() == told.keys()
    for table, hook in hooked.items():
        shown = {name: told[table].get(name) for name in ("index", "address", "module")}
        wanted = msgspec.to_builtins(hook)
        assert shown == wanted | {"module": hook.module or None}
        assert found[table]["severity"] == "high"
        assert found[table]["context"]["moduleName"] == (hook.module or "hidden")
        assert found[table]["process"]["name"] == "kernel"
        assert not list(misfits(found[table]))
        note_found(record_property, found[table])
    note_near(record_property, type_)


def findings_of(events: Iterable[dict[str, Any]], pid: int) -> list[dict[str, Any]]:
    return [e for e in events if e["kind"] == "finding" and e["process"]["pid"] == pid]


@each_family
@pytest.mark.parametrize("case", all_cases(), ids=lambda case: case.name)
def test_case(place: Place, family: str, report: Report, case: Case, record_property: Note) -> None:
    note_cell(record_property, case, f"{report.version} {place.architecture}", family)
    watched = report.families[family]
    if not watched.ready:
        pytest.fail("the agent did not start", pytrace=False)
    done = watched.acts[case.name]
    assert done.code == case.code, done.output + done.errors
    judge(case, watched.events, spoken(done.output), report.release)
