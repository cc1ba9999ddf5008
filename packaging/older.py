# SPDX-License-Identifier: Apache-2.0
"""Lets Debian's libpython run with the C library of Amazon Linux 2023, which is 2.34.

Its one symbol that is newer is hypot(3), which 2.35 only made faster.
"""

from __future__ import annotations

import platform
import struct
from typing import Final

NEWER: Final = "GLIBC_2.35"
FIRST: Final = {"x86_64": "GLIBC_2.2.5", "aarch64": "GLIBC_2.17"}[platform.machine()]
"""What the C library had from the start on this architecture."""

ENTRY: Final = struct.Struct("<IHHII")
"""Elf64_Vernaux: hash, flags, other, name, next."""


def older(library: bytes) -> bytes | bytearray:
    """The library, asking for the first hypot(3); the same bytes if it asks for nothing newer."""
    at = library.find(_start(NEWER))
    if at < 0:
        return library
    first = library.index(_start(FIRST))
    wanted, _, _, name, _ = ENTRY.unpack_from(library, first)
    _, flags, other, _, following = ENTRY.unpack_from(library, at)
    changed = bytearray(library)
    ENTRY.pack_into(changed, at, wanted, flags, other, name, following)
    # Nothing names it any more.
    text = NEWER.encode() + b"\0"
    return changed.replace(b"\0" + text, bytes(1 + len(text)))


def _start(version: str) -> bytes:
    """How the entry of a version begins: with its hash, and no flags."""
    value = 0
    for letter in version.encode():
        value = (value << 4) + letter
        high = value & 0xF0000000
        value = (value ^ high >> 24) & ~high
    return struct.pack("<IH", value, 0)
