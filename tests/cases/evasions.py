# SPDX-License-Identifier: Apache-2.0
"""Published ways to hide from agents like this one, as far as one event tells.

E10 (sibling calls) is what all other cases are about, E11 (io_uring) is io_uring.py.
"""

from __future__ import annotations

from typing import Final

from tests.cases import Case, Said

KTHREADD: Final = 2
"""The parent of what the kernel starts by itself."""

CASES: Final = [
    Case(
        "evasion-path-through-a-link-and-back",
        "open",
        ("evasion", "confused"),
        {"path": "{cwd}/secret/shadow", "error": None},
    ),
    Case(
        "evasion-hard-link-has-the-inode",
        "open",
        ("evasion", "hard_link"),
        {"path": "{cwd}/harmless", "inode": Said("inode")},
    ),
    Case(
        "evasion-folder-that-is-a-link",
        "open",
        ("evasion", "linked_folder"),
        {"path": "{cwd}/etc/profile", "created": True},
    ),
    Case(
        "evasion-other-name-in-argv",
        "exec",
        ("evasion", "other_name", "/proc/self/exe"),
        {"path": "{program}", "argv": ["sudoedit", "-s"], "filename": "/proc/self/exe"},
    ),
    Case(
        "evasion-shell-on-a-pipe-with-a-name",
        "exec",
        ("evasion", "back_pipe", "/proc/self/exe"),
        {"path": "{program}", "argc": 1, "stdio__0__type": "pipe"},
        code=2,
    ),
    Case(
        "evasion-memory-by-the-name-of-its-descriptor",
        "exec",
        ("evasion", "memory_by_name"),
        {"memfd": True, "links": 0, "path": "/memfd:harmless", "argv": ["harmless", "nothing"]},
    ),
    Case(
        "evasion-loader-runs-the-program",
        "exec",
        ("evasion", "loader"),
        {"filename": "{loader}", "argv": ["{loader}", "{self}", "nothing"]},
    ),
    Case(
        "evasion-kernel-runs-what-takes-cores",
        "exec",
        ("evasion", "core_pattern"),
        {"path": "{program}", "argc": 2, "argv__1": "tell", "process__parent_pid": KTHREADD},
    ),
    Case(
        "evasion-kernel-runs-the-agent-of-a-cgroup",
        "exec",
        ("evasion", "release_agent"),
        {"path": "{program}", "argv": ["{program}", "/tell"], "process__parent_pid": KTHREADD},
    ),
    Case(
        "evasion-kernel-takes-another-program",
        "exec",
        ("evasion", "binfmt_misc"),
        {
            "path": "{program}",
            "argv": ["{program}", "data.nodeagent-evasion"],
            "filename": "data.nodeagent-evasion",
        },
    ),
    Case(
        "evasion-loader-maps-the-program",
        "mmap",
        ("evasion", "loader"),
        {"path": "{self}", "protection": ["PROT_READ", "PROT_EXEC"]},
    ),
    Case(
        "evasion-call-of-32-bits",
        "open",
        ("evasion", "call_of_32_bits"),
        {"path": "{cwd}/file", "flags": ["O_RDONLY"]},
    ),
    Case(
        "evasion-root-and-mount-of-its-own",
        "open",
        ("evasion", "other_root"),
        {
            "path": "{cwd}/root/file",
            "flags": ["O_RDONLY"],
            "process__namespaces__mnt": Said("namespace"),
        },
    ),
    Case(
        "evasion-folder-moved-behind-its-descriptor",
        "open",
        ("evasion", "moved_folder"),
        {"path": "{cwd}/after/file", "error": None},
    ),
]
