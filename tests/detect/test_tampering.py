# SPDX-License-Identifier: Apache-2.0
"""What is done to the links of an agent, which scenes cannot do: they would blind others, too."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from nodeagent.kernel.object import find_object
from tests.detect.conftest import Watch
from tests.kernel.stream import Event, Stream
from tests.requirement import need

LINK = re.compile(
    r"^link_type:\tcgroup\nlink_id:\t(\d+)\n(?:.+\n)*attach_type:\t[01]$", re.MULTILINE
)
"""On packets that come in or go out."""
DEED = """
import ctypes, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
def bpf(command, form, *values):
    passed = struct.pack(form, *values).ljust(128, b"\\0")
    return libc.syscall({number}, command, (ctypes.c_char * 128).from_buffer_copy(passed), 128)
# r0 = 1; exit: all packets pass.
code = ctypes.create_string_buffer(bytes.fromhex("b700000001000000 9500000000000000"), 16)
text = ctypes.create_string_buffer(b"GPL")
held = bpf(30, "<I", int(sys.argv[1]))
program = bpf(5, "<IIQQ36xI16sII", 8, 2, ctypes.addressof(code), ctypes.addressof(text), 0, b"", 0,
              int(sys.argv[2]))
if sys.argv[3] == "update":
    print(bpf(29, "<II", held, program))
elif sys.argv[3] == "detach":
    print(bpf(34, "<I", held))
"""
"""Takes hold of a link and does something to it: another program takes its place, or none."""
CALLS = {"x86_64": 321, "aarch64": 280}
INGRESS, EGRESS = "0", "1"


@pytest.fixture
def watch() -> Iterator[Watch]:
    need("kernel", os.geteuid() == 0, "eBPF programs can only be loaded by root")
    need("kernel", find_object().exists(), "bpf/nodeagent.bpf.o is not built")
    with Stream("--signals") as stream:
        yield Watch(stream)
        assert stream.stop() == 143


def links(pid: int) -> list[str]:
    """Those by which the agent sees DNS messages."""
    numbers = []
    for each in Path(f"/proc/{pid}/fdinfo").iterdir():
        # It opens and closes others all the time.
        with suppress(OSError):
            numbers += LINK.findall(each.read_text())
    return numbers


def tamper(watch: Watch, link: str, deed: str) -> tuple[str, list[Event]]:
    """What the kernel says, and what the agent does."""
    code = DEED.format(number=CALLS[os.uname().machine])
    for direction in (INGRESS, EGRESS):
        command = [sys.executable, "-c", code, link, direction, deed]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as done:
            said = done.communicate(timeout=20)[0].strip()
        if said != "-1":
            break
    return said, [each for each in watch.signals(done.pid) if "SecurityTool" in each["type"]]


def rules(told: list[Event]) -> set[str]:
    return {each["evidence"]["rule"] for each in told}


def test_a_link_of_the_agent_that_gets_another_program_is_told(watch: Watch) -> None:
    link, *_ = links(watch.stream.agent.pid)
    said, told = tamper(watch, link, "update")
    assert said == "0"
    assert rules(told) == {"agent_bpf_held", "agent_bpf_changed"}
    (changed,) = [each for each in told if each["severity"] == "high"]
    assert changed["context"]["bpfCommand"] == "BPF_LINK_UPDATE"


def test_a_link_of_the_agent_that_is_taken_away_is_told(watch: Watch) -> None:
    link, *_ = links(watch.stream.agent.pid)
    said, told = tamper(watch, link, "detach")
    assert said == "0"
    (changed,) = [each for each in told if each["severity"] == "high"]
    assert changed["context"]["bpfCommand"] == "BPF_LINK_DETACH"


def test_who_only_lists_programs_and_links_is_at_most_a_signal(watch: Watch) -> None:
    link, *_ = links(watch.stream.agent.pid)
    _, told = tamper(watch, link, "nothing")
    assert rules(told) == {"agent_bpf_held"}
    with subprocess.Popen(
        [sys.executable, "-m", "nodeagent", "top", "--once"], stdout=subprocess.DEVNULL
    ) as top:
        top.wait(60)
    told = [each for each in watch.signals(top.pid) if "SecurityTool" in each["type"]]
    assert rules(told) == {"agent_bpf_held"}
    assert {each["severity"] for each in told} == {"informational"}
