# SPDX-License-Identifier: Apache-2.0
"""Executable memory, and the memory of other processes."""

from __future__ import annotations

import errno

from tests.cases import Case, Said

PAGE = 4096
LIBRARY = {
    "path": "{cwd}/library",
    "inode": Said("inode"),
    "device": Said("device"),
    "mode": "0755",
    "file_bytes": 4 * PAGE,
    "file_changed": Said("changed"),
}
READ_EXEC = ["PROT_READ", "PROT_EXEC"]
ALL = ["PROT_READ", "PROT_WRITE", "PROT_EXEC"]
CHILD = {"target__passed_pid": Said("child"), "target_process__pid": Said("child")}
TRACED = CHILD | {"target__pid": Said("child")}
NOBODY = {"target__passed_pid": 4194303, "target__pid": 0, "target_process": None}


def failed(error: int) -> dict[str, object]:
    """What an event says about a call that failed."""
    return {"result": -error, "error": errno.errorcode[error]}


MMAP = [
    Case(
        "mmap-library",
        "mmap",
        ("memory", "mmap_library"),
        LIBRARY
        | {
            "result": 0,
            "address": Said("address"),
            "length": 2 * PAGE,
            "protection": READ_EXEC,
            "flags": ["MAP_PRIVATE", "MAP_DENYWRITE"],
            "unread": None,
            "truncated": None,
        },
    ),
    Case(
        "mmap-shared-file-to-write-and-execute",
        "mmap",
        ("memory", "mmap_shared"),
        LIBRARY
        | {
            "address": Said("address"),
            "protection": ["PROT_WRITE", "PROT_EXEC"],
            "flags": ["MAP_SHARED"],
        },
    ),
    Case(
        "mmap-anonymous-to-write-and-execute",
        "mmap",
        ("memory", "mmap_anonymous"),
        {
            "result": 0,
            "address": Said("address"),
            "length": 3 * PAGE,
            "protection": ALL,
            "flags": ["MAP_PRIVATE", "MAP_ANONYMOUS"],
            "path": None,
            "inode": 0,
            "device": "0:0",
            "mode": "0000",
        },
    ),
    Case(
        "mmap-memfd",
        "mmap",
        ("memory", "mmap_memfd"),
        {"address": Said("address"), "path": "/memfd:code", "protection": READ_EXEC},
    ),
    Case(
        "mmap-denied",
        "mmap",
        ("memory", "mmap_denied"),
        LIBRARY | failed(errno.EACCES) | {"address": 0, "protection": READ_EXEC},
    ),
    Case(
        "mmap-badfd",
        "mmap",
        ("memory", "mmap_badfd"),
        failed(errno.EBADF)
        | {"address": 0x10000000, "length": PAGE, "path": None, "unread": {"path": "EBADF"}},
    ),
]

MPROTECT = [
    Case(
        "mprotect-anonymous",
        "mprotect",
        ("memory", "mprotect_anonymous"),
        {
            "result": 0,
            "address": Said("address"),
            "length": 2 * PAGE,
            "region": "anonymous",
            "protection": READ_EXEC,
            "old_protection": ["PROT_READ", "PROT_WRITE"],
            "path": None,
        },
    ),
    Case(
        "mprotect-heap",
        "mprotect",
        ("memory", "mprotect_heap"),
        {
            "address": Said("address"),
            "region": "heap",
            "protection": ALL,
            "old_protection": ["PROT_READ", "PROT_WRITE"],
        },
    ),
    Case(
        "mprotect-stack",
        "mprotect",
        ("memory", "mprotect_stack"),
        {
            "address": Said("address"),
            "region": "stack",
            "protection": ALL,
            "old_protection": ["PROT_READ", "PROT_WRITE"],
        },
    ),
    Case(
        "mprotect-file",
        "mprotect",
        ("memory", "mprotect_file"),
        {
            "address": Said("address"),
            "region": "file",
            "path": "{cwd}/library",
            "protection": READ_EXEC,
            "old_protection": ["PROT_READ"],
        },
    ),
    Case(
        "mprotect-one-of-many-areas",
        "mprotect",
        ("memory", "mprotect_one_of_many"),
        {
            "address": Said("address"),
            "region": "anonymous",
            "protection": ["PROT_EXEC"],
            "old_protection": ["PROT_WRITE"],
        },
    ),
    Case(
        "mprotect-nothing",
        "mprotect",
        ("memory", "mprotect_nothing"),
        failed(errno.ENOMEM)
        | {"address": Said("address"), "region": "unknown", "old_protection": None, "path": None},
    ),
    Case(
        "mprotect-denied",
        "mprotect",
        ("memory", "mprotect_denied"),
        failed(errno.EACCES)
        | {"region": "file", "path": "{cwd}/library", "old_protection": ["PROT_READ"]},
    ),
    Case(
        "pkey-mprotect",
        "mprotect",
        ("memory", "pkey_mprotect"),
        {
            "result": 0,
            "address": Said("address"),
            "length": PAGE,
            "region": "anonymous",
            "protection": READ_EXEC,
            "old_protection": ["PROT_READ", "PROT_WRITE"],
        },
    ),
    Case(
        "pkey-mprotect-badkey",
        "mprotect",
        ("memory", "pkey_mprotect_badkey"),
        failed(errno.EINVAL) | {"region": "anonymous", "old_protection": ["PROT_READ"]},
    ),
]

MEMFD = [
    Case(
        "memfd-odd-name",
        "memfd",
        ("memory", "memfd"),
        {
            "name": "../odd name\x01\\xff",
            "flags": ["MFD_CLOEXEC", "MFD_ALLOW_SEALING"],
            "fd": Said("result"),
            "result": Said("result"),
            "secret": False,
        },
    ),
    Case(
        "memfd-nameless",
        "memfd",
        ("memory", "memfd_nameless"),
        {"name": None, "flags": [], "fd": Said("result"), "secret": False, "unread": None},
    ),
    Case(
        "memfd-badflags",
        "memfd",
        ("memory", "memfd_badflags"),
        failed(errno.EINVAL)
        | {"name": "never made", "flags": ["MFD_CLOEXEC", "0x40000000"], "fd": None},
    ),
    Case(
        "memfd-secret",
        "memfd",
        ("memory", "memfd_secret"),
        {
            "name": None,
            "flags": ["O_CLOEXEC"],
            "fd": Said("result"),
            "result": Said("result"),
            "secret": True,
        },
    ),
    Case(
        "memfd-secret-badflags",
        "memfd",
        ("memory", "memfd_secret_badflags"),
        failed(errno.EINVAL) | {"flags": ["0x40000000"], "fd": None, "secret": True},
    ),
]

PTRACE = [
    Case(
        "ptrace-attach",
        "ptrace",
        ("memory", "ptrace_attach"),
        TRACED
        | {
            "request": "PTRACE_ATTACH",
            "result": 0,
            "address": 0,
            "data": 0,
            "target_process__path": Said("path"),
        },
    ),
    Case(
        "ptrace-seize",
        "ptrace",
        ("memory", "ptrace_seize"),
        TRACED | {"request": "PTRACE_SEIZE", "result": 0, "data": 0x100000},
    ),
    Case(
        "ptrace-thread",
        "ptrace",
        ("memory", "ptrace_thread"),
        TRACED | {"request": "PTRACE_SEIZE", "target__passed_pid": Said("thread")},
    ),
    Case(
        "ptrace-poke",
        "ptrace",
        ("memory", "ptrace_poke"),
        TRACED
        | {
            "request": "PTRACE_POKEDATA",
            "result": 0,
            "address": Said("where"),
            "data": 0x7766554433221100,
        },
    ),
    Case(
        "ptrace-registers",
        "ptrace",
        ("memory", "ptrace_registers"),
        TRACED | {"request": "PTRACE_SETREGSET", "address": 1, "data": Said("place")},
    ),
    Case(
        "ptrace-traceme",
        "ptrace",
        ("memory", "ptrace_traceme"),
        {
            "request": "PTRACE_TRACEME",
            "result": 0,
            "target__passed_pid": 0,
            "target__pid": Said("parent"),
            "target_process__pid": Said("parent"),
        },
    ),
    Case(
        "ptrace-denied",
        "ptrace",
        ("memory", "ptrace_denied"),
        CHILD | failed(errno.EPERM) | {"request": "PTRACE_ATTACH", "target__pid": 0},
    ),
    Case(
        "ptrace-nobody",
        "ptrace",
        ("memory", "ptrace_nobody"),
        NOBODY | failed(errno.ESRCH) | {"request": "PTRACE_ATTACH"},
    ),
    Case(
        "ptrace-peek-fails",
        "ptrace",
        ("memory", "ptrace_peek"),
        CHILD | failed(errno.ESRCH) | {"request": "PTRACE_PEEKDATA", "address": Said("where")},
    ),
    Case(
        "ptrace-inside-pid-namespace",
        "ptrace",
        ("memory", "ptrace_inside"),
        TRACED | {"request": "PTRACE_ATTACH", "result": 0, "target__passed_pid": 2},
    ),
]


def moves(kind: str, call: str) -> list[Case]:
    """The cases of process_vm_readv(2), or of its sibling that writes."""
    pieces = {"address": Said("where"), "flags": 0, "target__pid": 0}
    return [
        Case(f"vm-{call}", kind, ("memory", "vm", call), CHILD | pieces | {"result": 12}),
        Case(
            f"vm-{call}-inside-pid-namespace",
            kind,
            ("memory", "vm_inside", call),
            CHILD | pieces | {"result": 12, "target__passed_pid": 2},
        ),
        Case(
            f"vm-{call}-denied",
            kind,
            ("memory", "vm_denied", call),
            CHILD | pieces | failed(errno.EPERM),
        ),
        Case(
            f"vm-{call}-nobody",
            kind,
            ("memory", "vm_nobody", call),
            NOBODY | pieces | failed(errno.ESRCH),
        ),
        Case(
            f"vm-{call}-badflags",
            kind,
            ("memory", "vm_badflags", call),
            CHILD | failed(errno.EINVAL) | {"address": Said("where"), "flags": 5},
        ),
        Case(
            f"vm-{call}-unmapped",
            kind,
            ("memory", "vm_unmapped", call),
            CHILD | failed(errno.EFAULT) | {"address": 0},
        ),
    ]


USERFAULTFD = [
    Case(
        "userfaultfd",
        "userfaultfd",
        ("memory", "userfaultfd"),
        {"flags": ["O_NONBLOCK", "O_CLOEXEC"], "result": Said("result")},
    ),
    Case(
        "userfaultfd-badflags",
        "userfaultfd",
        ("memory", "userfaultfd_badflags"),
        failed(errno.EINVAL) | {"flags": ["O_CLOEXEC", "0x40"]},
    ),
]

CASES = [
    *MMAP,
    *MPROTECT,
    *MEMFD,
    *PTRACE,
    *moves("vm_read", "read"),
    *moves("vm_write", "write"),
    Case(
        "vm-write-by-file",
        "vm_write",
        ("memory", "write_mem"),
        {
            "result": Said("result"),
            "target__pid": Said("child"),
            "target_process__pid": Said("child"),
            "address": Said("where"),
        },
    ),
    *USERFAULTFD,
]
