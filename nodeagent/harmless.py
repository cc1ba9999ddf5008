# SPDX-License-Identifier: Apache-2.0
r"""Text that fits into a terminal and cannot harm it.

Names of files, programs and sockets come from whoever made them, so what is not
printable is shown as an escape like \x1b: no name can drive the terminal, turn the
direction of the text or begin a line.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

__all__ = ["columns", "cut", "harmless"]


def harmless(text: str) -> str:
    """`text` with everything that is not printable as a visible escape."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def columns(text: str) -> int:
    """How wide a terminal shows harmless text."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def cut(text: str, room: int, *, middle: bool = False) -> str:
    """`text` in at most `room` columns, with … for what is missing."""
    if columns(text) <= room:
        return text
    if room < 1:
        return ""
    end = _first(reversed(text), (room - 1) * 2 // 3)[::-1] if middle else ""
    return _first(text, room - 1 - columns(end)) + "…" + end


def _columns(character: str) -> int:
    if unicodedata.category(character) in {"Mn", "Me"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _first(text: Iterable[str], room: int) -> str:
    taken = []
    for character in text:
        room -= _columns(character)
        if room < 0:
            break
        taken.append(character)
    return "".join(taken)
