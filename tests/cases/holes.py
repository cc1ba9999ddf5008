# SPDX-License-Identifier: Apache-2.0
"""What is known not to work, and why. A hole that works after all is an error too."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Final

from tests.cases import Case


@dataclass(frozen=True)
class Hole:
    """Something that some kernel does not show."""

    what: str
    """A kind, or the name of a case; may hold wildcards, as may the next two."""
    release: str
    """Of the kernel, as `uname -r` says it."""
    family: str
    """Of the hooks."""
    reason: str


HOLES: Final = (
    Hole(
        "vm-write-by-file",
        "*",
        "*",
        "no hook tells writes into /proc/PID/mem from others; the open of it is an event",
    ),
    Hole(
        "open-unmapped",
        "[56].*",
        "trampoline",
        "a name that cannot be read ends the call before anything is opened",
    ),
    Hole(
        "e12-*",
        "*",
        "tracepoint",
        "32-bit calls pass by the tracepoints of system calls",
    ),
    Hole(
        "x32-*",
        "*",
        "tracepoint",
        "arch_trace_is_compat_syscall() keeps them from tracepoints; no kernel here has x32",
    ),
    Hole(
        "arm32-*",
        "*",
        "tracepoint",
        "32-bit calls of arm64 pass by the tracepoints",
    ),
    Hole(
        "*-refused-by-seccomp",
        "*",
        "trampoline",
        'seccomp ends a call before its function; `kernel.hooks = "tracepoint"` sees it',
    ),
    *(
        Hole(
            case,
            "5.10.*",
            "*",
            "before commit 97b388d70b53 (v5.19) a request does not keep its descriptor",
        )
        for case in ("e11-io-uring-connect", "e11-io-uring-send")
    ),
)


def hole_of(case: Case, release: str, family: str) -> Hole | None:
    """The hole that a case falls into, if any."""
    for hole in HOLES:
        if (
            (fnmatch(case.kind, hole.what) or fnmatch(case.name, hole.what))
            and fnmatch(release, hole.release)
            and fnmatch(family, hole.family)
        ):
            return hole
    return None
