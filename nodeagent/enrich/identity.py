# SPDX-License-Identifier: Apache-2.0
"""One name for a process that is the same everywhere and at any time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final
from uuid import UUID

from nodeagent.event import TICK_NS

__all__ = ["identities"]

NO_BOOT: Final = UUID(int=0)
VARIANTS: Final = "89ab"


def identities(boot_id: str) -> Callable[[int, int], str]:
    """A function of pid and start time (boot-time clock, ns) that gives the UUID of a process.

    It is the UUID of version 5 of "pid:ticks" in the namespace of the boot id, where ticks are
    those of /proc/PID/stat, so that others can compute it as well. The kernel would have to
    give the same pid twice within 10 ms for two processes to share one.
    """
    try:
        namespace = UUID(boot_id)
    except ValueError:
        namespace = NO_BOOT
    prefix = namespace.bytes

    def identity(pid: int, start_time: int) -> str:
        # uuid.uuid5() gives the same and takes three times as long.
        name = b"%d:%d" % (pid, start_time // TICK_NS)
        text = hashlib.sha1(prefix + name, usedforsecurity=False).hexdigest()
        variant = VARIANTS[int(text[16], 16) & 3]
        return f"{text[:8]}-{text[8:12]}-5{text[13:16]}-{variant}{text[17:20]}-{text[20:32]}"

    return identity
