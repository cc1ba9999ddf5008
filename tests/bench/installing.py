# SPDX-License-Identifier: Apache-2.0
"""From `dpkg -i` to the first event, in the Debian 12 of `make system` on the kernel that is here.

Without systemd the program is started by the command of its unit, in folders made as the unit says.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.bench.watch import nap
from tests.packaging.roots import within
from tests.vm.system import ARCHIVE

__all__ = ["missing", "seconds_to_first_event_after_installation", "system"]

PACKAGE: Final = Path(__file__).parents[2] / "dist/nodeagent.deb"
EVENTS: Final = Path("var/log/nodeagent/events.ndjson")
FOLDERS: Final = ("var/lib/nodeagent", "var/log/nodeagent")
PATIENCE_SECONDS: Final = 60.0


def missing() -> str:
    """What has to be made before; empty: nothing."""
    if not PACKAGE.exists():
        return "make dist"
    return "" if ARCHIVE.exists() else "make system"


@contextmanager
def system(folder: Path) -> Iterator[Path]:
    """The root of a system in which the package lies and nothing of it is installed."""
    root = folder / "system"
    root.mkdir()
    try:
        subprocess.run(["bsdtar", "-xf", ARCHIVE, "-C", root], check=True)
        shutil.copy(PACKAGE, root)
        yield root
    finally:
        shutil.rmtree(root)


def seconds_to_first_event_after_installation(root: Path) -> float:
    """Of anything but the agent itself; the package is gone afterwards."""
    unit = "/lib/systemd/system/nodeagent.service"
    began = time.monotonic()
    _run(root, "dpkg", "-i", f"/{PACKAGE.name}")
    (command,) = (
        line.partition("=")[2].split()
        for line in (root / unit.lstrip("/")).read_text().splitlines()
        if line.startswith("ExecStart=")
    )
    for folder in FOLDERS:
        (root / folder).mkdir(mode=0o700, exist_ok=True)
    with subprocess.Popen(within(root, *command), stderr=subprocess.DEVNULL) as agent:
        try:
            _wait_for_event(root / EVENTS, agent)
            seconds = time.monotonic() - began
        finally:
            agent.terminate()
    _run(root, "dpkg", "--purge", "nodeagent")
    return seconds


def _wait_for_event(path: Path, agent: subprocess.Popen[bytes]) -> None:
    """Raises RuntimeError."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and agent.poll() is None:
        # Something happens on the machine.
        subprocess.run(["true"], check=True)
        if path.exists():
            # The last line may be half there.
            lines = path.read_bytes().splitlines(keepends=True)
            kinds = (json.loads(line)["kind"] for line in lines if line.endswith(b"\n"))
            if any(not kind.startswith("agent.") for kind in kinds):
                return
        nap(0.01)
    raise RuntimeError(f"no event came into {path}")


def _run(root: Path, *command: str) -> None:
    done = subprocess.run(within(root, *command), check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr}")
