# SPDX-License-Identifier: Apache-2.0
"""Who stops the guards of a node, or takes the agent's own eBPF from it.

What is done to their memory is in `memory.py`, to their files in `guards.py`, and to the agent
by too many events in `flood.py`.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from typing import ClassVar, Final

from nodeagent.detect import Signal
from nodeagent.detect.describe import described_target
from nodeagent.detect.recent import Recent
from nodeagent.detect.where import is_contained, is_guard, is_program, is_runtime
from nodeagent.event import Bpf, Event, Kill, Process
from nodeagent.names import BPF_COMMANDS

__all__ = ["Tampering"]

ENDING: Final = {
    getattr(signal, name).value: name
    for name in (
        *("SIGKILL", "SIGTERM", "SIGINT", "SIGQUIT", "SIGABRT", "SIGSEGV", "SIGBUS", "SIGILL"),
        *("SIGFPE", "SIGTRAP", "SIGSYS", "SIGXCPU", "SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU"),
    )
}
"""Signals that end or freeze a program that does not expect them; no guard uses one for more."""
MASTERS: Final = frozenset({"systemd", "systemctl", "systemd-shutdown", "init"})
CHANGING: Final = frozenset(
    f"BPF_{name}"
    for name in (
        *("MAP_UPDATE_ELEM", "MAP_DELETE_ELEM", "MAP_LOOKUP_AND_DELETE_ELEM", "MAP_FREEZE"),
        *("MAP_UPDATE_BATCH", "MAP_DELETE_BATCH", "MAP_LOOKUP_AND_DELETE_BATCH"),
        *("PROG_ATTACH", "PROG_DETACH", "RAW_TRACEPOINT_OPEN"),
        *("LINK_CREATE", "LINK_UPDATE", "LINK_DETACH"),
    )
)
"""Commands after which the agent sees something else than before."""
HOLDERS_LIMIT: Final = 1024


class Tampering:
    """Remembers who has looked at the agent's eBPF: tools that list programs do it for each."""

    name = "tampering"
    kinds: ClassVar[tuple[str, ...]] = ("kill", "bpf")

    def __init__(self) -> None:
        self._holding: Recent[str, bool] = Recent(HOLDERS_LIMIT)
        """Processes by their UUID."""

    def inspect(self, event: Event) -> Iterable[Signal]:
        """What is done to a guard."""
        process = event.process
        if process is None:
            return ()
        if isinstance(event, Kill):
            return _on_kill(event, process)
        if isinstance(event, Bpf) and event.own:
            return self._on_bpf(event, process)
        return ()

    def _on_bpf(self, event: Bpf, process: Process) -> Iterator[Signal]:
        """The agent's own calls are no events, nor those of one that takes over from it."""
        command = str(BPF_COMMANDS.show(event.command))
        rule = "agent_bpf_changed" if command in CHANGING else "agent_bpf_held"
        if rule == "agent_bpf_held":
            if self._holding.get(process.uuid):
                return
            self._holding.put(process.uuid, value=True)
        name = event.name or f"link {event.link_id}"
        yield Signal(rule, event, {"bpfCommand": command, "bpfObject": name}, key=name)


def _on_kill(event: Kill, process: Process) -> Iterator[Signal]:
    """Only what runs services and containers and the guard itself should do that."""
    other = event.target_process
    if event.signal not in ENDING or not is_guard(other):
        return
    if process.path == other.path or (not is_contained(process) and _may_stop(process)):
        return
    context = described_target(other, other.pid)
    yield Signal("kill_guard", event, {**context, "signal": ENDING[event.signal]}, key=other.path)


def _may_stop(process: Process) -> bool:
    """A service manager or a container runtime of the host, as at each update of a guard."""
    return is_program(process.path, MASTERS) or is_runtime(process)
