# SPDX-License-Identifier: Apache-2.0
"""Standard output of the commands that print something and end."""

from __future__ import annotations

import io
import os
import select
import sys

from nodeagent.errors import NodeagentError


def prepare() -> None:
    """TOML and JSON are UTF-8 whatever the locale says, and a path may be anything."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")


def write(text: str) -> None:
    """Print the text and see that it arrives; nothing when standard output was closed before.

    Raises BrokenPipeError, or NodeagentError when it cannot be written.
    """
    if sys.stdout is None:
        return
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        silence()
        raise NodeagentError(f"standard output cannot be written: {error.strerror}") from error


def pause(seconds: float) -> None:
    """Between two looks of a command that has no loop; others use asyncio.sleep."""
    select.select((), (), (), seconds)


def reader_is_gone() -> bool:
    """Whether standard output is a pipe that nobody reads any more."""
    poll = select.poll()
    # Errors are told without being asked for.
    poll.register(1, 0)
    return any(happened & select.POLLERR for _, happened in poll.poll(0))


def silence() -> None:
    """Let whatever is still buffered go nowhere, so that the flush at exit succeeds."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)
