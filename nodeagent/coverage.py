# SPDX-License-Identifier: Apache-2.0
"""Whether this node is covered: what is seen of it, what is not delivered, and what to do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from nodeagent.governor import Level
from nodeagent.ledger import Ledger

__all__ = ["ADVICE", "Coverage", "Issue"]

LOOK_SECONDS: Final = 10.0
"""What is still so at the second look is told."""

ABSENT: Final = {"module": Path("/proc/modules")}
"""Where these are not, there is nothing to be seen: a kernel without modules."""

ADVICE: Final = {
    "KIND_NOT_SEEN": "this kernel offers no place to see it: nodeagent doctor says what it lacks",
    "HOOK_SILENT": "the hook is there and sees nothing: restart the agent, and tell us",
    "OVER_BUDGET": "raise budget.cpu_percent or budget.memory_bytes, or leave out what is noisy:"
    " nodeagent top pods",
    "ENDPOINT_UNREACHABLE": "what is spooled is kept: check the address, the network and the other"
    " side",
    "CREDENTIALS_REFUSED": "what is spooled is kept: give the role or token of the sink the right"
    " to send",
    "INSTANCE_UNKNOWN": "let the metadata service answer two hops away, or set node.instance ="
    ' "none"',
    "ANOTHER_AGENT": "stop the other one, or give this one another control.socket",
    "EXCLUDED_BY_TAG": "remove the tag NodeagentManaged=false from the instance, or the agent",
    "AGENT_NOT_RUNNING": "start it: systemctl start nodeagent; nodeagent doctor says what is in"
    " the way",
}
"""What to do, by the code of an issue."""


class Issue(msgspec.Struct, frozen=True):
    """Why a node is not covered whole."""

    code: str
    """One of those in `ADVICE`."""
    subject: str
    """The kind or sink that it is about; empty when it is the agent."""
    why: str


class Coverage:
    """What `agent.coverage` says, and a task that says it again when it changes."""

    def __init__(
        self, hooks: Mapping[str, Any], ledger: Ledger, tell: Callable[[dict[str, object]], None]
    ) -> None:
        """`hooks` are the members of `agent.coverage` that stay the same."""
        self._hooks = hooks
        self._ledger = ledger
        self._tell = tell
        self._said: frozenset[tuple[str, str]] = frozenset()

    def report(self) -> dict[str, object]:
        """As it is now."""
        issues = list(self._issues())
        return {
            "status": "UNHEALTHY" if issues else "HEALTHY",
            "issues": [msgspec.to_builtins(issue) for issue in issues],
            **self._hooks,
        }

    def start(self) -> None:
        """Tell it for the first time."""
        self._said = self._codes()
        self._tell(self.report())

    async def follow(self) -> None:
        """Look again and again."""
        before = self._said
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            now = self._codes()
            if now == before != self._said:
                self._said = now
                self._tell(self.report())
            before = now

    def _codes(self) -> frozenset[tuple[str, str]]:
        return frozenset((issue.code, issue.subject) for issue in self._issues())

    def _issues(self) -> Iterator[Issue]:
        ledger = self._ledger
        for kind, seen in self._hooks["kinds"].items():
            absent = kind in ABSENT and not ABSENT[kind].exists()
            if not seen["programs"] and not absent:
                why = next(iter(seen["missing"].values()), "no program sees it")
                yield Issue("KIND_NOT_SEEN", kind, why)
        for kind in sorted(ledger.dead):
            yield Issue("HOOK_SILENT", kind, "what the agent itself does is not seen")
        if ledger.level >= Level.SAMPLE:
            yield Issue("OVER_BUDGET", "", f"events are left out, at level {int(ledger.level)}")
        for name, sink in ledger.sinks.items():
            if sink.trouble:
                code = "CREDENTIALS_REFUSED" if sink.is_denied else "ENDPOINT_UNREACHABLE"
                yield Issue(code, name, sink.trouble)
        for code, why in sorted(ledger.troubles.items()):
            yield Issue(code, "", why)
