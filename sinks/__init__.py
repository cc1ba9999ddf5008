# SPDX-License-Identifier: Apache-2.0
"""Where events go: one module per sink."""

from __future__ import annotations

from typing import Final

from nodeagent.sink import Sink
from sinks.file import File
from sinks.stdout import Stdout

__all__ = ["SINKS"]

SINKS: Final[dict[str, type[Sink]]] = {"stdout": Stdout, "file": File}
"""The sinks that can be asked for, by name."""
