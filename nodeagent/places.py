# SPDX-License-Identifier: Apache-2.0
"""Where things are on a machine unless somebody says otherwise."""

from __future__ import annotations

from typing import Final

__all__ = ["CONTROL", "LISTS", "SPOOL", "STORE"]

CONTROL: Final = "/run/nodeagent/control.sock"
"""The control socket."""
LISTS: Final = "/var/lib/nodeagent/lists"
"""Threat lists that were fetched."""
STORE: Final = "/var/lib/nodeagent/findings.db"
"""The store of findings."""
SPOOL: Final = "/var/lib/nodeagent/spool"
"""What sinks have not taken yet, in a folder for each."""
