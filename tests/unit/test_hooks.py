# SPDX-License-Identifier: Apache-2.0
"""The table of hooks and the object say the same."""

from __future__ import annotations

from nodeagent.event import EVENTS
from nodeagent.kernel.features import LISTING, PROBES, PROCESS_KINDS, SERVES
from nodeagent.kernel.libbpf import Libbpf
from nodeagent.kernel.object import BpfObject, find_object


def test_every_program_of_the_object_has_its_place_in_the_table() -> None:
    with BpfObject(Libbpf(), find_object()) as opened:
        assert set(opened.programs) == {*SERVES, *PROBES, LISTING}


def test_e21_no_program_has_a_place_that_others_can_use_up() -> None:
    # A kretprobe misses calls when more are under way than it was made for.
    with BpfObject(Libbpf(), find_object()) as opened:
        sections = {opened.section(program).partition("/")[0] for program in opened.programs}
    assert sections <= {"tp_btf", "tp", "fentry", "fexit", "lsm", "iter"} | {
        "cgroup_skb",
        "cgroup",
    }


def test_every_kind_is_served() -> None:
    assert set(SERVES.values()) == set(EVENTS)
    assert set(EVENTS) > PROCESS_KINDS
