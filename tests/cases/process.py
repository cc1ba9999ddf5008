# SPDX-License-Identifier: Apache-2.0
"""exec, fork and exit."""

from __future__ import annotations

from typing import Final

from tests.cases import Case, Said

ROOT: Final = {"uid": 0, "gid": 0, "euid": 0, "egid": 0}
CLONE_NEWUTS: Final = str(0x4000000)
EXIT: Final = ("act", "exit", "0")
"""What the new program is called with: it is the act program again."""

EXEC: Final = [
    Case(
        "exec",
        "exec",
        ("act", "exec", "own", "renamed", "exit", "0"),
        {
            "result": 0,
            "error": None,
            "tid": Said("pid"),
            "path": "{program}",
            "filename": "{program}",
            "argv": ["renamed", "exit", "0"],
            "argc": 3,
            "cwd": "{cwd}",
            "inode": Said("inode"),
            "device": "{device}",
            "mode": "0755",
            "file_uid": 0,
            "file_gid": 0,
            "links": 1,
            "memfd": False,
            "script": None,
            "interpreter": None,
            "old": ROOT,
            "personality": [],
            "truncated": None,
            "unread": None,
            "process__comm": "act",
            "process__path": "{program}",
            "process__namespace_pid": Said("pid"),
        },
    ),
    Case(
        "exec-environment",
        "exec",
        ("act", "exec_environment", "own", *EXIT),
        {"path": "{program}", "environment": {"LD_LIBRARY_PATH": "/opt/lib:/x"}},
    ),
    Case(
        "e25-argument-beyond-what-is-kept",
        "exec",
        ("act", "exec_long", "own"),
        {"path": "{program}", "argc": 4, "truncated": ["argv"]},
    ),
    Case(
        "exec-script",
        "exec",
        ("act", "exec_script", "script", "argument"),
        {
            "path": "{program}",
            "filename": "./script",
            "script": "./script",
            "interpreter": "{program}",
            "argv": ["{program}", "exit", "./script", "argument"],
        },
    ),
    Case(
        "execveat",
        "exec",
        ("act", "execveat", "own", *EXIT),
        {"result": 0, "path": "{program}", "filename": "/dev/fd/{fd}", "argv": [*EXIT]},
    ),
    Case(
        "exec-at-fixed-addresses",
        "exec",
        ("act", "exec_fixed", "own", *EXIT),
        {"path": "{program}", "personality": ["ADDR_NO_RANDOMIZE"]},
    ),
    Case(
        "exec-at-fixed-addresses-failing",
        "exec",
        ("act", "exec_fixed", "./missing", "missing"),
        {"filename": "./missing", "personality": ["ADDR_NO_RANDOMIZE"], "error": "ENOENT"},
        code=1,
    ),
    Case(
        "exec-memfd",
        "exec",
        ("act", "exec_memfd", "own", *EXIT),
        {"path": "/memfd:nameless", "memfd": True, "links": 0},
    ),
    Case(
        "exec-deleted",
        "exec",
        ("act", "exec_deleted", *EXIT),
        {"path": "{cwd}/copy", "memfd": False, "links": 0},
    ),
    Case(
        "exec-elevated",
        "exec",
        ("act", "exec_elevated", "1234", "2345", *EXIT),
        {
            "path": "{cwd}/elevated",
            "mode": "4755",
            "old": {"uid": 1234, "gid": 2345, "euid": 1234, "egid": 2345},
            "process__uid": 1234,
            "process__euid": 0,
            "process__gid": 2345,
            "process__egid": 2345,
        },
    ),
    Case(
        "exec-in-thread",
        "exec",
        ("act", "exec_thread", "own", *EXIT),
        {"path": "{program}", "argv": [*EXIT], "tid": Said("pid"), "old": ROOT},
    ),
    Case(
        "exec-with-socket",
        "exec",
        (
            *("act", "with_server", "inet", "127.0.0.1"),
            *("exec_socket", "127.0.0.1", "server", "own", *EXIT),
        ),
        {
            "path": "{program}",
            "stdio__0": {
                "type": "socket",
                "remote": {"address": "127.0.0.1", "port": Said("port")},
                "inode": 0,
            },
            "stdio__1__type": "pipe",
            "stdio__2": {"type": "closed", "remote": None, "inode": 0},
        },
    ),
    Case(
        "exec-missing",
        "exec",
        ("act", "exec", "./missing", "missing", "argument"),
        {
            "result": -2,
            "error": "ENOENT",
            "path": None,
            "filename": "./missing",
            "argv": ["missing", "argument"],
            "cwd": "{cwd}",
            "old": ROOT,
        },
        code=1,
    ),
    Case(
        "exec-forbidden",
        "exec",
        ("act", "with_file", "plain", "exec", "./plain", "plain"),
        {"result": -13, "error": "EACCES", "filename": "./plain", "argv": ["plain"]},
        code=1,
    ),
    Case(
        "execveat-failing",
        "exec",
        ("act", "execveat", "missing", "argument"),
        {"result": -9, "error": "EBADF", "filename": None, "argv": ["argument"]},
        code=1,
    ),
]

CHILD: Final = {
    "result": None,
    "child__pid": Said("child"),
    "child__parent_pid": Said("pid"),
    "child__uid": 0,
    "child__gid": 0,
    "child__euid": 0,
    "child__egid": 0,
    "child__comm": "act",
}

FORK: Final = [
    Case("fork", "fork", ("act", "fork"), {**CHILD, "tid": Said("pid"), "flags": []}),
    Case("vfork", "fork", ("act", "vfork"), {**CHILD, "flags": ["CLONE_VM", "CLONE_VFORK"]}),
    Case("clone", "fork", ("act", "clone", CLONE_NEWUTS), {**CHILD, "flags": ["CLONE_NEWUTS"]}),
    Case("clone3", "fork", ("act", "clone3", CLONE_NEWUTS), {**CHILD, "flags": ["CLONE_NEWUTS"]}),
]

EXIT_CASES: Final = [
    Case(
        "exit",
        "exit",
        ("act", "exit", "42"),
        {"tid": Said("pid"), "code": 42, "signal": "", "core_dumped": False, "group_exit": True},
        code=42,
    ),
    Case(
        "exit-of-the-thread",
        "exit",
        ("act", "leave", "5"),
        {"code": 5, "signal": "", "group_exit": False},
        code=5,
    ),
    Case(
        "exit-with-threads",
        "exit",
        ("act", "threads", "0"),
        {"code": 9, "signal": "", "group_exit": True},
        code=9,
    ),
    Case(
        "exit-leader-first",
        "exit",
        ("act", "threads", "1"),
        # The last thread calls exit_group(2) for all of them.
        {"code": 0, "signal": "", "group_exit": True},
    ),
    Case(
        "exit-by-signal",
        "exit",
        ("act", "signal", "15"),
        {"code": 0, "signal": "SIGTERM", "core_dumped": False, "group_exit": True},
        code=-15,
    ),
    Case(
        "exit-with-core",
        "exit",
        ("act", "waited", "signal", "6"),
        {
            "code": 0,
            "signal": "SIGABRT",
            "core_dumped": Said("core"),
            "max_rss_bytes": Said("max_rss_bytes"),
        },
    ),
]

CASES: Final = [*EXEC, *FORK, *EXIT_CASES]
