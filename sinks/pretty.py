# SPDX-License-Identifier: Apache-2.0
"""One line per event for people.

    22:56:09.123 open    python3[77]        /etc/passwd O_RDONLY|O_CLOEXEC = 3

Names of files, programs and sockets come from whoever made them, so whatever is not
printable is shown as an escape like \\x1b: no name can drive the terminal, turn the
direction of the text or begin a line.
"""

from __future__ import annotations

import shlex
import time
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple, Protocol, get_type_hints, runtime_checkable

from nodeagent.encode import error_name
from nodeagent.event import (
    Accept,
    AgentEvent,
    Bind,
    Connect,
    Endpoint,
    Event,
    Exec,
    Exit,
    Fork,
    Listen,
    Network,
    Open,
)
from nodeagent.finding import Finding, Severity

__all__ = ["Style", "harmless", "line"]

KIND_COLUMNS: Final = 7
ACTOR_COLUMNS: Final = 18
COMM_COLUMNS: Final = 15

GOES_ON: Final = ("EINPROGRESS", "EAGAIN")
"""Errors of calls that do not wait: nothing went wrong."""


class Said(NamedTuple):
    """What a line says after the time and the kind. It is harmless text."""

    actor: str
    subject: str = ""
    detail: str = ""
    """Cut first where the room is small."""
    outcome: str = ""
    """Never cut."""
    bad: bool = False


class Style(NamedTuple):
    """Escape sequences for the parts of a line; all empty without colour."""

    kinds: Mapping[str, str] = {}
    bad: str = ""
    dim: str = ""
    end: str = ""

    @classmethod
    def coloured(cls) -> Style:
        """Colours that can be read on dark and on light terminals."""
        green, yellow, blue, magenta, cyan = (f"\x1b[{n}m" for n in range(32, 37))
        network = dict.fromkeys(("connect", "accept", "bind", "listen"), magenta)
        kinds = {"exec": green, "fork": blue, "exit": blue, "open": cyan, "finding": yellow}
        return cls(kinds | network, bad="\x1b[31m", dim="\x1b[2m", end="\x1b[0m")


def line(item: Event | AgentEvent | Finding, style: Style, width: int | None) -> str:
    """`item` as one line without its end, in at most `width` columns (None: any number)."""
    said = SAY.get(type(item), say_unknown)(item)
    family = _kind(item).partition(".")[0]
    head = f"{_clock(item)} {_fill(family, KIND_COLUMNS)} {_fill(said.actor, ACTOR_COLUMNS)} "
    subject, detail, outcome = said.subject, said.detail, said.outcome
    if width is not None:
        room = max(width - columns(head) - (columns(outcome) + 1 if outcome else 0), 1)
        subject = cut(subject, room)
        room -= columns(subject) + (1 if subject else 0)
        detail = cut(detail, room) if room > 1 else ""
    if not style.end:
        return " ".join(part for part in (head.rstrip(), subject, detail, outcome) if part)
    return _paint(family, said._replace(subject=subject, detail=detail), head, style)


def _paint(family: str, said: Said, head: str, style: Style) -> str:
    clock, kind, actor = head[:12], head[13 : 13 + max(KIND_COLUMNS, len(family))], ""
    actor = head[14 + len(kind) :].rstrip()
    colour = style.kinds.get(family, style.dim)
    body = " ".join(part for part in (actor, said.subject) if part)
    if family == "agent":
        body = _in(style.dim, body, style)
    parts = [
        _in(style.dim, clock, style),
        _in(style.bad if said.bad and family == "finding" else colour, kind, style),
        body,
        _in(style.dim, said.detail, style),
        _in(style.bad, said.outcome, style) if said.bad else said.outcome,
    ]
    return " ".join(part for part in parts if part)
