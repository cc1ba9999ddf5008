# SPDX-License-Identifier: Apache-2.0
"""The price of the agent in a sentence, beside an agent that runs and without one."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from nodeagent.cli.impact import PROBE_OPENS, impact, sentences
from tests.kernel.stream import Stream, bpf_ids, wait_until_freed

ROWS: list[dict[str, Any]] = [
    {"kind": "open", "runs": 30_000, "runtime_ns": 12_000_000},
    {"kind": "exec", "runs": 10_000, "runtime_ns": 8_000_000},
]


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "nodeagent", "impact", "--duration", "1", *arguments]
    return subprocess.run(words, capture_output=True, text=True, check=True)


def check(found: dict[str, Any]) -> None:
    assert found["programs"] > 80
    assert found["runs"] > PROBE_OPENS
    assert 0 < found["runtime_ns"] < 1e9
    assert found["average_ns"] == found["runtime_ns"] / found["runs"]
    assert 0 < found["cpu_percent"] < 100
    assert found["probe_ns"] > 100


def test_without_an_agent_the_probe_is_measured_alone_first() -> None:
    before = bpf_ids()
    found = json.loads(command("--json").stdout)
    check(found)
    assert found["probe_ns_before"] > 100
    assert found["probe_percent"] is not None
    wait_until_freed(bpf_ids() - before)


def test_beside_an_agent_its_own_programs_are_measured() -> None:
    with Stream() as stream:
        stream.catch_up()
        found = json.loads(command("--json").stdout)
        stream.stop()
    check(found)
    assert found["probe_ns_before"] is None


def test_it_is_said_in_two_sentences() -> None:
    assert sentences(impact(ROWS, 4.0, 1000.0, 1250.0)) == (
        "In 4 s the 2 eBPF programs of nodeagent ran 40000 times\n"
        "for 20.00 ms in all, 500 ns each: 0.50 % of one core.\n"
        "To open and close a file took 1000 ns without and 1250 ns with the agent (+25 %).\n"
    )
    assert sentences(impact([], 0.5, None, 900.0)) == (
        "In 0.5 s the 0 eBPF programs of nodeagent ran 0 times\n"
        "for 0.00 ms in all: 0.00 % of one core.\n"
        "To open and close a file took 900 ns with the agent.\n"
    )
    assert all(len(line) <= 80 for line in sentences(impact(ROWS, 4.0, 1e6, 1e6)).splitlines()[:2])
