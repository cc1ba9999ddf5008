# SPDX-License-Identifier: Apache-2.0
"""What every kernel has to show: do this, expect that event.

A case is data: a small program (acts/) does one thing to the kernel and says what came of
it, and an event with the expected fields has to be in the stream. The same cases run on
this machine (tests/kernel) and in every kernel of the matrix (tests/vm).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

TRACEPOINT: Final = "tracepoint"
TRAMPOLINE: Final = "trampoline"

FAMILIES: Final[Mapping[str, Sequence[str]]] = {
    family: ("--set", f"kernel.hooks={family}") for family in (TRACEPOINT, TRAMPOLINE)
}
"""The families of hooks that are tested, and the options that choose them."""

EVERYTHING: Final = (
    *("--set", "filter.repeated_opens=report"),
    *("--set", "filter.failed_opens=all"),
    *("--set", "budget.cpu_percent=0"),
    *("--set", "budget.memory_bytes=0"),
)
"""Options of an agent that leaves nothing out, not even opens of what does not exist."""


HOLD: Final = "hold"
"""An act that says `holds`, and goes on."""


@dataclass(frozen=True)
class Said:
    """A value that the act program says, instead of one that is known before."""

    name: str


@dataclass(frozen=True)
class Case:
    """One thing to do, and the event that it must cause."""

    name: str
    """Unique; lower-case words with hyphens."""
    kind: str
    act: tuple[str, ...]
    """The program in acts/, the act, its arguments."""
    expect: Mapping[str, object]
    """Fields of the event. `a__b` looks inside `a`, which may be a list if `b` is a number;
    a str may hold {names} of what was said."""
    tracepoint: Mapping[str, object] = field(default_factory=dict)
    """What else is expected of the tracepoint family."""
    trampoline: Mapping[str, object] = field(default_factory=dict)
    """What else is expected of the trampoline family."""
    code: int = 0
    """How the act ends: its exit code, or minus the signal."""

    @property
    def is_held(self) -> bool:
        """The act goes on from before an agent starts to the end of its input."""
        return self.act[1] == HOLD


def expected(case: Case, said: Mapping[str, Any], family: str) -> dict[str, object]:
    """The fields of the event that this run of the act must cause."""
    wanted = {**case.expect, **getattr(case, family)}
    return {name: _resolve(value, said) for name, value in wanted.items()}


def result_of(case: Case, said: Mapping[str, Any]) -> object:
    """What came of the call that the case is about, as far as the act says it."""
    wanted = case.expect.get("result")
    return said.get(wanted.name if isinstance(wanted, Said) else "result")


def differences(event: Mapping[str, Any], wanted: Mapping[str, object]) -> dict[str, object]:
    """The fields that are not as wanted, with what they are."""
    wrong: dict[str, object] = {}
    for name, value in wanted.items():
        found: Any = event
        for part in name.split("__"):
            found = _inside(found, part)
        if found != value:
            wrong[name] = found
    return wrong


def _inside(found: object, part: str) -> object:
    match found:
        case Mapping():
            return found.get(part)
        case list() if part.isdigit() and int(part) < len(found):
            return found[int(part)]
    return None


def family_of(events: Iterable[Mapping[str, Any]], kind: str) -> str:
    """The family that serves a kind, which need not be the one that was asked for."""
    coverage = next(event for event in events if event["kind"] == "agent.coverage")
    return TRAMPOLINE if coverage["kinds"][kind]["family"] == TRAMPOLINE else TRACEPOINT


def fault(
    case: Case, events: Iterable[Mapping[str, Any]], said: Mapping[str, Any], family: str
) -> str:
    """What is wrong with the events of a run; empty when all is well."""
    wanted = expected(case, said, family)
    own = [e for e in events if e["kind"] == case.kind and e["process"]["pid"] == said["pid"]]
    wrongs = [differences(event, wanted) for event in own]
    if not wrongs:
        return f"no event of kind {case.kind} came"
    closest = min(wrongs, key=len)
    if not closest:
        return ""
    return f"expected { ({name: wanted[name] for name in closest}) }, found {closest}"


def _resolve(value: object, said: Mapping[str, Any]) -> object:
    match value:
        case Said(name):
            return said[name]
        case str():
            return value.format_map(said) if "{" in value else value
        case list():
            return [_resolve(item, said) for item in value]
        case Mapping():
            return {name: _resolve(item, said) for name, item in value.items()}
    return value


def all_cases() -> list[Case]:
    """Every case there is."""
    from tests.cases import (  # noqa: PLC0415
        credentials,
        evasions,
        file,
        ia32,
        io_uring,
        memory,
        mount,
        network,
        process,
        seccomp,
        socket,
        system,
    )
    from tests.cases import open as opens  # noqa: PLC0415

    topics = (
        *(credentials, evasions, file, ia32, io_uring, memory, mount, network, opens, process),
        *(seccomp, socket, system),
    )
    return [case for topic in topics for case in topic.CASES]
