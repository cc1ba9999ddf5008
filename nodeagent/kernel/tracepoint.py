# SPDX-License-Identifier: Apache-2.0
"""Tracepoints by name. Their numbers are files in tracefs."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from nodeagent.errors import BpfError
from nodeagent.kernel.libbpf import Libbpf
from nodeagent.kernel.mount import open_detached

__all__ = ["Tracepoints", "open_tracepoint"]

MOUNT_POINTS: Final = (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))

# Python has no function for it.
SYS_PERF_EVENT_OPEN: Final = {"x86_64": 298, "aarch64": 241}

PERF_TYPE_TRACEPOINT: Final = 2
PERF_FLAG_FD_CLOEXEC: Final = 8

PARANOID: Final = Path("/proc/sys/kernel/perf_event_paranoid")
HIGHEST_PARANOID: Final = 2
"""Of the kernel as it is released."""


class PerfEventAttributes(ctypes.Structure):
    """The first version of `struct perf_event_attr`, PERF_ATTR_SIZE_VER0."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
        ("config", ctypes.c_uint64),
        ("sample_period", ctypes.c_uint64),
        ("rest", ctypes.c_uint64 * 5),
    )


class Tracepoints:
    """A context manager that gives the numbers of tracepoints.

    Where tracefs is not mounted it is opened as a mount that is attached nowhere.
    """

    def __init__(self, libbpf: Libbpf) -> None:
        """Raises BpfError when there is no tracefs at all."""
        self.where = next((str(p) for p in MOUNT_POINTS if (p / "events").is_dir()), "")
        if self.where:
            self._root = os.open(self.where, os.O_RDONLY | os.O_DIRECTORY)
            return
        self.where = "a mount of its own"
        try:
            self._root = open_detached(libbpf, "tracefs")
        except OSError as error:
            raise BpfError(
                f"tracefs is not mounted and cannot be opened ({error.strerror}):"
                " mount it with `mount -t tracefs none /sys/kernel/tracing`, for a container as"
                " a volume",
                error.errno or 0,
            ) from error

    def __enter__(self) -> Self:
        """The tracepoints themselves."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let tracefs go."""
        os.close(self._root)

    def id(self, name: str) -> int:
        """The number of a tracepoint like `syscalls/sys_exit_openat`; raises BpfError."""
        try:
            fd = os.open(f"events/{name}/id", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._root)
        except OSError as error:
            raise BpfError(
                f"this kernel has no tracepoint {name}: {error.strerror}", error.errno or 0
            ) from error
        with os.fdopen(fd) as file:
            return int(file.read())

    def has(self, name: str) -> bool:
        """Whether the kernel has this tracepoint."""
        try:
            os.stat(f"events/{name}/id", dir_fd=self._root)
        except FileNotFoundError:
            return False
        return True


def open_tracepoint(libbpf: Libbpf, number: int) -> int:
    """A perf event on a tracepoint, on all CPUs and for all processes; raises BpfError."""
    attributes = PerfEventAttributes(
        type=PERF_TYPE_TRACEPOINT,
        size=ctypes.sizeof(PerfEventAttributes),
        config=number,
        sample_period=1,
    )
    call = SYS_PERF_EVENT_OPEN.get(platform.machine())
    if call is None:
        raise BpfError(f"the architecture {platform.machine()} is not supported")
    try:
        # A program on a tracepoint runs on every CPU, whichever the event names.
        return libbpf.syscall(
            call, ctypes.byref(attributes), -1, 0, -1, ctypes.c_ulong(PERF_FLAG_FD_CLOEXEC)
        )
    except OSError as error:
        raise BpfError(_refusal(error), error.errno or 0) from error


def _refusal(error: OSError) -> str:
    """Kernels of some distributions know levels of kernel.perf_event_paranoid beyond 2."""
    level = ""
    with suppress(OSError):
        level = PARANOID.read_text().strip()
    way = "the agent needs to be root or to have CAP_PERFMON"
    if error.errno == errno.EACCES and level.isdigit() and int(level) > HIGHEST_PARANOID:
        way = (
            f"kernel.perf_event_paranoid is {level} here, so it takes CAP_SYS_ADMIN, which the"
            f" agent gives up when it has started; or set it to {HIGHEST_PARANOID}"
        )
    return f"perf_event_open is refused ({error.strerror}): {way}"
