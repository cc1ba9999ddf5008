# SPDX-License-Identifier: Apache-2.0
"""Another system on the kernel that is here, in its own root and without being started."""

from __future__ import annotations

from pathlib import Path
from typing import Final

__all__ = ["within"]

ENTER: Final = """
    root=$1
    shift
    mount -t proc proc "$root/proc"
    mount --rbind /sys "$root/sys"
    exec chroot "$root" "$@"
"""


def within(root: Path, *command: str | Path) -> list[str | Path]:
    """What runs the command there, with mounts that end with it."""
    return ["unshare", "--mount", "sh", "-ec", ENTER, "sh", root, *command]
