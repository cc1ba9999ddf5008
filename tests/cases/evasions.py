# SPDX-License-Identifier: Apache-2.0
"""Published ways to hide from agents like this one, as far as one event tells.

Their names begin with the number of the way, as those of all cases and tests about them do.
"""

from __future__ import annotations

from typing import Final

from tests.cases import Case, Said

KTHREADD: Final = 2
"""The parent of what the kernel starts by itself."""

SIBLINGS: Final = frozenset(
    {"openat2", "open-by-handle-at", "execveat", "dup3-socket-to-error", "pidfd-getfd"}
    | {"renameat2", "linkat", "symlinkat", "move_mount", "vm-write", "clone3", "pkey-mprotect"}
)
"""E10: cases of calls that do the same as better known ones."""

CASES: Final = [
    Case(
        "e2-path-through-a-link-and-back",
        "open",
        ("evasion", "confused"),
        {"path": "{cwd}/secret/shadow", "error": None},
    ),
    Case(
        "e3-hard-link-has-the-inode",
        "open",
        ("evasion", "hard_link"),
        {"path": "{cwd}/harmless", "inode": Said("inode")},
    ),
    Case(
        "e4-folder-that-is-a-link",
        "open",
        ("evasion", "linked_folder"),
        {"path": "{cwd}/etc/profile", "created": True},
    ),
    Case(
        "e7-other-name-in-argv",
        "exec",
        ("evasion", "other_name", "/proc/self/exe"),
        {"path": "{program}", "argv": ["sudoedit", "-s"], "filename": "/proc/self/exe"},
    ),
    Case(
        "e9-shell-on-a-pipe-with-a-name",
        "exec",
        ("evasion", "back_pipe", "/proc/self/exe"),
        {"path": "{program}", "argc": 1, "stdio__0__type": "pipe"},
        code=2,
    ),
    Case(
        "e13-memory-by-the-name-of-its-descriptor",
        "exec",
        ("evasion", "memory_by_name"),
        {"memfd": True, "links": 0, "path": "/memfd:harmless", "argv": ["harmless", "nothing"]},
    ),
    Case(
        "e14-loader-runs-the-program",
        "exec",
        ("evasion", "loader"),
        {"filename": "{loader}", "argv": ["{loader}", "{self}", "nothing"]},
    ),
    Case(
        "e14-kernel-runs-what-takes-cores",
        "exec",
        ("evasion", "core_pattern"),
        {"path": "{program}", "argc": 2, "argv__1": "tell", "process__parent_pid": KTHREADD},
    ),
    Case(
        "e14-kernel-runs-the-agent-of-a-cgroup",
        "exec",
        ("evasion", "release_agent"),
        {"path": "{program}", "argv": ["{program}", "/tell"], "process__parent_pid": KTHREADD},
    ),
    Case(
        "e14-kernel-takes-another-program",
        "exec",
        ("evasion", "binfmt_misc"),
        {
            "path": "{program}",
            "argv": ["{program}", "data.nodeagent-evasion"],
            "filename": "data.nodeagent-evasion",
        },
    ),
    Case(
        "e14-loader-maps-the-program",
        "mmap",
        ("evasion", "loader"),
        {"path": "{self}", "protection": ["PROT_READ", "PROT_EXEC"]},
    ),
    Case(
        "e12-call-of-32-bits",
        "open",
        ("evasion", "call_of_32_bits"),
        {"path": "{cwd}/file", "flags": ["O_RDONLY"]},
    ),
    Case(
        "e12-ids-changed-by-32-bits",
        "setuid",
        ("evasion", "ids_changed_by_32_bits"),
        {
            "result": Said("result"),
            "call": "setresuid",
            "asked_real": 1001,
            "asked_effective": 1002,
            "asked_saved": None,
            "old__uid": 0,
            "old__euid": 0,
            "new__uid": 1001,
            "new__euid": 1002,
            "new__suid": 0,
        },
    ),
    Case(
        "e24-name-that-is-not-in-memory",
        "open",
        ("evasion", "absent_name"),
        {"argument": "nowhere", "error": "ENOENT", "unread": None},
    ),
    Case(
        "e24-argument-that-is-not-in-memory",
        "exec",
        ("evasion", "absent_argument"),
        {"path": "{program}", "argv": ["nowhere", "nothing"], "unread": None},
    ),
    Case(
        "e23-root-and-mount-of-its-own",
        "open",
        ("evasion", "other_root"),
        {
            "path": "{cwd}/root/file",
            "flags": ["O_RDONLY"],
            "process__namespaces__mnt": Said("namespace"),
        },
    ),
    Case(
        "e23-folder-moved-behind-its-descriptor",
        "open",
        ("evasion", "moved_folder"),
        {"path": "{cwd}/after/file", "error": None},
    ),
]
