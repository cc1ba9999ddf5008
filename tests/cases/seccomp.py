# SPDX-License-Identifier: Apache-2.0
"""Attempts that seccomp refuses, as in containers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tests.cases import Case

EXPECTED: Final[Mapping[str, Mapping[str, object]]] = {
    "mount": {
        "source": "something",
        "path": "{cwd}/at",
        "type": "tmpfs",
        "flags": ["MS_NOSUID"],
        "call": "mount",
    },
    "bpf": {"command": "BPF_PROG_LOAD", "program_type": "BPF_PROG_TYPE_SOCKET_FILTER"},
    "connect": {"remote__address": "127.0.0.1", "remote__port": 9, "unverified": True},
}
"""By the kind, which is the name of the act."""

CASES: Final = [
    Case(
        f"{kind}-refused-by-seccomp",
        kind,
        ("seccomp", kind),
        {"result": -1, "error": "EPERM", **expect},
    )
    for kind, expect in EXPECTED.items()
]
