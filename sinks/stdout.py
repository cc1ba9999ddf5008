# SPDX-License-Identifier: Apache-2.0
"""Events on standard output: lines for people on a terminal, lines of JSON elsewhere."""

from __future__ import annotations

import errno
import os
import re
import select
from collections.abc import Mapping
from functools import partial
from typing import Final, Literal

from nodeagent.errors import Closed, Retry, StartError
from nodeagent.sink import Batch, Sink
from nodeagent.worker import Worker
from sinks.layout import COLOURED, PLAIN
from sinks.pretty import pretty
from sinks.schema import SchemaConfig, encoder_of

USUAL_WIDTH: Final = 80

HOSTILE: Final = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""What JSON leaves as it is, although it drives terminals or turns and breaks lines."""


class Stdout(Sink):
    """Writes events to standard output; delivery is best effort.

    A slow reader never holds up the agent: the outlet's queue fills, then drops and
    counts. A reader that went away ends the sink.
    """

    class Config(SchemaConfig, kw_only=True, frozen=True):
        """How events are shown."""

        format: Literal["auto", "pretty", "json"] = "auto"
        """`auto` is `pretty` on a terminal and `json`, a line per event, elsewhere."""
        colour: Literal["auto", "always", "never"] = "auto"
        """`auto` is colour on a terminal, unless NO_COLOR is set or TERM is `dumb`."""

    def __init__(self, config: Stdout.Config, out: int = 1) -> None:
        """Write to the descriptor `out`, which stays open."""
        self._config = config
        self._encode = encoder_of(config)
        self._given = out
        self._out: int | None = None
        self._worker = Worker("stdout sink")
        self._pretty = False
        self._style = PLAIN
        self._terminal = False
        self._batch: Batch | None = None
        self._rest = memoryview(b"")
        """What is not yet written of the batch."""

    async def open(self) -> None:
        """Find out what standard output is."""
        try:
            # A write that outlives this sink must not meet another file of the same number.
            self._out = out = os.dup(self._given)
        except OSError as error:
            raise StartError("standard output is closed: open it or choose another sink") from error
        self._terminal = os.isatty(out)
        wanted = self._config.format
        self._pretty = self._terminal if wanted == "auto" else wanted == "pretty"
        if wants_colour(self._config.colour, os.environ, terminal=self._terminal):
            self._style = COLOURED

    async def send(self, batch: Batch) -> None:
        """Write the batch, however long the reader takes."""
        # JSON is made here, because all sinks share it.
        json = None if self._pretty else batch.ndjson(self._encode)
        out = self._given if self._out is None else self._out
        await self._worker.once(batch, partial(self._write, out, batch, json))

    async def close(self) -> None:
        """Let go of standard output; a write that waits for its reader is given up."""
        if self._out is not None:
            self._worker.post(partial(os.close, self._out))
            self._worker.abandon()
            self._out = None

    def _write(self, out: int, batch: Batch, json: bytes | None) -> None:
        # A batch that failed in its middle comes again and goes on where it failed.
        if batch is not self._batch:
            new = self._pretty_lines(out, batch) if json is None else harmless_json(json)
            self._rest = memoryview(bytes(self._rest) + new)
            self._batch = batch
        try:
            while self._rest:
                self._rest = self._rest[write_some(out, self._rest) :]
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise Closed("nobody reads standard output any more") from error
            if error.errno == errno.EIO and self._terminal:
                raise Closed("the terminal was closed") from error
            raise Retry(f"standard output cannot be written: {error.strerror}") from error
        self._batch = None

    def _pretty_lines(self, out: int, batch: Batch) -> bytes:
        width = terminal_width(out) if self._terminal else None
        lines = (f"{pretty(item, self._style, width)}\n" for item in batch.items)
        return "".join(lines).encode()


def wants_colour(colour: str, environment: Mapping[str, str], *, terminal: bool) -> bool:
    """Whether to colour, by the setting, see https://no-color.org, and the terminal."""
    if colour != "auto":
        return colour == "always"
    return terminal and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"


def harmless_json(lines: bytes) -> bytes:
    """The same values, with escapes for characters that could do harm on a terminal."""
    if lines.isascii() and b"\x7f" not in lines:
        return lines
    return HOSTILE.sub(lambda match: f"\\u{ord(match[0]):04x}", lines.decode()).encode()


def terminal_width(terminal: int) -> int:
    """Its columns of now, 80 when it does not know."""
    try:
        return os.get_terminal_size(terminal).columns or USUAL_WIDTH
    except OSError:
        return USUAL_WIDTH


def write_some(out: int, data: memoryview) -> int:
    """Wait until something can be written, write it and say how much. Raises OSError."""
    while True:
        try:
            return os.write(out, data)
        except BlockingIOError:
            # Another process that has the same pipe or terminal made it non-blocking.
            poll = select.poll()
            poll.register(out, select.POLLOUT)
            poll.poll()
