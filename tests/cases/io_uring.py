# SPDX-License-Identifier: Apache-2.0
"""Rings of io_uring, and what is done through them past the system calls."""

from __future__ import annotations

from tests.cases import Case, Said

REQUEST = {"result": 0, "flags": [], "entries": 0}
PEER = {"address": "127.0.0.1", "port": Said("port")}

CASES = [
    Case(
        "e11-io-uring-setup",
        "io_uring",
        ("io_uring", "setup", "4"),
        {
            "result": Said("setup"),
            "operation": None,
            "flags": ["IORING_SETUP_CLAMP"],
            "entries": 4,
            "fd": Said("setup"),
        },
    ),
    Case(
        "e11-io-uring-setup-failed",
        "io_uring",
        ("io_uring", "setup", "0"),
        {"result": Said("setup"), "error": "EINVAL", "fd": None, "entries": 0},
    ),
    Case(
        "e11-io-uring-open",
        "io_uring",
        ("io_uring", "open", "file"),
        {**REQUEST, "operation": "IORING_OP_OPENAT", "argument": "file", "fd": None},
    ),
    Case(
        "e11-io-uring-unlink",
        "io_uring",
        ("io_uring", "unlink", "file"),
        {**REQUEST, "operation": "IORING_OP_UNLINKAT", "argument": "file", "fd": None},
    ),
    Case(
        "e11-io-uring-connect",
        "io_uring",
        ("io_uring", "connect"),
        {**REQUEST, "operation": "IORING_OP_CONNECT", "remote": PEER, "fd": Said("fd")},
    ),
    Case(
        "e11-io-uring-send",
        "io_uring",
        ("io_uring", "send"),
        {**REQUEST, "operation": "IORING_OP_SEND", "remote": PEER, "fd": Said("fd")},
    ),
]
