# SPDX-License-Identifier: Apache-2.0
"""The root file system of the virtual machines: Python, this agent, the acts.

One archive serves all kernels of an architecture; all that it holds of each is a small module.
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
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
from packaging.requirements import Requirement

from nodeagent.kernel.libbpf import SONAME
from nodeagent.kernel.object import find_object
from tests.vm.guest import ACTS, HOME, PLAN, SIZES

ROOT: Final = Path(__file__).parents[2]
SPARE: Final = frozenset(
    {
        "curses",
        "distutils",
        "doc",
        "ensurepip",
        "gconv",
        "idlelib",
        "man",
        "lib2to3",
        "pydoc_data",
        "site-packages",
        "sqlite3",
        "test",
        "tkinter",
        "turtledemo",
        "wsgiref",
        "xmlrpc",
    }
)
"""Folders that an agent never needs, most of them of the standard library."""
SPARE_FILES: Final = re.compile(
    r".*\.opt-\d\.pyc|.*\.[ao]|config-.*|readline\..*|_(tkinter|test\w*|curses\w*|sqlite3)\..*"
)

DEVICES: Final = {Path("/dev/console"): (5, 1)}
"""The kernel opens the console before anything is mounted."""
OPENED: Final = (SONAME, "libgcc_s.so.1")
"""Libraries that are opened by name: by the agent, and by pthread_exit(3)."""
MODULES: Final = Path("/modules")
LIBRARY_CACHE: Final = Path("/etc/ld.so.cache")


class Archive:
    """A cpio archive in the "newc" format, see the kernel's buffer-format.rst."""

    def __init__(self, path: Path) -> None:
        self._file = gzip.open(path, "wb", compresslevel=1)  # noqa: SIM115 closed in close()
        self._names = {Path("/")}

    def folder(self, name: Path) -> None:
        """A folder and those above it."""
        if name not in self._names:
            self._write(name, stat.S_IFDIR | 0o755)

    def file(self, name: Path, source: Path) -> None:
        """A copy of a file, with its mode and time."""
        if name not in self._names:
            facts = source.stat()
            self._write(name, facts.st_mode, source.read_bytes(), int(facts.st_mtime))

    def text(self, name: Path, content: str, mode: int = 0o644) -> None:
        """A file with this content."""
        self._write(name, stat.S_IFREG | mode, content.encode())

    def device(self, name: Path, number: tuple[int, int]) -> None:
        """A character device."""
        self._write(name, stat.S_IFCHR | 0o600, device=number)

    def close(self) -> None:
        """Write the end."""
        self._entry("TRAILER!!!", 0)
        self._file.close()

    def _write(
        self,
        name: Path,
        mode: int,
        content: bytes = b"",
        time: int = 0,
        device: tuple[int, int] = (0, 0),
    ) -> None:
        self.folder(name.parent)
        self._names.add(name)
        self._entry(str(name.relative_to("/")), mode, content, time, device)

    def _entry(
        self,
        name: str,
        mode: int,
        content: bytes = b"",
        time: int = 0,
        device: tuple[int, int] = (0, 0),
    ) -> None:
        path = name.encode() + b"\0"
        number = len(self._names)
        fields = (number, mode, 0, 0, 1, time, len(content), 0, 0, *device, len(path), 0)
        header = b"070701" + b"".join(b"%08x" % field for field in fields)
        for part in (header + path, content):
            self._file.write(part + bytes(-len(part) % 4))


def make(
    path: Path,
    root: Root,
    programs: Collection[Path],
    acts: Mapping[str, Sequence[str]],
    options: Mapping[str, Sequence[str]],
    *,
    modules: Collection[Path] = (),
) -> None:
    """Write the archive.

    `acts` are what to run, by name of the case; `options` are for an agent, by family of hooks;
    `modules` are of kernels, named like their releases.
    """
    archive = Archive(path)
    for device, number in DEVICES.items():
        archive.device(device, number)
    for target, source in (*root.files, *_agent(root)):
        archive.file(target, source)
    for program in programs:
        archive.file(ACTS / program.name, program)
    for module in modules:
        archive.file(MODULES / module.name, module)
    guest = Path(__file__).with_name("guest.py").read_text(encoding="utf-8")
    archive.text(Path("/init"), f"#!{root.python} -u\n{guest}", 0o755)
    archive.text(PLAN, json.dumps({"acts": acts, "options": options}))
    archive.close()


class Root(msgspec.Struct):
    """What is below the agent."""

    python: Path
    """In the guest."""
    object: Path
    """The eBPF object."""
    files: list[tuple[Path, Path]]
    """Where they lie in the guest, and here."""


def own_root() -> Root:
    """The Python that runs this, with its libraries."""
    python = Path(sys.executable).resolve()
    files = [(python, python), *_library(), *_packages()]
    binaries = [source for target, source in files if ".so" in target.suffixes]
    files += [(library, library) for library in _needed([python, *binaries])]
    files.append((LIBRARY_CACHE, LIBRARY_CACHE))
    return Root(python, find_object(), files)


def other_root(folder: Path, site: Path, python: Path, built: Path) -> Root:
    """An unpacked one, and unpacked Python packages."""
    files = [(Path("/") / file.relative_to(folder), file) for file in _below(folder)]
    files += [(HOME / file.relative_to(site), file) for file in _below(site)]
    return Root(python, built, files)


def dependencies() -> list[str]:
    """The names of all packages that the agent needs."""
    wanted = ["nodeagent"]
    for name in wanted:
        for line in importlib.metadata.requires(name) or ():
            requirement = Requirement(line)
            if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
                continue
            if requirement.name not in wanted:
                wanted.append(requirement.name)
    return wanted[1:]


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
    for name in dependencies():
        for file in importlib.metadata.files(name) or ():
            if ".." not in file.parts:
                yield HOME / file, Path(str(file.locate()))


def _agent(root: Root) -> Iterator[tuple[Path, Path]]:
    for package in ("nodeagent", "sinks"):
        for file in _below(ROOT / package):
            yield HOME / file.relative_to(ROOT), file
    yield HOME / "bpf/nodeagent.bpf.o", root.object
    yield SIZES, ROOT / "tests/bench/sizes.py"


def _below(folder: Path) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()):
        if entry.name in SPARE or SPARE_FILES.fullmatch(entry.name) or not entry.exists():
            continue
        if entry.is_dir():
            yield from _below(entry)
        else:
            yield entry


def _needed(binaries: Sequence[Path]) -> list[Path]:
    """The libraries that these are linked to, and those that are opened by name."""
    known = subprocess.run(
        ["ldconfig", "-p"],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
    ).stdout
    opened = []
    for name in OPENED:
        line = re.search(rf"{re.escape(name)} .* => (\S+)", known)
        assert line, f"{name} is not installed"
        opened.append(Path(line[1]))
    linked = subprocess.run(
        ["ldd", *binaries, *opened], check=True, capture_output=True, text=True
    ).stdout
    return [*opened, *(Path(name) for name in sorted(set(re.findall(r"(/\S+) \(0x", linked))))]
