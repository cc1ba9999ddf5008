# SPDX-License-Identifier: Apache-2.0
"""What each eBPF program costs the verifier: its size, the instructions it follows, the stack.

    python -m tests.bench.programs [OBJECT]

writes docs/programs.txt for the running kernel, so that a change of a program is seen in a diff.
"""

from __future__ import annotations

import ctypes
import platform
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from nodeagent.errors import BpfError
from nodeagent.kernel.features import LISTING, SERVES
from nodeagent.kernel.libbpf import Libbpf
from nodeagent.kernel.object import BpfObject, find_object
from nodeagent.kernel.program import program_facts

TEXT: Final = Path(__file__).parents[2] / "docs/programs.txt"
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


def table(found: Mapping[str, Size]) -> str:
    """One line for each program."""
    lines = [f"{'program':<28}{'instructions':>14}{'verified':>10}{'stack':>7}"]
    lines += [
        f"{name:<28}{size.instructions:>14}{size.verified:>10}{size.stack:>7}"
        for name, size in sorted(found.items())
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Say it of this kernel."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else find_object()
    shown = f"Linux {platform.release()}, {platform.machine()}\n\n{table(sizes(Libbpf(), path))}"
    print(shown, end="")
    TEXT.write_text(shown)


if __name__ == "__main__":
    main()
