# SPDX-License-Identifier: Apache-2.0
"""libbpf through ctypes: just the functions that we call, with their types.

libbpf 1.x reports failure by a NULL pointer or a negative number and sets errno;
`check()` turns both into a BpfError that carries what libbpf logged meanwhile.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import sys
from collections import deque
from ctypes import (
    CFUNCTYPE,
    POINTER,
    c_char_p,
    c_int,
    c_int32,
    c_long,
    c_size_t,
    c_uint32,
    c_uint64,
    c_void_p,
)
from typing import Any, Final

from nodeagent.errors import BpfError

__all__ = ["Libbpf", "OpenOptions"]

SONAME: Final = "libbpf.so.1"
LOG_LINES: Final = 200
LOG_LINE_BYTES: Final = 1 << 20
"""The verifier's log is one line to libbpf, and what matters stands at its end."""
DEBUG_LEVEL: Final = 2
FIRST_OWN_ERROR: Final = 4000
"""From here on an errno is one of libbpf's own."""


def _library() -> str:
    """The library that the binary brings, which must not be replaced by another; else any."""
    bundle: str | None = getattr(sys, "_MEIPASS", None)
    return f"{bundle}/{SONAME}" if bundle else SONAME


class OpenOptions(ctypes.Structure):
    """The start of `struct bpf_object_open_opts`; its size says how much of it we know."""

    _fields_ = (("sz", c_size_t), ("object_name", c_char_p))


class BtfType(ctypes.Structure):
    """`struct btf_type`."""

    _fields_ = (("name_off", c_uint32), ("info", c_uint32), ("size_or_type", c_uint32))


PRINT: Final = CFUNCTYPE(c_int, c_int, c_char_p, c_void_p)

PROTOTYPES: Final[dict[str, tuple[Any, tuple[Any, ...]]]] = {
    "bpf_object__open_mem": (c_void_p, (c_char_p, c_size_t, POINTER(OpenOptions))),
    "bpf_object__load": (c_int, (c_void_p,)),
    "bpf_object__close": (None, (c_void_p,)),
    "bpf_object__next_program": (c_void_p, (c_void_p, c_void_p)),
    "bpf_object__next_map": (c_void_p, (c_void_p, c_void_p)),
    "bpf_object__btf": (c_void_p, (c_void_p,)),
    "bpf_program__name": (c_char_p, (c_void_p,)),
    "bpf_program__section_name": (c_char_p, (c_void_p,)),
    "bpf_program__set_log_buf": (c_int, (c_void_p, c_char_p, c_size_t)),
    "bpf_program__set_log_level": (c_int, (c_void_p, c_uint32)),
    "bpf_program__set_autoload": (c_int, (c_void_p, ctypes.c_bool)),
    "bpf_program__attach": (c_void_p, (c_void_p,)),
    "bpf_program__attach_perf_event": (c_void_p, (c_void_p, c_int)),
    "bpf_program__attach_cgroup": (c_void_p, (c_void_p, c_int)),
    "bpf_program__attach_iter": (c_void_p, (c_void_p, c_void_p)),
    "bpf_program__fd": (c_int, (c_void_p,)),
    "bpf_link__fd": (c_int, (c_void_p,)),
    "bpf_link__destroy": (c_int, (c_void_p,)),
    "bpf_map__name": (c_char_p, (c_void_p,)),
    "bpf_map__fd": (c_int, (c_void_p,)),
    "bpf_map__max_entries": (c_uint32, (c_void_p,)),
    "bpf_map__set_max_entries": (c_int, (c_void_p, c_uint32)),
    "bpf_map__reuse_fd": (c_int, (c_void_p, c_int)),
    "bpf_map__initial_value": (c_void_p, (c_void_p, POINTER(c_size_t))),
    "bpf_map__key_size": (c_uint32, (c_void_p,)),
    "bpf_map__value_size": (c_uint32, (c_void_p,)),
    "bpf_map_delete_elem": (c_int, (c_int, c_void_p)),
    "bpf_map_lookup_and_delete_batch": (
        c_int,
        (c_int, c_void_p, c_void_p, c_void_p, c_void_p, POINTER(c_uint32), c_void_p),
    ),
    "bpf_map_lookup_elem": (c_int, (c_int, c_void_p, c_void_p)),
    "bpf_map_update_elem": (c_int, (c_int, c_void_p, c_void_p, c_uint64)),
    "bpf_iter_create": (c_int, (c_int,)),
    "bpf_obj_get_info_by_fd": (c_int, (c_int, c_void_p, POINTER(c_uint32))),
    "bpf_enable_stats": (c_int, (c_int,)),
    "bpf_prog_get_next_id": (c_int, (c_uint32, POINTER(c_uint32))),
    "bpf_prog_get_fd_by_id": (c_int, (c_uint32,)),
    "bpf_map_get_fd_by_id": (c_int, (c_uint32,)),
    "btf__raw_data": (c_void_p, (c_void_p, POINTER(c_uint32))),
    "btf__load_vmlinux_btf": (c_void_p, ()),
    "btf__find_by_name_kind": (c_int32, (c_void_p, c_char_p, c_uint32)),
    "btf__type_by_id": (POINTER(BtfType), (c_void_p, c_uint32)),
    "btf__free": (None, (c_void_p,)),
    "libbpf_num_possible_cpus": (c_int, ()),
    "libbpf_probe_bpf_prog_type": (c_int, (c_int, c_void_p)),
    "libbpf_strerror": (c_int, (c_int, c_char_p, c_size_t)),
    "libbpf_set_print": (c_void_p, (PRINT,)),
    "libbpf_version_string": (c_char_p, ()),
}


class Libbpf:
    """The loaded library. Every function of `PROTOTYPES` is a method of `calls`."""

    def __init__(self) -> None:
        """Raises BpfError when the library is missing or too old."""
        try:
            self.calls = ctypes.CDLL(_library(), use_errno=True)
        except OSError as error:
            raise BpfError(
                f"{SONAME} is not installed: install the package libbpf1 (Debian, Ubuntu)"
                " or libbpf (Fedora, Amazon Linux)"
            ) from error
        for name, (result, arguments) in PROTOTYPES.items():
            try:
                function = getattr(self.calls, name)
            except AttributeError as error:
                raise BpfError(f"{SONAME} is too old: it lacks {name}; 1.1 is needed") from error
            function.restype = result
            function.argtypes = arguments
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.vsnprintf.argtypes = (c_char_p, c_size_t, c_char_p, c_void_p)
        self._libc.syscall.restype = c_long
        self._log: deque[str] = deque(maxlen=LOG_LINES)
        # ctypes keeps no reference to a callback.
        self._print = PRINT(self._remember)
        self.calls.libbpf_set_print(self._print)

    @property
    def version(self) -> str:
        """As `v1.1`."""
        return bytes(self.calls.libbpf_version_string()).decode()

    def check(self, result: Any, what: str) -> Any:
        """`result` of a call, or BpfError when it means failure. `what` completes a sentence."""
        failed = result is None or (isinstance(result, int) and result < 0)
        if not failed:
            return result
        number = ctypes.get_errno() or (-result if result else 0)
        log = self.take_log()
        raise BpfError(f"{what}: {self._describe(number)}", number, log)

    def _describe(self, number: int) -> str:
        if number < FIRST_OWN_ERROR:
            return os.strerror(number)
        text = ctypes.create_string_buffer(128)
        self.calls.libbpf_strerror(number, text, len(text))
        return text.value.decode()

    def take_log(self) -> str:
        """What libbpf logged since the last time."""
        log = "\n".join(self._log)
        self._log.clear()
        return log

    def syscall(self, *arguments: Any) -> int:
        """A system call that Python has no function for; raises OSError."""
        result: int = self._libc.syscall(*arguments)
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return result

    def _remember(self, level: int, template: bytes, arguments: int) -> int:
        if level >= DEBUG_LEVEL:
            return 0
        # On x86-64 and arm64 a va_list that is passed on is a pointer.
        line = ctypes.create_string_buffer(LOG_LINE_BYTES)
        self._libc.vsnprintf(line, LOG_LINE_BYTES, template, arguments)
        self._log.extend(line.value.decode("utf-8", "replace").splitlines())
        return 0
