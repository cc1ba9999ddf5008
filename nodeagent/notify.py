# SPDX-License-Identifier: Apache-2.0
"""Tells systemd how the agent is, where it wants to know: sd_notify(3)."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Mapping
from typing import Final

__all__ = ["Notifier"]

log: Final = logging.getLogger(__name__)


class Notifier:
    """Does nothing where nobody listens."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Take NOTIFY_SOCKET and WATCHDOG_USEC of this process."""
        self._address = environment.get("NOTIFY_SOCKET", "").replace("@", "\0", 1)
        self._watchdog_seconds = 0.0
        ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        microseconds = environment.get("WATCHDOG_USEC", "")
        if ours and microseconds.isdigit():
            self._watchdog_seconds = int(microseconds) / 1e6

    def ready(self) -> None:
        """Events come from now on, or again after a reload."""
        self._say("READY=1\nSTATUS=streaming")

    def reloading(self) -> None:
        """The configuration is read again."""
        now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._say(f"RELOADING=1\nMONOTONIC_USEC={now_us}")

    def stopping(self) -> None:
        """The end has begun."""
        self._say("STOPPING=1")

    async def follow(self) -> None:
        """As long as the loop turns, say so twice in the time that systemd gives."""
        while self._watchdog_seconds:
            self._say("WATCHDOG=1")
            await asyncio.sleep(self._watchdog_seconds / 2)

    def _say(self, text: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
                out.setblocking(False)
                out.sendto(text.encode(), self._address)
        except OSError as error:
            log.warning("no_notification why=%s", error.strerror)
