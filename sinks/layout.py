# SPDX-License-Identifier: Apache-2.0
"""Lines of text that fit into a terminal; nodeagent/harmless.py makes sure that they do no harm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from nodeagent.harmless import columns, cut

__all__ = ["COLOURED", "PLAIN", "Said", "Style", "lay_out"]

KIND_COLUMNS: Final = 7
ACTOR_COLUMNS: Final = 18
LEAST_DETAIL_COLUMNS: Final = 6
"""A detail for which there is less room is left out."""


class Style(NamedTuple):
    """Escape sequences for the parts of a line; all empty without colour."""

    kinds: Mapping[str, str] = {}
    bad: str = ""
    dim: str = ""
    end: str = ""

    def paint(self, text: str, colour: str) -> str:
        """`text` in this colour."""
        return f"{colour}{text}{self.end}" if colour else text


def _coloured() -> Style:
    green, yellow, blue, magenta, cyan = (f"\x1b[{number}m" for number in range(32, 37))
    dim = "\x1b[2m"
    kinds = {"exec": green, "fork": blue, "exit": blue, "open": cyan}
    kinds |= dict.fromkeys(
        ("connect", "sendto", "bind", "listen", "accept", "older_socket"), magenta
    )
    kinds |= {"finding": yellow, "agent": dim}
    return Style(kinds, bad="\x1b[31m", dim=dim, end="\x1b[0m")


PLAIN: Final = Style()
COLOURED: Final = _coloured()
"""Of the eight colours that every theme keeps readable, so neither black nor white."""


class Said(NamedTuple):
    """What a line says after the time and the kind; harmless text."""

    actor: str
    subject: str
    detail: str = ""
    """Cut first where the room is small."""
    outcome: str = ""
    """Cut last."""
    bad: bool = False
    """The outcome, or the subject if there is none, is what a reader looks for."""
    quiet: bool = False
    """Nothing of the rest is."""
    cut_middle: bool = False
    """The end of the subject tells more than its middle."""


def lay_out(time: str, kind: str, said: Said, style: Style, width: int | None) -> str:
    """A line without its end, in at most `width` columns (None: any number)."""
    shown_kind = _fill(kind, KIND_COLUMNS)
    head = columns(time) + columns(shown_kind) + max(columns(said.actor), ACTOR_COLUMNS) + 3
    subject, detail = _fit(said, None if width is None else width - head)
    last = not (subject or detail or said.outcome)
    calm = style.dim if said.quiet else ""
    parts = [
        (time, style.dim),
        (shown_kind, style.kinds.get(kind, "")),
        (said.actor if last else _fill(said.actor, ACTOR_COLUMNS), calm),
        (subject, style.bad if said.bad and not said.outcome else calm),
        (detail, style.dim),
        (said.outcome, style.bad if said.bad else calm),
    ]
    fitting = _clip([part for part in parts if part[0]], width)
    return " ".join(style.paint(text, colour) for text, colour in fitting)


def _fill(text: str, room: int) -> str:
    return text + " " * (room - columns(text))


def _fit(said: Said, room: int | None) -> tuple[str, str]:
    """Subject and detail in the room that the outcome leaves."""
    if room is None:
        return said.subject, said.detail
    if said.outcome:
        room -= columns(said.outcome) + 1
    subject = cut(said.subject, room, middle=said.cut_middle)
    if subject:
        room -= columns(subject) + 1
    return subject, cut(said.detail, room) if room >= LEAST_DETAIL_COLUMNS else ""


def _clip(parts: list[tuple[str, str]], width: int | None) -> list[tuple[str, str]]:
    """The parts as far as they fit into a terminal that is too small for all of them."""
    if width is None:
        return parts
    fitting = []
    for text, colour in parts:
        if width < 1:
            break
        fitting.append((cut(text, width), colour))
        width -= columns(text) + 1
    return fitting
