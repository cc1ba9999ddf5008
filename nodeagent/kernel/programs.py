# SPDX-License-Identifier: Apache-2.0
"""Every eBPF program on the node, whoever loaded it, and what it costs."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from ctypes import c_char, c_uint32, c_uint64
from pathlib import Path
from typing import Final

import msgspec

from nodeagent.errors import BpfError
from nodeagent.kernel.libbpf import Libbpf
from nodeagent.names import BPF_PROGRAM_TYPES

__all__ = ["Owner", "Program", "map_bytes", "owners", "programs"]

MAPS_LIMIT: Final = 256
"""Of one program."""
PROGRAM_LINK: Final = "anon_inode:bpf-prog"


class _ProgramInfo(ctypes.Structure):
    """`struct bpf_prog_info` up to the counts of runs (v5.1)."""

    _fields_ = (
        ("type", c_uint32),
        ("id", c_uint32),
        ("tag", c_char * 8),
        ("jited_prog_len", c_uint32),
        ("xlated_prog_len", c_uint32),
        ("jited_prog_insns", c_uint64),
        ("xlated_prog_insns", c_uint64),
        ("load_time", c_uint64),
        ("created_by_uid", c_uint32),
        ("nr_map_ids", c_uint32),
        ("map_ids", c_uint64),
        ("name", c_char * 16),
        ("ifindex", c_uint32),
        ("gpl_compatible", c_uint32),
        ("netns_dev", c_uint64),
        ("netns_ino", c_uint64),
        ("nr_jited_ksyms", c_uint32),
        ("nr_jited_func_lens", c_uint32),
        ("jited_ksyms", c_uint64),
        ("jited_func_lens", c_uint64),
        ("btf_id", c_uint32),
        ("func_info_rec_size", c_uint32),
        ("func_info", c_uint64),
        ("nr_func_info", c_uint32),
        ("nr_line_info", c_uint32),
        ("line_info", c_uint64),
        ("jited_line_info", c_uint64),
        ("nr_jited_line_info", c_uint32),
        ("line_info_rec_size", c_uint32),
        ("jited_line_info_rec_size", c_uint32),
        ("nr_prog_tags", c_uint32),
        ("prog_tags", c_uint64),
        ("run_time_ns", c_uint64),
        ("run_cnt", c_uint64),
    )


class Program(msgspec.Struct, frozen=True):
    """One program, as it was at one moment."""

    id: int
    type: str
    """As in enum bpf_prog_type, in lower case and without its prefix."""
    name: str
    """At most 15 characters."""
    run_ns: int
    """Since run-time statistics were first switched on, while they were."""
    runs: int
    """The same."""
    map_ids: tuple[int, ...]


class Owner(msgspec.Struct, frozen=True):
    """A process that holds a program."""

    pid: int
    comm: str


def programs(libbpf: Libbpf) -> Iterator[Program]:
    """All of them, by id; raises BpfError when the kernel does not let us look."""
    calls = libbpf.calls
    number = c_uint32(0)
    while True:
        result = calls.bpf_prog_get_next_id(number, ctypes.byref(number))
        if result == -errno.ENOENT:
            return
        libbpf.check(result, "the eBPF programs of this node cannot be listed")
        fd = calls.bpf_prog_get_fd_by_id(number)
        # It may be gone by now.
        if fd >= 0:
            try:
                yield _program(libbpf, fd)
            finally:
                os.close(fd)


def _program(libbpf: Libbpf, fd: int) -> Program:
    maps = (c_uint32 * MAPS_LIMIT)()
    info = _ProgramInfo(nr_map_ids=MAPS_LIMIT, map_ids=ctypes.addressof(maps))
    size = c_uint32(ctypes.sizeof(info))
    libbpf.check(
        libbpf.calls.bpf_obj_get_info_by_fd(fd, ctypes.byref(info), ctypes.byref(size)),
        "no information on an eBPF program",
    )
    shown = str(BPF_PROGRAM_TYPES.show(info.type))
    return Program(
        info.id,
        shown.removeprefix("BPF_PROG_TYPE_").lower(),
        info.name.decode("ascii", "replace"),
        info.run_time_ns,
        info.run_cnt,
        tuple(maps[: min(info.nr_map_ids, MAPS_LIMIT)]),
    )


def map_bytes(libbpf: Libbpf, ids: Iterable[int]) -> dict[int, int]:
    """Kernel memory of maps, by id; those that are gone are left out."""
    found = {}
    for number in ids:
        fd = libbpf.calls.bpf_map_get_fd_by_id(number)
        if fd < 0:
            continue
        try:
            for line in Path(f"/proc/self/fdinfo/{fd}").read_text("ascii").splitlines():
                name, _, value = line.partition(":")
                if name == "memlock":
                    found[number] = int(value)
        finally:
            os.close(fd)
    return found


def owners() -> dict[int, Owner]:
    """Who holds which program, by its id, as far as /proc shows it; the first process of several.

    A program that only an attachment or a pinned file holds has no owner.
    """
    found: dict[int, Owner] = {}
    processes = sorted(int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit())
    for pid in processes:
        # Processes end, and some may not be looked at.
        with suppress(OSError, ValueError, BpfError):
            for number in _held(pid):
                if number not in found:
                    comm = Path(f"/proc/{pid}/comm").read_text("utf-8", "replace").strip()
                    found[number] = Owner(pid, comm)
    return found


def _held(pid: int) -> Iterator[int]:
    with os.scandir(f"/proc/{pid}/fd") as links:
        for link in links:
            # A link of another kind costs a call and no more.
            if os.readlink(link.path) != PROGRAM_LINK:  # noqa: PTH115  a path object costs more
                continue
            text = Path(f"/proc/{pid}/fdinfo/{link.name}").read_text("ascii")
            for line in text.splitlines():
                name, _, value = line.partition(":")
                if name == "prog_id":
                    yield int(value)
