# SPDX-License-Identifier: Apache-2.0
"""What an agent found, found again in the stream that it recorded, by somebody else than root."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

__all__ = ["Recorded"]

WITHOUT_ROOT: Final = ("unshare", "--user", "--map-user=65534", "--map-group=65534")
"""Without any capability, but still who owns the files of root, where Python may lie."""
FINDING: Final = b'{"kind":"finding"'
REPLAY_SECONDS: Final = 300


class Recorded:
    """A recording and, beside it, the findings that the agent wrote meanwhile."""

    def __init__(self, folder: Path) -> None:
        """The folder is for both."""
        self.recording = folder / "recording"
        self.live = folder / "live.ndjson"

    @property
    def options(self) -> tuple[str, ...]:
        """For the agent."""
        settings = (f"path={self.live}", "rotate_bytes=0", 'kinds=["finding"]')
        sets = [word for each in settings for word in ("--set", f"sinks.file.{each}")]
        return "--record", str(self.recording), "--sink", "file", *sets

    def findings(self) -> list[bytes]:
        """Their lines."""
        return self.live.read_bytes().splitlines()

    def replayed(self, options: Sequence[str]) -> list[bytes]:
        """The same from the recording, without root."""
        command = [sys.executable, "-m", "nodeagent", "replay", str(self.recording)]
        command += ["--findings", "--signals", "--format", "json", *options]
        done = subprocess.run(
            [*WITHOUT_ROOT, *command], capture_output=True, check=True, timeout=REPLAY_SECONDS
        )
        return [line for line in done.stdout.splitlines() if line.startswith(FINDING)]
