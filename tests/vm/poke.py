# SPDX-License-Identifier: Apache-2.0
"""Changes the memory of a machine from outside, as a rootkit would from inside.

It takes no module that fits the kernel: QEMU's stub for debuggers writes where the kernel
itself may only read.
"""

from __future__ import annotations

import re
import socket
import time
from pathlib import Path
from typing import Final

__all__ = ["ASKED", "STUB", "PokeError", "poke"]

STUB: Final = "stub"
"""The socket of it, in the folder of the machine."""
ASKED: Final = re.compile(rb"^poke ([0-9a-f]{16}) ([0-9a-f]{16})\r?$", re.MULTILINE)
"""How guest.py asks for it on the console: an address, and the pointer to put there."""
ANSWER: Final = re.compile(rb"\$(OK|E\d\d)#..")
TRIES: Final = 50
SECONDS: Final = 10.0


class PokeError(Exception):
    """The memory could not be changed."""


def poke(folder: Path, address: int, value: int) -> None:
    """Put a pointer at an address of the kernel; raises PokeError, OSError."""
    for _ in range(TRIES):
        # A processor that runs a program may not have the kernel in its tables just now.
        if _write(folder / STUB, address, value.to_bytes(8, "little")):
            return
        time.sleep(0.1)
    raise PokeError(f"nothing can be written to {address:#x}")


def _write(stub: Path, address: int, data: bytes) -> bool:
    """The machine stands still while somebody is connected."""
    with socket.socket(socket.AF_UNIX) as talk:
        talk.settimeout(SECONDS)
        talk.connect(str(stub))
        answer = _ask(talk, f"M{address:x},{len(data):x}:{data.hex()}")
        _ask(talk, "D")
    return answer == b"OK"


def _ask(talk: socket.socket, command: str) -> bytes:
    """`OK`, or `E` and a number; that it stands still is said without being asked for."""
    talk.sendall(f"${command}#{sum(command.encode()) % 256:02x}".encode())
    said = b""
    while not (found := ANSWER.search(said)):
        more = talk.recv(4096)
        if not more:
            raise PokeError(f"no answer to {command}")
        said += more
    return found[1]
