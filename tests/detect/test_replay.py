# SPDX-License-Identifier: Apache-2.0
"""A recorded stream gives the same findings again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.detect.conftest import Watch
from tests.detect.scenes import SCENES
from tests.kernel.stream import Stream

PLAYED = ("reverse-shell", "recon-adds-up", "persistence", "docker-socket", "downloaded")


def test_replay_gives_the_same_findings(tmp_path: Path) -> None:
    recording = tmp_path / "recording"
    with Stream("--signals", "--record", str(recording)) as stream:
        watch = Watch(stream)
        for scene in SCENES:
            if scene.name in PLAYED:
                root = watch.play(scene.script, tmp_path / scene.name, contained=scene.contained)
                watch.finding(root, scene.type)
        stream.stop()
    live = [event for event in stream.events if event["kind"] == "finding"]
    command = [sys.executable, "-m", "nodeagent", "replay", str(recording), "--findings"]
    command += ["--signals", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    again = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event for event in again if event["kind"] == "finding"] == live
    assert not [event for event in again if not event["kind"].startswith(("finding", "agent."))]
