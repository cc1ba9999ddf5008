# SPDX-License-Identifier: Apache-2.0
"""What each eBPF program costs the verifier: its size, the instructions it follows, the stack.

Needs nothing but the agent, so it also runs in the virtual machines.
"""

from __future__ import annotations

import ctypes
import re
from pathlib import Path
from typing import Final

import msgspec

from nodeagent.errors import BpfError
from nodeagent.kernel.features import LISTING, SERVES
from nodeagent.kernel.libbpf import Libbpf
from nodeagent.kernel.object import BpfObject, find_object
from nodeagent.kernel.program import program_facts

LOG_BYTES: Final = 1 << 16
STATISTICS_ONLY: Final = 4
"""Log level of the verifier, BPF_LOG_STATS."""

STACK: Final = re.compile(r"^stack depth ([0-9+]+)", re.MULTILINE)
PROCESSED: Final = re.compile(r"^processed (\d+) insns", re.MULTILINE)


class Size(msgspec.Struct, frozen=True):
    """One program on one kernel."""

    instructions: int
    """As the kernel runs them."""
    verified: int
    """Followed by the verifier, over all paths."""
    stack: int
    """Bytes, of the program and all functions that it calls."""


def sizes(libbpf: Libbpf, path: Path) -> dict[str, Size]:
    """Each program of the object that this kernel takes, each loaded alone."""
    with BpfObject(libbpf, path) as opened:
        names = [name for name in (*SERVES, LISTING) if name in opened.programs]
    found = {}
    for name in names:
        try:
            found[name] = size_of(libbpf, path, name)
        except BpfError:
            # Its hook, or its kind of program, does not exist here: the matrix says which.
            continue
    return found


def size_of(libbpf: Libbpf, path: Path, name: str) -> Size:
    """Load one program and ask; raises BpfError when the kernel refuses it."""
    log = ctypes.create_string_buffer(LOG_BYTES)
    with BpfObject(libbpf, path) as opened:
        libbpf.calls.bpf_program__set_log_buf(opened.programs[name], log, LOG_BYTES)
        libbpf.calls.bpf_program__set_log_level(opened.programs[name], STATISTICS_ONLY)
        opened.load([name])
        facts = program_facts(libbpf, opened.program(name))
    text = log.value.decode("ascii", "replace")
    processed, stack = PROCESSED.search(text), STACK.search(text)
    return Size(
        facts.instructions,
        int(processed[1]) if processed else facts.verified_instructions,
        sum(map(int, stack[1].split("+"))) if stack else 0,
    )


def main() -> None:
    """Print those of the running kernel as JSON."""
    print(msgspec.json.encode(sizes(Libbpf(), find_object())).decode())


if __name__ == "__main__":
    main()
