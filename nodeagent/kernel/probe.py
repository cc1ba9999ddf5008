# SPDX-License-Identifier: Apache-2.0
"""What the doctor tries and measures on a loaded object."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

from nodeagent.errors import BpfError
from nodeagent.kernel.libbpf import Libbpf
from nodeagent.kernel.object import BpfObject

__all__ = ["count_runs", "enable_statistics", "map_memory", "refuses_trampolines"]

STATS_RUN_TIME: Final = 0
TRAMPOLINE: Final = "probe_trampoline"
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
MAP_LINK: Final = "anon_inode:bpf-map"


class MapInfo(ctypes.Structure):
    """The start of `struct bpf_map_info`: type, id, sizes, entries and flags, then the name."""

    _fields_ = (("numbers", ctypes.c_uint32 * 6), ("name", ctypes.c_char * 16))


def enable_statistics(libbpf: Libbpf) -> int:
    """A descriptor that keeps run-time statistics on while it is open; raises BpfError."""
    fd: int = libbpf.check(
        libbpf.calls.bpf_enable_stats(STATS_RUN_TIME),
        "the run-time statistics of eBPF programs cannot be switched on",
    )
    return fd


def count_runs(libbpf: Libbpf, path: Path, program: str) -> int | None:
    """How often `program` of the object at `path` runs while /dev/null is opened once.

    The program is really loaded and attached, in an object of its own, and gone when
    this returns. None: it is attached, but its runs cannot be counted. Raises BpfError
    when the kernel refuses it.
    """
    with ExitStack() as stack:
        opened = stack.enter_context(BpfObject(libbpf, path))
        if program not in opened.programs:
            raise BpfError(f"{path} has no program {program}")
        for ring in ("high", "bulk"):
            opened.set_max_entries(ring, PAGE_BYTES)
        opened.load([program])
        link = libbpf.check(
            libbpf.calls.bpf_program__attach(opened.programs[program]),
            f"program {program} cannot be attached to {opened.section(program)}",
        )
        stack.callback(libbpf.calls.bpf_link__destroy, link)
        try:
            statistics = enable_statistics(libbpf)
        except BpfError:
            return None
        stack.callback(os.close, statistics)
        os.close(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
        runs = _fd_facts(opened.program(program)).get("run_cnt")
        return None if runs is None else int(runs)


def refuses_trampolines(libbpf: Libbpf, path: Path) -> str | None:
    """Why this kernel takes no fentry programs, None when it does.

    One of the object at `path` is loaded and attached, and gone when this returns.
    """
    try:
        with BpfObject(libbpf, path) as opened:
            for ring in ("high", "bulk"):
                opened.set_max_entries(ring, PAGE_BYTES)
            opened.load([TRAMPOLINE])
            link = libbpf.check(
                libbpf.calls.bpf_program__attach(opened.programs[TRAMPOLINE]), "not attached"
            )
            libbpf.calls.bpf_link__destroy(link)
    except BpfError as error:
        return os.strerror(error.errno)
    return None


def map_memory(libbpf: Libbpf) -> dict[str, int]:
    """Bytes of kernel memory of each eBPF map that this process holds, by name."""
    memory = {}
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError, BpfError, KeyError):
            if str(link.readlink()) == MAP_LINK:
                fd = int(link.name)
                memory[_map_name(libbpf, fd)] = int(_fd_facts(fd)["memlock"])
    return memory


def _map_name(libbpf: Libbpf, fd: int) -> str:
    info = MapInfo()
    size = ctypes.c_uint32(ctypes.sizeof(info))
    call = libbpf.calls.bpf_obj_get_info_by_fd
    libbpf.check(call(fd, ctypes.byref(info), ctypes.byref(size)), "no information on a map")
    name: bytes = info.name
    return name.decode("ascii", "replace")


def _fd_facts(fd: int) -> Mapping[str, str]:
    """What /proc says about an open file."""
    lines = Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines()
    pairs = (line.partition(":") for line in lines)
    return {name: value.strip() for name, _, value in pairs}
