# SPDX-License-Identifier: Apache-2.0
"""Lets the libraries of this machine run with the C library of Debian 11, which is 2.31.

Most of what they ask a newer one for is old: it moved into libc.so.6 and got another version
there. So they ask for newer versions weakly, which the dynamic linker accepts when there is
none, and one more library has the symbols under these versions. It goes on to the old ones,
or has those of `older.c`. It is looked at last, so a newer C library serves itself.
"""

from __future__ import annotations

import platform
import re
import struct
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

LIBC: Final = (2, 31)
"""What the libraries have to run with."""
NAME: Final = "libolder.so"

SYMBOL: Final = re.compile(r" [a-zA-Z] (\w+)@@?GLIBC_([\d.]+)$", re.MULTILINE)
"""In what nm(1) says; two @ stand before the version that is taken by who names none."""
WEAK: Final = 2
"""VER_FLG_WEAK of elf.h."""

OWN: Final = Path(__file__).with_suffix(".c")
NOW: Final = ("libc.so.6", "libm.so.6")
"""Where the symbols are."""
ONCE: Final = ("libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1")
"""Where some of them were; newer systems have these files, too, with nothing in them."""
HEAD: Final = '.section .note.GNU-stack, "", %progbits\n.text\n'
JUMP: Final = {"x86_64": "jmp", "aarch64": "b"}[platform.machine()]

Version = tuple[int, ...]


def newer(libraries: Iterable[str]) -> dict[str, Version]:
    """The symbols for which they ask a newer C library, with their versions."""
    asked = _symbols("--undefined-only", *libraries)
    return {name: version for name, version in asked if version > LIBC}


def older(library: bytes, versions: Iterable[Version]) -> bytes:
    """The library, asking for these versions weakly."""
    for version in versions:
        library = library.replace(_start(version), _start(version, WEAK))
    return library


def build(symbols: Mapping[str, Version], python: str, folder: Path) -> Path:
    """Make the library that has these symbols and brings along libpython."""
    own, source, script = (folder / f"older.{suffix}" for suffix in ("o", "s", "map"))
    _run("gcc", "-O2", "-fPIC", "-D_GNU_SOURCE", "-c", str(OWN), "-o", str(own))
    written = {line.split()[-1] for line in _run("nm", "--defined-only", str(own)).splitlines()}
    places = [_run("gcc", f"-print-file-name={name}").strip() for name in NOW]
    first: dict[str, Version] = {}
    for name, version in _symbols("--defined-only", *places):
        if version <= LIBC:
            first[name] = max(version, first.get(name, version))
    moved = symbols.keys() - written
    if missing := sorted(moved - first.keys()):
        raise SystemExit(f"{OWN} lacks {', '.join(missing)}, for which a library asks")
    source.write_text(HEAD + "".join(_forward(name, first[name]) for name in sorted(moved)))
    script.write_text("".join(_nodes(symbols)))
    made = folder / NAME
    once = [f"-l:{name}" for name in ONCE]
    linked = ["-Wl,--no-as-needed", python, *once, "-lm", f"-Wl,--version-script={script}"]
    _run("gcc", "-shared", "-o", str(made), str(own), str(source), *linked)
    return made


def _symbols(*arguments: str) -> list[tuple[str, Version]]:
    found = SYMBOL.findall(_run("nm", "-D", *arguments))
    return [(name, tuple(map(int, version.split(".")))) for name, version in found]


def _named(version: Version) -> str:
    return f"GLIBC_{'.'.join(map(str, version))}"


def _forward(name: str, first: Version) -> str:
    """Assembler, since it does not have to know what is passed."""
    return f"""\
.globl {name}
.type {name}, %function
.symver first_{name}, {name}@{_named(first)}
{name}: {JUMP} first_{name}
"""


def _nodes(symbols: Mapping[str, Version]) -> Iterator[str]:
    """For the linker."""
    for version in sorted(set(symbols.values())):
        names = sorted(name for name, its in symbols.items() if its == version)
        yield f"{_named(version)} {{ global: {'; '.join(names)}; local: *; }};\n"


def _start(version: Version, flags: int = 0) -> bytes:
    """How the entry of a version begins (Elf64_Vernaux): with the hash of its name."""
    value = 0
    for letter in _named(version).encode():
        value = (value << 4) + letter
        high = value & 0xF0000000
        value = (value ^ high >> 24) & ~high
    return struct.pack("<IH", value, flags)


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
