# SPDX-License-Identifier: Apache-2.0
"""Enrichers that packages bring: the example of the documentation, and bad ones."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.kernel.stream import Stream

PAGE = Path(__file__).parents[2] / "docs/plugins.md"
EXAMPLE = re.search(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
BROKEN = """
class Owners:
    name = "owners"
    misses = 0

    def enrich(self, events):
        for event in events:
            event.add("owners", {1, 2})
        raise RuntimeError("never works")
"""


def install(folder: Path, source: str) -> dict[str, str]:
    """Put a package where an agent with this environment finds it."""
    (folder / "owners.py").write_text(source)
    facts = folder / "owners-1.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: owners\nVersion: 1\n")
    (facts / "entry_points.txt").write_text("[nodeagent.enrichers]\nowners = owners:Owners\n")
    return {"PYTHONPATH": str(folder)}


CHOSEN = ("--set", 'enrichers=["owners"]')


def test_example_of_the_documentation_adds_what_it_knows(tmp_path: Path) -> None:
    assert EXAMPLE is not None
    with Stream(*CHOSEN, environment=install(tmp_path, EXAMPLE[1])) as stream:
        done = subprocess.Popen(["/bin/true"])
        done.wait()
        (event,) = stream.of(done.pid, "exec")
        stream.stop()
        end = stream.one(kind="agent.stop")
    assert event["added"] == {"owners": {"team": "platform"}}
    assert end["misses"]["owners"] > 0
    assert end["cpu_seconds"]["owners"] > 0
    assert not end["failures"]


def test_one_that_fails_is_counted_and_stops_nothing(tmp_path: Path) -> None:
    with Stream(*CHOSEN, environment=install(tmp_path, BROKEN)) as stream:
        done = subprocess.Popen(["/bin/true"])
        done.wait()
        (event,) = stream.of(done.pid, "exec")
        stream.stop()
        end = stream.one(kind="agent.stop")
    assert event["added"]["owners"]["error"].startswith("no JSON")
    assert end["failures"]["owners"] > 0
    assert "part_failed name=owners" in stream.errors


def test_one_that_nobody_brings_stops_the_start() -> None:
    command = [sys.executable, "-m", "nodeagent", "run", *CHOSEN]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no installed package brings owners; there is: none" in done.stderr
