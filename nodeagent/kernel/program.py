# SPDX-License-Identifier: Apache-2.0
"""What the kernel says about a loaded eBPF program."""

from __future__ import annotations

import ctypes
from typing import Final

import msgspec

from nodeagent.kernel.libbpf import Libbpf

__all__ = ["ProgramFacts", "program_facts"]

INSTRUCTION_BYTES: Final = 8


class ProgramInfo(ctypes.Structure):
    """`struct bpf_prog_info` of include/uapi/linux/bpf.h up to verified_insns (v5.16)."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("tag", ctypes.c_uint8 * 8),
        ("jited_bytes", ctypes.c_uint32),
        ("xlated_bytes", ctypes.c_uint32),
        ("images", ctypes.c_uint64 * 2),
        ("load_time", ctypes.c_uint64),
        ("created_by_uid", ctypes.c_uint32),
        ("map_count", ctypes.c_uint32),
        ("map_ids", ctypes.c_uint64),
        ("name", ctypes.c_char * 16),
        ("ifindex", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("netns", ctypes.c_uint64 * 2),
        ("jited_counts", ctypes.c_uint32 * 2),
        ("jited_pointers", ctypes.c_uint64 * 2),
        ("btf_id", ctypes.c_uint32),
        ("func_info_size", ctypes.c_uint32),
        ("func_info", ctypes.c_uint64),
        ("info_counts", ctypes.c_uint32 * 2),
        ("line_info", ctypes.c_uint64 * 2),
        ("line_counts", ctypes.c_uint32 * 3),
        ("tag_count", ctypes.c_uint32),
        ("tags", ctypes.c_uint64),
        ("run_time_ns", ctypes.c_uint64),
        ("run_count", ctypes.c_uint64),
        ("recursion_misses", ctypes.c_uint64),
        ("verified_instructions", ctypes.c_uint32),
        ("attach_btf", ctypes.c_uint32 * 3),
    )


class ProgramFacts(msgspec.Struct, frozen=True):
    """One program: its size, what it cost to verify, what its runs cost."""

    id: int
    name: str
    instructions: int
    """As the kernel runs them, after its own rewriting."""
    verified_instructions: int
    """Followed by the verifier, over all paths; 0 where the kernel does not say (before v5.16)."""
    run_time_ns: int
    """Of all runs while statistics were on."""
    run_count: int
    """While statistics were on."""
    missed_count: int
    """Runs that the kernel left out because the program was already running on that CPU."""


def program_facts(libbpf: Libbpf, fd: int) -> ProgramFacts:
    """Ask the kernel about the program behind `fd`; raises BpfError."""
    info = ProgramInfo()
    size = ctypes.c_uint32(ctypes.sizeof(info))
    libbpf.check(
        libbpf.calls.bpf_obj_get_info_by_fd(fd, ctypes.byref(info), ctypes.byref(size)),
        "no information on an eBPF program",
    )
    return ProgramFacts(
        info.id,
        info.name.decode("ascii", "replace"),
        info.xlated_bytes // INSTRUCTION_BYTES,
        info.verified_instructions,
        info.run_time_ns,
        info.run_count,
        info.recursion_misses,
    )
