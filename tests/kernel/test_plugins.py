# SPDX-License-Identifier: Apache-2.0
"""Enrichers and detectors that packages bring: the examples of the documentation, and bad ones."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nodeagent.detect.plugin import FAILURES_LIMIT
from tests.kernel.stream import Stream

PAGE = Path(__file__).parents[2] / "docs/plugins.md"
EXAMPLE, DETECTOR, SINK, COMPLIANCE = re.findall(
    r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL
)
BROKEN = """
class Owners:
    name = "owners"
    misses = 0

    def enrich(self, events):
        for event in events:
            event.add("owners", {1, 2})
        raise RuntimeError("never works")
"""


def install(
    folder: Path, source: str, name: str = "owners", group: str = "enrichers"
) -> dict[str, str]:
    """Put a package where an agent with this environment finds it."""
    (folder / f"{name}.py").write_text(source)
    facts = folder / f"{name}-1.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    entry = f"[nodeagent.{group}]\n{name} = {name}:{name.capitalize()}\n"
    (facts / "entry_points.txt").write_text(entry)
    return {"PYTHONPATH": str(folder)}


CHOSEN = ("--set", 'enrichers=["owners"]')


def test_example_of_the_documentation_adds_what_it_knows(tmp_path: Path) -> None:
    with Stream(*CHOSEN, environment=install(tmp_path, EXAMPLE)) as stream:
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


# Detectors

HIDDEN = ("--set", 'detect.plugins=["hidden"]')


def run_hidden(folder: Path, times: int = 1) -> Path:
    """Run a program whose name begins with a dot."""
    program = folder / ".hidden"
    shutil.copy("/bin/true", program)
    for _ in range(times):
        subprocess.run([program], check=True)
    return program


def test_detector_of_the_documentation_finds_what_it_looks_for(tmp_path: Path) -> None:
    environment = install(tmp_path, DETECTOR, "hidden", "detectors")
    with Stream(*HIDDEN, environment=environment) as stream:
        program = run_hidden(tmp_path)
        finding = stream.one(kind="finding", type="DefenseEvasion:Runtime/HiddenProgramExecuted")
        stream.stop()
        end = stream.one(kind="agent.stop")
    assert finding["context"] == {"filePath": str(program)}
    assert finding["mitre"] == ["T1564.001"]
    assert end["rules"]["hidden"] == 1
    assert not end["failures"]


def test_detector_that_always_fails_is_switched_off_and_stops_nothing(tmp_path: Path) -> None:
    broken = DETECTOR.replace('{"filePath": event.path}', '{"filePath": {1, 2}}')
    with Stream(*HIDDEN, environment=install(tmp_path, broken, "hidden", "detectors")) as stream:
        run_hidden(tmp_path, 2 * FAILURES_LIMIT)
        (event,) = stream.of(subprocess_pid(), "exec")
        stream.stop()
        end = stream.one(kind="agent.stop")
    assert event["path"] == "/usr/bin/true"
    assert end["failures"] == {"hidden": FAILURES_LIMIT}
    failed = "detector_failed name=hidden error=TypeError: Type is not JSON serializable: set"
    assert stream.errors.count(failed) == 1
    assert f"detector_off name=hidden failures={FAILURES_LIMIT}" in stream.errors


def subprocess_pid() -> int:
    """Of a program that has run and ended."""
    done = subprocess.Popen(["/bin/true"])
    done.wait()
    return done.pid


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ('kinds = ("exec",)', 'kinds = ("exce",)', "the kinds of hidden must be a tuple of kinds"),
        ('kinds = ("exec",)', 'kinds = "exec"', "the kinds of hidden must be a tuple of kinds"),
        ('"hidden.program": Rule', '"bind_shell": Rule', "names of the agent's own: bind_shell"),
        ("rules = {", "rule = {", "the rules of hidden must be a dict"),
        ("def inspect", "def look", "hidden has no method inspect"),
        ('kinds = ("exec",)', 'kinds = ("open",)', "hidden has no method wants_path"),
        ("class Hidden:", "class Other:", "hidden cannot be loaded: AttributeError"),
        ("class Hidden:", "1 / 0\n\n\nclass Hidden:", "hidden cannot be loaded: ZeroDivisionError"),
    ],
)  # fmt: skip
def test_detector_that_does_not_keep_the_contract_stops_the_start(
    before: str, after: str, says: str, tmp_path: Path
) -> None:
    assert before in DETECTOR
    source = DETECTOR.replace(before, after)
    environment = os.environ | install(tmp_path, source, "hidden", "detectors")
    command = [sys.executable, "-m", "nodeagent", "rules", "list", *HIDDEN]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_detector_that_nobody_brings_stops_the_start() -> None:
    command = [sys.executable, "-m", "nodeagent", "run", *HIDDEN]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no installed package brings hidden; there is: none" in done.stderr


# Sinks


def test_sink_of_the_documentation_is_compliant(tmp_path: Path) -> None:
    (tmp_path / "lines.py").write_text(SINK)
    (tmp_path / "test_lines.py").write_text(COMPLIANCE)
    words = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_lines.py")
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "9 passed" in done.stdout


def test_sink_that_forgets_is_not_compliant(tmp_path: Path) -> None:
    forgetful = SINK.replace("batch.ndjson(self.encoder)", "batch.ndjson(self.encoder)[:2000]")
    assert forgetful != SINK
    (tmp_path / "lines.py").write_text(forgetful)
    impatient = COMPLIANCE.replace("sink = Lines", "sink = Lines; patience_seconds = 1.0")
    (tmp_path / "test_lines.py").write_text(impatient)
    words = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_lines.py")
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "of 2000 did not arrive" in done.stdout
