# SPDX-License-Identifier: Apache-2.0
"""open and its siblings."""

from __future__ import annotations

import os
from typing import Final

from tests.cases import Case, Said


def flags(value: int) -> str:
    """As the act takes them."""
    return str(value)


# A trampoline sees the file before it gets a descriptor, which alone O_CLOEXEC is about.
DESCRIPTOR: Final = {"result": Said("result")}
NO_DESCRIPTOR: Final = {"result": 0}
EXCLUSIVE: Final = ["O_WRONLY", "O_CREAT", "O_EXCL"]
OPENED: Final = {
    "error": None,
    "argument": None,
    "created": False,
    "inode": Said("inode"),
    "device": "{device}",
    "mode": "0640",
    "count": 1,
    "truncated": None,
    "unread": None,
}
FILE: Final = {**OPENED, "path": "{cwd}/file"}
NOTHING: Final = {"path": None, "created": False}
READ: Final = flags(os.O_RDONLY)
NEW: Final = flags(os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC)
APPEND: Final = flags(os.O_RDWR | os.O_APPEND)

DESCRIPTORS: Final = (*range(4, 18), 63, 64, 300)
"""Each of the first has code of its own, and a table of more than 64 lies elsewhere."""

CASES: Final = [
    Case(
        "open",
        "open",
        ("act", "with_file", "file", "open", "file", APPEND),
        {**FILE, "tid": Said("pid"), "flags": ["O_RDWR", "O_APPEND"]},
        tracepoint=DESCRIPTOR,
        trampoline=NO_DESCRIPTOR,
    ),
    *(
        Case(
            f"open-with-{number}-descriptors",
            "open",
            ("act", "with_descriptors", str(number), "with_file", "file", "open", "file", READ),
            {**FILE, "flags": ["O_RDONLY"]},
            tracepoint={"result": number},
            trampoline=NO_DESCRIPTOR,
        )
        for number in DESCRIPTORS
    ),
    Case(
        "openat",
        "open",
        ("act", "with_file", "file", "openat", ".", "file", READ),
        {**FILE, "flags": ["O_RDONLY"]},
        tracepoint=DESCRIPTOR,
        trampoline=NO_DESCRIPTOR,
    ),
    Case(
        "openat-creates",
        "open",
        ("act", "openat", "-", "file", NEW),
        {**FILE, "created": True},
        tracepoint={**DESCRIPTOR, "flags": [*EXCLUSIVE, "O_CLOEXEC"]},
        trampoline={**NO_DESCRIPTOR, "flags": EXCLUSIVE},
    ),
    Case(
        "openat-crosses-mounts",
        "open",
        ("act", "openat", "-", "/proc/self/../version", READ),
        {**OPENED, "path": "/proc/version", "mode": "0444"},
        tracepoint=DESCRIPTOR,
        trampoline=NO_DESCRIPTOR,
    ),
    Case(
        "openat2",
        "open",
        ("act", "with_file", "file", "openat2", "file", flags(os.O_WRONLY | os.O_TRUNC)),
        {**FILE, "flags": ["O_WRONLY", "O_TRUNC"]},
        tracepoint=DESCRIPTOR,
        trampoline=NO_DESCRIPTOR,
    ),
    Case(
        "creat",
        "open",
        ("act", "creat", "file"),
        {**FILE, "flags": ["O_WRONLY", "O_CREAT", "O_TRUNC"], "mode": "0600", "created": True},
        tracepoint=DESCRIPTOR,
        trampoline=NO_DESCRIPTOR,
    ),
    Case(
        "open-by-handle-at",
        "open",
        ("act", "with_file", "file", "open_by_handle_at", "file", "."),
        # No trampoline: it does not go the way that all names go.
        {**FILE, **DESCRIPTOR, "flags": ["O_RDONLY"]},
    ),
    Case(
        "open-failing",
        "open",
        ("act", "open", "missing", READ),
        {**NOTHING, "result": -2, "error": "ENOENT", "argument": "missing", "flags": ["O_RDONLY"]},
    ),
    Case(
        "openat-failing",
        "open",
        ("act", "with_file", "file", "openat", "-", "file", NEW),
        {
            **NOTHING,
            "result": -17,
            "error": "EEXIST",
            "argument": "file",
        },
        tracepoint={"flags": [*EXCLUSIVE, "O_CLOEXEC"]},
        trampoline={"flags": EXCLUSIVE},
    ),
    Case(
        "openat2-failing",
        "open",
        ("act", "openat2", ".", APPEND),
        {
            **NOTHING,
            "result": -21,
            "error": "EISDIR",
            "argument": ".",
            "flags": ["O_RDWR", "O_APPEND"],
        },
    ),
    Case(
        "creat-failing",
        "open",
        ("act", "creat", "missing/file"),
        {**NOTHING, "result": -2, "error": "ENOENT", "argument": "missing/file"},
    ),
    Case(
        "open-by-handle-at-failing",
        "open",
        ("act", "open_by_no_handle", "."),
        {**NOTHING, "result": -22, "error": "EINVAL", "argument": None},
        tracepoint={"unread": {"argument": "EFAULT"}},
    ),
    Case(
        "open-unmapped",
        "open",
        ("act", "open_unmapped"),
        {**NOTHING, "result": -14, "error": "EFAULT", "argument": None},
        tracepoint={"unread": {"argument": "EFAULT"}},
    ),
]
