# SPDX-License-Identifier: Apache-2.0
"""What the doctor says, and that it says it without root and with a broken object too."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nodeagent.cli.doctor import as_json, as_text
from nodeagent.config import Config, KernelConfig
from nodeagent.doctor import Check, Coverage, Diagnosis, State, examine
from nodeagent.event import EVENTS
from nodeagent.kernel.object import find_object

ROOT = Path(__file__).parents[2]
NOBODY = 65534

# Everything is imported before root is given up: its files may be out of reach for nobody.
# A checkout may lie where only root may look, so the object goes along through a descriptor.
AS_NOBODY = f"""
import os, sys
from nodeagent.kernel.object import find_object
fd = os.open(find_object(), os.O_RDONLY)
copy = os.memfd_create("object", 0)
os.sendfile(copy, fd, 0, os.fstat(fd).st_size)
os.fchmod(copy, 0o444)
from nodeagent.cli.doctor import as_json
from nodeagent.config import Config, KernelConfig
from nodeagent.doctor import examine
if os.geteuid() == 0:
    os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
kernel = KernelConfig(object=f"/proc/{{os.getpid()}}/fd/{{copy}}")
print(as_json(examine(Config(kernel=kernel)), debug=False))
"""

LOST_HALF = Diagnosis(
    checks=[
        Check("privileges", State.OK, "root"),
        Check("fentry", State.DEGRADED, "refused", "boot it another way", "libbpf: said this"),
    ],
    kinds=[
        Coverage("exec", State.OK, "tracepoint", ["on_exec", "enter_execve"], ""),
        Coverage("open", State.MISSING, "", [], "no tracepoint syscalls/sys_exit_openat"),
    ],
    why_no_trampolines="refused",
    memory_bytes={"bulk": 8_433_992, "high": 1_065_288},
)


def state_of(found: Diagnosis, name: str) -> State:
    return next(check.state for check in found.checks if check.name == name)


def test_every_line_fits_into_80_columns() -> None:
    long = "a word and another " * 12
    checks = [Check("name", State.DEGRADED, long, long)]
    kinds = [Coverage("connect", State.OK, "tracepoint", ["a_program_of_the_object"] * 7, long)]
    lines = as_text(Diagnosis(checks=checks, kinds=kinds), debug=False, colourful=False).split("\n")
    assert max(map(len, lines)) <= 80


def test_a_check_is_a_line_and_its_advice_stands_below() -> None:
    lines = as_text(LOST_HALF, debug=False, colourful=False).split("\n")
    assert lines[:3] == [
        "ok        privileges      root",
        "degraded  fentry          refused",
        "                          boot it another way",
    ]


def test_a_kind_without_hooks_says_why() -> None:
    text = as_text(LOST_HALF, debug=False, colourful=False)
    words = [line.split() for line in text.splitlines()]
    assert ["exec", "tracepoint", "on_exec", "enter_execve"] in [line[:4] for line in words]
    assert ["open", "missing", "-"] in [line[:3] for line in words]
    assert "no tracepoint" in text
    assert text.endswith("The agent can run here, without the kinds that are missing above.")


def test_what_is_not_seen_is_said() -> None:
    text = as_text(LOST_HALF, debug=False, colourful=False)
    for what in ("io_uring", "ia32", "x32", "MSG_FASTOPEN"):
        assert what in text


def test_the_memory_is_summed_up() -> None:
    assert "all maps: 9,499,280 bytes" in as_text(LOST_HALF, debug=False, colourful=False)


def test_colour_only_when_asked_for() -> None:
    assert "\033" not in as_text(LOST_HALF, debug=False, colourful=False)
    assert "\033[33mdegraded  \033[0mfentry" in as_text(LOST_HALF, debug=False, colourful=True)


def test_the_log_of_libbpf_only_with_debug() -> None:
    assert "said this" not in as_text(LOST_HALF, debug=False, colourful=False)
    assert "said this" in as_text(LOST_HALF, debug=True, colourful=False)
    assert "said this" not in as_json(LOST_HALF, debug=False)
    assert "said this" in as_json(LOST_HALF, debug=True)


def test_json_says_the_same() -> None:
    shown = json.loads(as_json(LOST_HALF, debug=False))
    assert shown["can_run"] is True
    assert shown["checks"][1] == {
        "name": "fentry",
        "state": "degraded",
        "found": "refused",
        "advice": "boot it another way",
    }
    assert shown["kinds"][0]["programs"] == ["on_exec", "enter_execve"]
    assert shown["memory_bytes"]["high"] == 1_065_288


def test_one_missing_check_and_the_agent_cannot_run() -> None:
    found = Diagnosis(checks=[Check("kernel BTF", State.MISSING, "none")])
    assert not found.can_run
    text = as_text(found, debug=False, colourful=False)
    assert text.endswith("The agent cannot run here; missing: kernel BTF.")


def diagnosed_by_nobody() -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_without_root_it_goes_as_far_as_it_can() -> None:
    found = diagnosed_by_nobody()
    states = {check["name"]: check["state"] for check in found["checks"]}
    assert not found["can_run"]
    assert states["privileges"] == "missing"
    assert states["libbpf"] == states["kernel BTF"] == "ok"
    assert states["programs"] == states["fentry"] == "unknown"
    assert [kind["kind"] for kind in found["kinds"]] == list(EVENTS)


def test_an_object_that_is_missing_is_said(tmp_path: Path) -> None:
    found = examine(Config(kernel=KernelConfig(object=str(tmp_path / "none.o"))))
    assert state_of(found, "eBPF object") is State.MISSING
    assert "make build" in as_text(found, debug=False, colourful=False)


@pytest.mark.parametrize("length", [0, 3, 64, 5000, 200_000])
def test_an_object_that_is_cut_off_is_said(tmp_path: Path, length: int) -> None:
    cut = tmp_path / "cut.o"
    cut.write_bytes(find_object().read_bytes()[:length])
    found = examine(Config(kernel=KernelConfig(object=str(cut))))
    assert state_of(found, "eBPF object") is State.MISSING
    assert not found.can_run
