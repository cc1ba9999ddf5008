# SPDX-License-Identifier: Apache-2.0
"""Calls that are no event: mere questions, and what would only be bulk."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernel.stream import ACTS, Stream, act, build

SIGUSR2 = "12"
KILLS = [("signal", "SIGUSR2"), ("signal", "SIGKILL")]
"""Of an act that ends its child."""
CODE = ["PROT_READ", "PROT_EXEC"]
SELF_MADE = ["PROT_WRITE", "PROT_EXEC"]


@pytest.mark.parametrize(
    ("arguments", "kind", "seen"),
    [
        # Signal 0, and signals to itself.
        (("system", "kill_quietly", SIGUSR2), "kill", KILLS),
        # setfsuid(-1) asks for the id.
        (("credentials", "setfsuid", "1001"), "setuid", [("asked_fs", 1001)]),
        # A map of its own, and what is in it.
        (("system", "other_map"), "bpf", [("command", "BPF_MAP_GET_FD_BY_ID")]),
        # Data from files, and code that nobody can change; the C library comes first.
        (("memory", "mmap_quietly"), "mmap", [("protection", CODE), ("protection", SELF_MADE)]),
        (("memory", "mprotect_quietly"), "mprotect", [("protection", CODE)]),
        # A look at a tracee, and letting it run.
        (("memory", "ptrace_quietly"), "ptrace", [("request", "PTRACE_ATTACH")]),
    ],
)
def test_only_what_matters_is_an_event(
    stream: Stream,
    tmp_path: Path,
    arguments: tuple[str, ...],
    kind: str,
    seen: list[tuple[str, object]],
) -> None:
    program, *rest = arguments
    acted = act(build(ACTS / f"{program}.c", tmp_path / program), *rest, cwd=tmp_path)
    assert acted.code == 0
    events = stream.of(acted.pid, kind)
    assert [(field, event[field]) for event, (field, _) in zip(events, seen, strict=True)] == seen
