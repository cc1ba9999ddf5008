# SPDX-License-Identifier: Apache-2.0
"""The frozen program: it needs nothing from the machine and takes nothing from it."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from nodeagent import __version__
from sinks import SINKS
from tests.detect.page import PAGES
from tests.requirement import need

FOREIGN = "raise SystemExit('imported from outside')\n"


def run(
    program: Path | str,
    *arguments: str,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    command = [program, *arguments]
    return subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=120, cwd=cwd, env=env
    )


def stream(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def root() -> None:
    need("kernel", os.geteuid() == 0, "eBPF needs root")


def test_it_tells_its_version(binary: Path) -> None:
    first, *rest = run(binary, "--version").stdout.splitlines()
    assert first == f"nodeagent {__version__}"
    facts = dict(line.split(None, 1) for line in rest)
    assert re.fullmatch(r"[0-9a-f]{12}(-dirty)?", facts["source"])
    digest, _, compiler = facts["object"].partition(", by ")
    inside = binary.parent / "_internal/nodeagent/kernel/nodeagent.bpf.o"
    assert digest == hashlib.sha256(inside.read_bytes()).hexdigest()
    assert "clang" in compiler
    assert facts["python"] == f"{platform.python_version()}, {platform.machine()}"


def test_every_sink_is_inside(binary: Path) -> None:
    schema = json.loads(run(binary, "config", "schema").stdout)
    types = json.dumps(schema)
    for name in SINKS:
        assert f'"{name}"' in types


def test_every_page_about_findings_is_inside(binary: Path, tmp_path: Path) -> None:
    inside = binary.parent / "_internal/nodeagent/findings"
    assert {each.name: each.read_text() for each in inside.iterdir()} == {
        each.name: each.read_text() for each in PAGES.iterdir()
    }
    done = run(binary, "explain", "Execution:Runtime/ReverseShell", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("# Execution:Runtime/ReverseShell\n")


def test_libraries_of_the_sinks_are_inside(root: None, binary: Path, tmp_path: Path) -> None:
    settings = {
        "sinks.https.url": "http://127.0.0.1:1/",
        "sinks.https.batch_seconds": "0",
        "spool.folder": str(tmp_path),
        "shutdown_seconds": "0.5",
    }
    words = [word for item in settings.items() for word in ("--set", "=".join(item))]
    done = run(binary, "run", "--sink", "https", "--duration", "0.5", *words)
    assert done.returncode == 0, done.stderr
    assert "sink_retry sink=https" in done.stderr
    assert "127.0.0.1:1" in done.stderr


def test_it_streams_and_the_ledger_balances(root: None, binary: Path) -> None:
    done = run(binary, "run", "--duration", "2", "--format", "json")
    assert done.returncode == 0, done.stderr
    assert "no_interfaces" not in done.stderr
    kinds = [event["kind"] for event in stream(done)]
    assert kinds[:2] == ["agent.start", "agent.coverage"]
    assert kinds[-1] == "agent.stop"
    assert "balanced: every event is accounted for" in done.stderr


def test_one_file_does_the_same(root: None, dist: Path) -> None:
    (one,) = dist.glob(f"nodeagent-{__version__}-linux-*[!z]")
    done = run(one, "run", "--duration", "0.1", "--format", "json")
    assert done.returncode == 0, done.stderr
    assert stream(done)[-1]["kind"] == "agent.stop"


def test_nothing_is_inside_that_only_its_developers_need(binary: Path) -> None:
    inside = {path.name for path in (binary.parent / "_internal").iterdir()}
    assert {"aiohttp", "aiokafka", "msgspec", "re2"} <= inside
    assert not inside & {"hypothesis", "mypy", "pydantic_core", "botocore", "moto"}


def test_bill_lists_every_package_that_is_inside(dist: Path) -> None:
    bill = json.loads((dist / "files/sbom.json").read_text())
    named = {component["name"] for component in bill["components"]}
    assert {"aiohttp", "aiokafka", "msgspec", "pysigma", "python", "libbpf.so.1"} <= named
    assert not named & {"hypothesis", "mypy", "pydantic", "botocore"}


def test_nothing_is_imported_from_outside(binary: Path, tmp_path: Path) -> None:
    for name in ("json", "sinks", "nodeagent", "orjson", "sitecustomize", "usercustomize"):
        (tmp_path / f"{name}.py").write_text(FOREIGN)
    site = tmp_path / ".local/lib/python3.11/site-packages"
    site.mkdir(parents=True)
    (site / "evil.pth").write_text(f"import sys; {FOREIGN}")
    around = {
        "PYTHONPATH": str(tmp_path),
        "PYTHONHOME": str(tmp_path),
        "PYTHONSTARTUP": str(tmp_path / "json.py"),
        "PYTHONUSERBASE": str(tmp_path / ".local"),
        "HOME": str(tmp_path),
    }
    done = run(binary, "config", "check", cwd=tmp_path, env={**os.environ, **around})
    assert "imported from outside" not in done.stdout + done.stderr
    assert done.returncode == 0, done.stderr


def test_libbpf_is_its_own(root: None, binary: Path, tmp_path: Path) -> None:
    output = tmp_path / "events"
    settings = ["--sink", "file", "--set", f"sinks.file.path={output}"]
    with subprocess.Popen([binary, "run", *settings], stderr=subprocess.PIPE, text=True) as agent:
        assert agent.stderr is not None
        ready = any(" ready " in line for line in agent.stderr)
        mapped = Path(f"/proc/{agent.pid}/maps").read_text()
        agent.terminate()
        agent.stderr.read()
    assert ready
    libraries = {line.split()[-1] for line in mapped.splitlines() if "libbpf" in line}
    assert libraries == {str(binary.parent / "_internal/libbpf.so.1")}


def test_it_runs_with_everything_read_only_and_nothing_executable_in_tmp(
    root: None, binary: Path
) -> None:
    # The checkout may lie in /tmp itself.
    script = """
        mount --bind "$1" /mnt
        mount -t tmpfs -o noexec,nosuid tmpfs /tmp
        mount -o remount,bind,ro /
        shift
        exec /mnt/nodeagent "$@"
    """
    inside = ("--mount", "sh", "-ec", script, "sh", str(binary.parent))
    done = run("unshare", *inside, "run", "--duration", "0.1", "--format", "json")
    assert done.returncode == 0, done.stderr
    assert stream(done)[-1]["kind"] == "agent.stop"


def test_it_demonstrates_itself(root: None, binary: Path, tmp_path: Path) -> None:
    done = run(binary, "demo", "reverse-shell", "fileless", "injection", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 of 3 gave their finding\n" in done.stdout


def test_rules_of_sigma_are_read(binary: Path, tmp_path: Path) -> None:
    (tmp_path / "rule.yml").write_text(
        "title: A rule\nlogsource: {category: process_creation}\n"
        "detection: {s: {CommandLine|re: 'a+b'}, condition: s}\n"
    )
    done = run(binary, "rules", "list", "--output", "json", "--set", f'detect.sigma=["{tmp_path}"]')
    shown = json.loads(done.stdout)
    assert "Sigma:Runtime/ARule" in {rule["type"] for rule in shown["rules"]}
    assert shown["refused"] == []


def test_detectors_of_the_machine_are_not_looked_for(binary: Path, tmp_path: Path) -> None:
    (tmp_path / "hidden.py").write_text(FOREIGN)
    facts = tmp_path / "hidden-1.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: hidden\nVersion: 1\n")
    (facts / "entry_points.txt").write_text("[nodeagent.detectors]\nhidden = hidden:Hidden\n")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = run(binary, "rules", "list", "--set", 'detect.plugins=["hidden"]', env=environment)
    assert done.returncode == 2
    assert "no installed package brings hidden; there is: none" in done.stderr
