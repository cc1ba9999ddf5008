# SPDX-License-Identifier: Apache-2.0
"""One agent takes over from another without a gap.

The new one asks for what both must agree on, loads and attaches its programs, and asks the old
one to leave; that drains and lets go of its sinks, which the new one opens then. Meanwhile what
it sees waits on its rings. What both have seen has the same id, by bpf/moment.h.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

import msgspec

from nodeagent.control import Answer, Handing, take
from nodeagent.errors import ControlError, StartError
from nodeagent.kernel.features import Hook, family_of
from nodeagent.kernel.object import BpfObject
from nodeagent.life import Life
from nodeagent.source.live import Kernel

__all__ = ["REASON", "Predecessor", "Successor"]

log: Final = logging.getLogger(__name__)

REASON: Final = "hand-over"
"""Of an end that another agent asked for."""
MOMENTS: Final = "moments"
"""The map that both use."""
HAND_OVER_SECONDS: Final = 60.0
"""Who has not taken over by then is an ordinary process again."""


class _Facts(msgspec.Struct):
    """What the old one tells."""

    boot_ns: int
    """The wall clock at boot, as it goes by it."""
    hooks: dict[str, list[str]]
    """Where its programs are, by kind."""
    entry_bytes: list[int]
    """Of the map of moments."""


class Successor:
    """The side of the agent that is there: answers one that wants to take over."""

    def __init__(
        self,
        kernel: Kernel,
        boot_ns: Callable[[], int],
        stop: Callable[[str], None],
        tell: Callable[[dict[str, object]], None],
    ) -> None:
        """`stop` ends the run for a reason; `tell` takes the facts of `agent.hand_over`."""
        self._kernel = kernel
        self._boot_ns = boot_ns
        self._stop = stop
        self._tell = tell
        self._pid = 0
        self._timer: asyncio.TimerHandle | None = None

    def handing(self) -> dict[str, Handing]:
        """For the control socket."""
        return {"hand_over": self._begin}

    def answers(self) -> dict[str, Answer]:
        """For the control socket."""
        return {"leave": self._leave}

    def _begin(self, pid: int) -> tuple[Mapping[str, object], list[int]]:
        if self._pid and Path(f"/proc/{self._pid}").exists():
            raise ControlError(f"pid {self._pid} is about to take over already")
        self._pid = pid
        path = ""
        with suppress(OSError):
            path = str(Path(f"/proc/{pid}/exe").readlink())
        # From now on it is not watched, so that is told.
        self._tell({"pid": pid, "path": path})
        # Whoever attaches a tracepoint first runs first; with trampolines it is the last one.
        first, second = _split(self._kernel.hooks)
        self._kernel.policy.watch_beside(pid, first, second)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(HAND_OVER_SECONDS, self._forget)
        loaded = self._kernel.loaded
        facts = _Facts(self._boot_ns(), _places(self._kernel.hooks), loaded.entry_bytes(MOMENTS))
        return msgspec.to_builtins(facts), [loaded.map(MOMENTS)]

    def _leave(self) -> Mapping[str, object]:
        if not self._pid:
            raise ControlError("nobody has asked for a hand-over before")
        self._stop(REASON)
        return {"leaves": True}

    def _forget(self) -> None:
        self._pid = 0
        self._kernel.policy.watch_beside(0, (), ())


class Predecessor:
    """The side of the agent that comes."""

    def __init__(self, socket: Path) -> None:
        """Ask for a hand-over; raises StartError."""
        self._socket = socket
        try:
            answer, self.pid, descriptors = take(socket, "hand_over")
            self._facts = msgspec.convert(answer, _Facts)
        except (ControlError, msgspec.ValidationError) as error:
            raise StartError(
                f"the agent that has the state file does not hand over: {error}"
                " (control.socket must be the same for both)"
            ) from error
        self._moments = descriptors[0] if descriptors else None

    def __enter__(self) -> Self:
        """The predecessor itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give the descriptor back."""
        if self._moments is not None:
            os.close(self._moments)
            self._moments = None

    @property
    def boot_ns(self) -> int:
        """The wall clock at boot, as it goes by it."""
        return self._facts.boot_ns

    def moments(self, opened: BpfObject) -> int | None:
        """The map that both use; None when it has another layout."""
        same = opened.entry_bytes(MOMENTS) == self._facts.entry_bytes
        return self._moments if same else None

    def watch_beside(self, kernel: Kernel) -> None:
        """Before anything is attached."""
        ours = _places(kernel.hooks)
        shared = {kind for kind, places in ours.items() if self._facts.hooks.get(kind) == places}
        if self.moments(kernel.loaded) is None:
            shared = set()
        if others := sorted(ours.keys() - shared):
            log.info("hand_over ids_differ=%s", ",".join(others))
        second, first = _split(hook for hook in kernel.hooks if hook.kind in shared)
        kernel.policy.watch_beside(self.pid, first, second)

    async def leave(self, life: Life, kernel: Kernel) -> None:
        """Ask it to end, and wait until it has let go of everything."""
        try:
            take(self._socket, "leave")
        except ControlError as error:
            # It may have ended by itself, and then its file is free.
            log.warning("hand_over why=%s", error)
        await life.wait()
        kernel.policy.watch_beside(0, (), ())


def _places(hooks: Iterable[Hook]) -> dict[str, list[str]]:
    places: dict[str, list[str]] = {}
    for hook in hooks:
        if not hook.missing:
            places.setdefault(hook.kind, []).append(hook.section)
    return {kind: sorted(sections) for kind, sections in places.items()}


def _split(hooks: Iterable[Hook]) -> tuple[list[str], list[str]]:
    """Kinds whose older program runs first, and those whose newer one does."""
    by_kind: dict[str, list[Hook]] = {}
    for hook in hooks:
        if not hook.missing:
            by_kind.setdefault(hook.kind, []).append(hook)
    older = [kind for kind, each in by_kind.items() if family_of(each) != "trampoline"]
    return older, [kind for kind in by_kind if kind not in older]
