# SPDX-License-Identifier: Apache-2.0
"""The agent's log: one line per record on stderr, an event name and key=value."""

from __future__ import annotations

import logging
import os
import sys
import time
import traceback
from types import TracebackType
from typing import Final

COLOURS: Final = {"WARNING": "33", "ERROR": "31", "CRITICAL": "31", "DEBUG": "2"}
"""Of a terminal, by level."""


def set_up(level: str, *, tracebacks: bool) -> None:
    """Log from `level` on, to what is stderr now."""
    # A log that cannot be written must not fill stderr with tracebacks about it.
    logging.raiseExceptions = False
    stream = sys.stderr
    coloured = stream is not None and _is_coloured(stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter(coloured=coloured, tracebacks=tracebacks))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


class LineFormatter(logging.Formatter):
    """Time in UTC, level, message; in one line, unless tracebacks are wanted."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self, *, coloured: bool, tracebacks: bool) -> None:
        """Without `tracebacks` an exception is told by its type and text."""
        super().__init__()
        self._coloured = coloured
        self._tracebacks = tracebacks

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  as logging names it
        """One line, in which what came from outside cannot begin another."""
        level = record.levelname.lower()
        if self._coloured and record.levelname in COLOURS:
            level = f"\033[{COLOURS[record.levelname]}m{level}\033[0m"
        line = f"{self.formatTime(record)} {level} {_printable(record.message)}"
        if record.exc_info and record.exc_info[1] and not self._tracebacks:
            # Else the caller appends the traceback.
            error = record.exc_info[1]
            line += f" error={type(error).__name__} text={_printable(str(error))}"
        return line

    def formatException(  # noqa: N802  as logging names it
        self,
        ei: tuple[type[BaseException], BaseException, TracebackType | None]
        | tuple[None, None, None],
    ) -> str:
        """The traceback; nothing where the line says it all."""
        return "".join(traceback.format_exception(ei[1])).rstrip() if self._tracebacks else ""


def _is_coloured(terminal: bool) -> bool:
    return terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
