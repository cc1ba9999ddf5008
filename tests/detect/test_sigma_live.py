# SPDX-License-Identifier: Apache-2.0
"""Rules of Sigma on this kernel: they fire, and a replay says the same, byte for byte."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.detect.conftest import Watch
from tests.kernel.stream import Stream

PROCESS = """
title: Backup tool talks to nobody we know
id: 0d3f5c1e-8a56-4d0c-9a0b-0b5a6d9f1c11
status: stable
level: high
tags: [attack.exfiltration, attack.t1048]
logsource: {product: linux, category: process_creation}
detection:
  tool: {Image|endswith: '/echo', CommandLine|contains|all: ['--upload', 'example.org']}
  ours: {ParentImage|endswith: '/backup'}
  condition: tool and not ours
"""
FILE = """
title: Script below a folder of ours
id: 0d3f5c1e-8a56-4d0c-9a0b-0b5a6d9f1c12
level: medium
logsource: {product: linux, category: file_event}
detection:
  selection: {TargetFilename|re: '/sigma-scene/[a-z]+\\.sh$'}
  condition: selection
"""
CONNECTION = """
title: Shell connects to the discard port
id: 0d3f5c1e-8a56-4d0c-9a0b-0b5a6d9f1c13
level: critical
logsource: {product: linux, category: network_connection}
detection:
  selection:
    Image|endswith: /bash
    DestinationIp|cidr: 127.0.0.0/8
    DestinationPort: 9
    Initiated: 'true'
  condition: selection
"""
TRIED = """
title: Somebody looks at uptime
name: uptime
logsource: {product: linux, category: process_creation}
detection:
  selection: {Image|endswith: '/uptime', ParentCommandLine|contains: 'sigma-scene'}
  condition: selection
---
title: Somebody looks at uptime again and again
level: high
correlation:
  type: event_count
  rules: [uptime]
  group-by: [ParentProcessGuid]
  timespan: 1m
  condition: {gte: 3}
"""
BAD = """
title: Bad
logsource: {category: process_creation}
detection: {s: {Imagee: a}, condition: s}
"""
SCENE = """
mkdir -p sigma-scene
/bin/echo --upload https://example.org
touch sigma-scene/evil.sh sigma-scene/good.txt
bash -c 'exec 3<>/dev/tcp/127.0.0.1/9'
sh -c ': sigma-scene; uptime; uptime; uptime; :'
"""
NEAR = """
mkdir -p sigma-scene
/bin/echo --upload https://example.com
cat sigma-scene/evil.sh
bash -c 'exec 3<>/dev/tcp/127.0.0.1/7'
sh -c ': sigma-scene; uptime; uptime; :'
"""
TYPES = {
    "Sigma:Runtime/BackupToolTalksToNobodyWeKnow",
    "Sigma:Runtime/ScriptBelowAFolderOfOurs",
    "Sigma:Runtime/ShellConnectsToTheDiscardPort",
    "Sigma:Runtime/SomebodyLooksAtUptimeAgainAndAgain",
}


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    folder = tmp_path / "rules"
    folder.mkdir()
    texts = {"process": PROCESS, "file": FILE, "connection": CONNECTION, "tried": TRIED, "bad": BAD}
    for name, text in texts.items():
        (folder / f"{name}.yml").write_text(text)
    return folder


def nodeagent(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nodeagent", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def check_tests_of_rules(folder: Path, recording: Path, chosen: tuple[str, ...]) -> None:
    """The recording tests the rules: as was expected, and not."""
    tests = folder / "tests"
    tests.mkdir()
    (tests / "scene.rec").symlink_to(recording)
    expectation = "expect = [{}]\nquiet = ['Sigma:*Nothing*']\n"
    (tests / "scene.toml").write_text(expectation.format(", ".join(f"'{each}'" for each in TYPES)))
    (tests / "wrong.rec").symlink_to(recording)
    (tests / "wrong.toml").write_text("expect = ['Sigma:*/Nobody']\nquiet = ['Sigma:*Uptime*']")
    done = nodeagent("rules", "test", str(tests), *chosen)
    assert done.returncode == 1, done.stderr
    refused, *lines = done.stdout.splitlines()
    assert refused == f"FAILED {folder}/rules/bad.yml"
    assert lines == [
        lines[0],
        "ok     scene",
        "FAILED wrong",
        "       - Sigma:*/Nobody was not found",
        "       + Sigma:Runtime/SomebodyLooksAtUptimeAgainAndAgain was found",
        "1 passed, 2 failed",
    ]


def check_cost(recording: Path, chosen: tuple[str, ...]) -> None:
    """Each rule of Sigma and each detector has its cost, the dearest first."""
    done = nodeagent("rules", "cost", str(recording), *chosen, "--output", "json")
    rows = json.loads(done.stdout)
    costs = {row["name"]: row["us_per_event"] for row in rows}
    assert costs.keys() >= {"all rules of Sigma", "Script below a folder of ours", "commands"}
    assert list(costs.values()) == sorted(costs.values(), reverse=True)
    assert 0 < costs["all rules of Sigma"] < 50
    found = {row["name"]: row["findings"] for row in rows}
    assert found["Shell connects to the discard port"] == 1
    table = nodeagent("rules", "cost", str(recording), *chosen).stdout.splitlines()
    assert len(table) == len(rows) + 1
    assert max(map(len, table)) <= 80


def test_rules_fire_on_this_kernel_and_again_in_a_replay(rules: Path, tmp_path: Path) -> None:
    recording = tmp_path / "recording"
    chosen = ("--set", f'detect.sigma=["{rules}"]')
    with Stream("--signals", "--record", str(recording), *chosen) as stream:
        watch = Watch(stream)
        near = watch.play(NEAR, tmp_path / "near")
        root = watch.play(SCENE, tmp_path / "scene")
        for each in TYPES:
            watch.finding(root, each)
        quiet = {event["type"] for event in watch.findings(near)}
        stream.stop()
    live = [event for event in stream.events if event["kind"] == "finding"]
    assert not {each for each in quiet if each.startswith("Sigma:")}
    (upload,) = (e for e in live if e["type"] == "Sigma:Runtime/BackupToolTalksToNobodyWeKnow")
    assert upload["mitre"] == ["T1048"]
    assert upload["evidence"]["sigma"]["file"] == str(rules / "process.yml")
    assert upload["evidence"]["sigma"]["matchedFields"][0]["field"] == "Image"
    end = stream.one(kind="agent.stop")
    assert end["rules"] == {"sigma": 5, "refused": 1}
    assert not end["failures"]
    assert "bad.yml:4: Bad: process_creation has no field Imagee" in stream.errors
    assert "rules_read rules=5 refused=1 memory_bytes=" in stream.errors
    check_tests_of_rules(tmp_path, recording, chosen)
    check_cost(recording, chosen)
    shown = ("--findings", "--signals", "--format", "json")
    done = nodeagent("replay", str(recording), *shown, *chosen)
    again = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event for event in again if event["kind"] == "finding"] == live
