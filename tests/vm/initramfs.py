# SPDX-License-Identifier: Apache-2.0
"""The root file system of the virtual machines: this Python, this agent, the acts.

One archive serves all kernels; it holds nothing that belongs to one of them.
"""

from __future__ import annotations

import gzip
import importlib.metadata
import json
import os
import re
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement

from nodeagent.kernel.libbpf import SONAME
from nodeagent.kernel.object import find_object

ROOT: Final = Path(__file__).parents[2]
HOME: Final = Path("/nodeagent")
"""Where the agent lies in the guest, as in a checkout."""

SPARE: Final = frozenset(
    {
        "curses",
        "distutils",
        "ensurepip",
        "idlelib",
        "lib2to3",
        "pydoc_data",
        "site-packages",
        "sqlite3",
        "test",
        "tkinter",
        "turtledemo",
        "unittest",
        "wsgiref",
        "xmlrpc",
    }
)
"""Folders of the standard library that an agent never imports."""
SPARE_FILES: Final = re.compile(
    r".*\.opt-\d\.pyc|.*\.[ao]|config-.*|readline\..*|_(tkinter|test\w*|curses\w*|sqlite3)\..*"
)

DEVICES: Final = {"/dev/console": (5, 1), "/dev/null": (1, 3)}
"""The kernel opens the console before anything is mounted."""


class Archive:
    """A cpio archive in the "newc" format, see the kernel's buffer-format.rst."""

    def __init__(self, path: Path) -> None:
        self._file = gzip.open(path, "wb", compresslevel=1)  # noqa: SIM115 closed in close()
        self._names: set[str] = {"/"}

    def folder(self, name: str) -> None:
        """A folder and those above it."""
        if name in self._names:
            return
        self.folder(os.path.dirname(name))
        self._write(name, stat.S_IFDIR | 0o755)

    def file(self, name: str, source: Path) -> None:
        """A copy of a file, with its mode and time."""
        if name in self._names:
            return
        facts = source.stat()
        self.folder(os.path.dirname(name))
        self._write(name, facts.st_mode, source.read_bytes(), int(facts.st_mtime))

    def text(self, name: str, content: str, mode: int = 0o644) -> None:
        """A file with this content."""
        self.folder(os.path.dirname(name))
        self._write(name, stat.S_IFREG | mode, content.encode())

    def device(self, name: str, number: tuple[int, int]) -> None:
        """A character device."""
        self.folder(os.path.dirname(name))
        self._write(name, stat.S_IFCHR | 0o600, device=number)

    def close(self) -> None:
        """Write the end."""
        self._write("/TRAILER!!!", 0)
        self._file.close()

    def _write(
        self,
        name: str,
        mode: int,
        content: bytes = b"",
        time: int = 0,
        device: tuple[int, int] = (0, 0),
    ) -> None:
        self._names.add(name)
        path = name.removeprefix("/").encode() + b"\0"
        fields = (len(self._names), mode, 0, 0, 1, time, len(content), 0, 0, *device, len(path), 0)
        self._file.write(b"070701" + b"".join(b"%08x" % field for field in fields))
        self._pad(path, 110)
        self._pad(content)

    def _pad(self, data: bytes, before: int = 0) -> None:
        self._file.write(data + bytes(-(before + len(data)) % 4))


def make(path: Path, programs: Iterable[Path], acts: Mapping[str, Sequence[str]]) -> None:
    """Write the archive. `acts` are what to run, by name of the case."""
    archive = Archive(path)
    for name, number in DEVICES.items():
        archive.device(name, number)
    python = Path(sys.executable).resolve()
    binaries = [python]
    archive.file(str(python), python)
    for target, source in (*_library(), *_packages(), *_agent()):
        archive.file(str(target), source)
        if ".so" in target.suffixes:
            binaries.append(source)
    for program in programs:
        archive.file(f"/acts/{program.name}", program)
        binaries.append(program)
    for library in _needed(binaries):
        archive.file(str(library), library)
    archive.file("/etc/ld.so.cache", Path("/etc/ld.so.cache"))
    guest = Path(__file__).with_name("guest.py").read_text()
    archive.text("/init", f"#!{python} -u\n{guest}", 0o755)
    archive.text("/plan.json", json.dumps(acts))
    archive.close()


def _library() -> Iterator[tuple[Path, Path]]:
    """The standard library, where it lies here."""
    for key in ("stdlib", "platstdlib"):
        for file in _below(Path(sysconfig.get_path(key, vars=_base()))):
            yield file, file


def _base() -> dict[str, str]:
    """A virtual environment has no library of its own."""
    return {"installed_base": sys.base_prefix, "installed_platbase": sys.base_exec_prefix}


def _packages() -> Iterator[tuple[Path, Path]]:
    """What the agent depends on."""
    wanted = ["nodeagent"]
    for name in wanted:
        for line in importlib.metadata.requires(name) or ():
            requirement = Requirement(line)
            if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
                continue
            if requirement.name not in wanted:
                wanted.append(requirement.name)
    for name in wanted[1:]:
        for file in importlib.metadata.files(name) or ():
            if ".." not in file.parts:
                yield HOME / file, Path(str(file.locate()))


def _agent() -> Iterator[tuple[Path, Path]]:
    for package in ("nodeagent", "sinks"):
        for file in _below(ROOT / package):
            yield HOME / file.relative_to(ROOT), file
    yield HOME / "bpf/nodeagent.bpf.o", find_object()


def _below(folder: Path) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()):
        if entry.name in SPARE or SPARE_FILES.fullmatch(entry.name):
            continue
        if entry.is_dir():
            yield from _below(entry)
        else:
            yield entry


def _needed(binaries: Sequence[Path]) -> list[Path]:
    """The libraries that these are linked to, and libbpf, which is opened by its name."""
    known = subprocess.run(
        ["ldconfig", "-p"],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
    ).stdout
    libbpf = re.search(rf"{re.escape(SONAME)} .* => (\S+)", known)
    assert libbpf, f"{SONAME} is not installed"
    own = Path(libbpf[1])
    linked = subprocess.run(
        ["ldd", *binaries, own], check=True, capture_output=True, text=True
    ).stdout
    return [own, *(Path(name) for name in sorted(set(re.findall(r"(/\S+) \(0x", linked))))]
