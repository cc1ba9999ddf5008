# SPDX-License-Identifier: Apache-2.0
"""The node's interfaces are told, and told again when one of them changes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

INSIDE = """
import signal, subprocess, sys, time
from pathlib import Path
from pyroute2 import IPRoute

path = Path(sys.argv[1])
agent = subprocess.Popen(
    [sys.executable, "-m", "nodeagent", "run", "--only", "module", "--sink", "file"]
    + ["--set", f"sinks.file.path={path}"]
)
def until(text):
    deadline = time.monotonic() + 30
    while text not in (path.read_text() if path.exists() else "") and time.monotonic() < deadline:
        time.sleep(0.1)

until('"interfaces":[')
with IPRoute() as routes:
    routes.addr("add", index=1, address="192.0.2.7", prefixlen=32)
    routes.link("set", index=1, state="up")
until("192.0.2.7/32")
agent.send_signal(signal.SIGTERM)
sys.exit(agent.wait(30))
"""
"""In a network namespace of its own, where nothing but this changes."""
ENTER = ("unshare", "--net", "--pid", "--fork", "--mount-proc")
"""Without the pids of the node, nothing tells this network from that of the node."""


def test_interfaces_are_told_and_each_change_of_them(tmp_path: Path) -> None:
    path = tmp_path / "stream"
    command = [*ENTER, sys.executable, "-c", INSIDE, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 143, done.stderr
    events = [json.loads(line) for line in path.read_text().splitlines()]
    told: list[list[dict[str, Any]]] = [
        event["interfaces"] for event in events if event["kind"] == "agent.node"
    ]
    assert told[0] is None
    assert [each["name"] for each in told[1]] == ["lo"]
    assert not told[1][0]["up"]
    assert told[1][0]["addresses"] == []
    assert told[-1][0]["up"]
    assert "192.0.2.7/32" in told[-1][0]["addresses"]
    assert told[-1][0]["mac"] == "00:00:00:00:00:00"


def test_interfaces_of_a_pod_are_not_those_of_the_node(tmp_path: Path) -> None:
    path = tmp_path / "stream"
    agent = [sys.executable, "-m", "nodeagent", "run", "--only", "module", "--duration", "3"]
    settings = ["--sink", "file", "--set", f"sinks.file.path={path}"]
    command = ["unshare", "--net", *agent, *settings]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert "no_interfaces why=the network is that of a pod" in done.stderr
    assert '"interfaces":null' in path.read_text()
    assert '"interfaces":[' not in path.read_text()
