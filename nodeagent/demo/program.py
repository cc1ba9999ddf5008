# SPDX-License-Identifier: Apache-2.0
"""Programs of some bytes, so that a demonstration needs none of the machine's."""

from __future__ import annotations

import platform
import struct
from pathlib import Path
from typing import Final

from nodeagent.errors import NodeagentError

__all__ = ["ENDS", "WAITS", "program", "write_program"]

ENDS: Final = "ends"
"""It ends at once, with success."""
WAITS: Final = "waits"
"""It waits until somebody kills it."""

BASE: Final = 0x400000
PAGE: Final = 0x10000
"""The largest page of the architectures below."""
HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")
SEGMENT: Final = struct.Struct("<IIQQQQQQ")
CODE_AT: Final = HEADER.size + SEGMENT.size
EXECUTABLE, CURRENT, LOAD, READ_AND_EXECUTE = 2, 1, 1, 5


def _words(*words: int) -> bytes:
    return struct.pack(f"<{len(words)}I", *words)


MACHINES: Final = {"x86_64": 62, "aarch64": 183}
"""Numbers of elf(5)."""
CODE: Final = {
    # mov eax, exit; xor edi, edi; syscall
    ("x86_64", ENDS): bytes.fromhex("b83c000000 31ff 0f05"),
    # mov eax, pause; syscall; jmp to the start
    ("x86_64", WAITS): bytes.fromhex("b822000000 0f05 ebf7"),
    # mov x8, exit; mov x0, 0; svc 0
    ("aarch64", ENDS): _words(0xD2800BA8, 0xD2800000, 0xD4000001),
    # mov x0 to x4, 0; mov x8, ppoll; svc 0; b to the start
    ("aarch64", WAITS): _words(
        *(0xD2800000 + register for register in range(5)), 0xD2800928, 0xD4000001, 0x17FFFFF9
    ),
}


def program(what: str, machine: str = "") -> bytes:
    """The ELF file of one that does nothing but that; raises NodeagentError.

    It is for this machine's architecture unless another is named.
    """
    machine = machine or platform.machine()
    code = CODE.get((machine, what))
    if code is None:
        raise NodeagentError(f"no program is known for {machine}: use x86_64 or aarch64")
    size = CODE_AT + len(code)
    identity = b"\x7fELF\x02\x01\x01"
    header = HEADER.pack(
        *(identity, EXECUTABLE, MACHINES[machine], CURRENT, BASE + CODE_AT, HEADER.size, 0, 0),
        *(HEADER.size, SEGMENT.size, 1, 0, 0, 0),
    )
    return header + SEGMENT.pack(LOAD, READ_AND_EXECUTE, 0, BASE, BASE, size, size, PAGE) + code


def write_program(path: Path, what: str) -> None:
    """Put it there, to be run."""
    path.write_bytes(program(what))
    path.chmod(0o755)
