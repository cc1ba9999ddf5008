# SPDX-License-Identifier: Apache-2.0
"""File systems that are not mounted, opened without changing the machine."""

from __future__ import annotations

import os
from typing import Final

from nodeagent.kernel.libbpf import Libbpf

__all__ = ["open_detached"]

# System calls that Python has no function for; the same on all architectures.
SYS_FSOPEN: Final = 430
SYS_FSCONFIG: Final = 431
SYS_FSMOUNT: Final = 432

CLOEXEC: Final = 1
FSCONFIG_CMD_CREATE: Final = 6


def open_detached(libbpf: Libbpf, kind: str) -> int:
    """The root of a file system as a mount that is attached nowhere; raises OSError.

    It ends with the descriptor (fsopen(2), since v5.2).
    """
    context = libbpf.syscall(SYS_FSOPEN, kind.encode(), CLOEXEC)
    try:
        libbpf.syscall(SYS_FSCONFIG, context, FSCONFIG_CMD_CREATE, None, None, 0)
        return libbpf.syscall(SYS_FSMOUNT, context, CLOEXEC, 0)
    finally:
        os.close(context)
