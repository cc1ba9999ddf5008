# SPDX-License-Identifier: Apache-2.0
"""Where things are on a machine unless somebody says otherwise, and where this program is."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

__all__ = ["CONTROL", "LISTS", "SPOOL", "STORE", "own_command", "shipped"]

CONTROL: Final = "/run/nodeagent/control.sock"
"""The control socket."""
LISTS: Final = "/var/lib/nodeagent/lists"
"""Threat lists that were fetched."""
STORE: Final = "/var/lib/nodeagent/findings.db"
"""The store of findings."""
SPOOL: Final = "/var/lib/nodeagent/spool"
"""What sinks have not taken yet, in a folder for each."""


def shipped(installed: Path, written: Path) -> Path:
    """Where a file or folder is: beside the code, or in a checkout where it was written."""
    # os.path.exists and not Path.exists, which raises where a folder may not be entered.
    return written if os.path.exists(written) and not os.path.exists(installed) else installed  # noqa: PTH110


def own_command() -> list[str]:
    """What starts this program again, from the binary as from a checkout."""
    frozen = getattr(sys, "frozen", False)
    return [sys.executable] if frozen else [sys.executable, "-m", "nodeagent"]
