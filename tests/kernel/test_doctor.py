# SPDX-License-Identifier: Apache-2.0
"""The doctor on the running kernel: what it says is what happens, and it leaves nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from nodeagent.errors import BpfError
from nodeagent.event import EVENTS
from nodeagent.kernel.features import PROBES, SERVES
from nodeagent.kernel.libbpf import Libbpf
from nodeagent.kernel.object import find_object
from nodeagent.kernel.probe import count_runs
from tests.kernel.stream import bpf_ids

pytestmark = pytest.mark.kernel

QUIET_MOMENTS = 10


def doctor(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nodeagent", "doctor", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    done = doctor("--json")
    assert done.stderr == ""
    assert done.returncode == 0
    shown: dict[str, Any] = json.loads(done.stdout)
    return shown


def check(found: dict[str, Any], name: str) -> dict[str, str]:
    return next(check for check in found["checks"] if check["name"] == name)


def test_the_agent_can_run_here(found: dict[str, Any]) -> None:
    assert found["can_run"]
    assert not [check for check in found["checks"] if check["state"] == "missing"]


@pytest.mark.parametrize("name", ["libbpf", "kernel BTF", "eBPF object", "programs", "rings"])
def test_what_a_run_needs_is_there(found: dict[str, Any], name: str) -> None:
    assert check(found, name)["state"] == "ok"


MODULES = {"module"}
"""A kernel may be built without them."""


def test_each_kind_is_served_by_its_programs(found: dict[str, Any]) -> None:
    served = {program for kind in found["kinds"] for program in kind["programs"]}
    assert served <= set(SERVES)
    there = [kind for kind in found["kinds"] if kind["state"] == "ok"]
    assert {kind["kind"] for kind in there} >= set(EVENTS) - MODULES
    for kind in there:
        others = {
            "dns": "cgroup",
            "sendto": "cgroup",
            "older_socket": "iterator",
            "kernel_hook": "iterator",
        }
        assert kind["family"] == others.get(kind["kind"], "tracepoint")
        assert kind["programs"]


def runs_of(program: str) -> int | str | None:
    """How often a probe ran, or why the kernel refuses it."""
    try:
        return count_runs(Libbpf(), find_object(), program)
    except BpfError as error:
        return os.strerror(error.errno)


@pytest.mark.parametrize("program", PROBES)
def test_a_probe_says_what_the_kernel_says(found: dict[str, Any], program: str) -> None:
    said = check(found, PROBES[program])
    runs = runs_of(program)
    if isinstance(runs, str):
        assert said["state"] == "degraded"
        assert runs in said["found"]
    else:
        assert said["state"] == ("degraded" if runs == 0 else "ok")


def test_the_memory_holds_the_rings(found: dict[str, Any]) -> None:
    memory = found["memory_bytes"]
    assert memory["high"] >= 1 << 20
    assert memory["bulk"] >= 8 << 20
    assert {"scratches", "counters", "settings"} <= set(memory)


def test_the_process_list_holds_at_least_this_process(found: dict[str, Any]) -> None:
    count, _, rest = check(found, "process list")["found"].partition(" ")
    assert int(count) >= 2
    assert "task iterator" in rest


def test_the_text_says_the_same_in_80_columns(found: dict[str, Any]) -> None:
    done = doctor()
    assert done.returncode == 0
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "\033" not in done.stdout
    for each in found["checks"]:
        assert each["name"] in done.stdout


def test_nothing_is_left_behind() -> None:
    left = set()
    # Other programs come and go: one quiet moment is enough, a leak is there in each.
    for _ in range(QUIET_MOMENTS):
        before = bpf_ids()
        doctor()
        left = bpf_ids() - before
        if not left:
            return
    pytest.fail(f"left behind: {sorted(left)}")
