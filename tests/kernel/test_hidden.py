# SPDX-License-Identifier: Apache-2.0
"""A /proc that hides processes hides nothing from the stream."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.polling import PATIENCE_SECONDS, wait_for

MOUNT = 'mount -t proc -o hidepid=invisible proc /proc && exec "$@"'


def test_processes_are_known_where_proc_hides_them(tmp_path: Path) -> None:
    path = tmp_path / "stream"
    command = ["unshare", "--mount", "sh", "-c", MOUNT, "sh", sys.executable, "-m", "nodeagent"]
    command += ["run", "--only", "exec", "--sink", "file", "--set", f"sinks.file.path={path}"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as agent:
        wait_for(lambda: path.exists() and "agent.start" in path.read_text())
        os.spawnv(os.P_WAIT, "/bin/true", ["true", "hidden"])
        wait_for(lambda: "hidden" in path.read_text())
        agent.send_signal(signal.SIGTERM)
        _, errors = agent.communicate(timeout=PATIENCE_SECONDS)
    assert agent.returncode == 143
    assert "Traceback" not in errors
    events = [json.loads(line) for line in path.read_text().splitlines()]
    (event,) = [event for event in events if event.get("argv") == ["true", "hidden"]]
    assert event["process"]["lineage"][0]["pid"] == os.getpid()
    assert event["process"]["lineage"][0]["path"] == os.path.realpath(sys.executable)
