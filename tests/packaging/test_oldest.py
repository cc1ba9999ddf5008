# SPDX-License-Identifier: Apache-2.0
"""The deb in a Debian 11, the oldest system that it has to run on, with the kernel that is here."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
import trustme

from nodeagent import __version__
from sinks import SINKS
from tests.delivery.receiver import receiving
from tests.packaging.oldest import ARCHIVE, PACKAGES
from tests.packaging.roots import within
from tests.requirement import need

PROGRAM = "/usr/bin/nodeagent"
FOLDER = Path("usr/lib/nodeagent")

RULE = """\
title: A rule
logsource: {category: process_creation}
detection: {s: {CommandLine|re: 'ze+bra'}, condition: s}
"""
PATIENCE_SECONDS = 60


@pytest.fixture(scope="module")
def root(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The system, with the package unpacked."""
    need("kernel", os.geteuid() == 0, "eBPF needs root")
    need("vm", ARCHIVE.exists(), "`make system` has not made a Debian 11")
    folder = tmp_path_factory.mktemp("oldest")
    subprocess.run(["tar", "-xf", ARCHIVE, "-C", folder], check=True)
    subprocess.run(["dpkg-deb", "--extract", dist / "nodeagent.deb", folder], check=True)
    for name in ("proc", "sys"):
        (folder / name).mkdir(exist_ok=True)
    return folder


def inside(root: Path, *arguments: str | Path) -> list[str | Path]:
    """The command that runs the program there."""
    return within(root, PROGRAM, *arguments)


def said(root: Path, *arguments: str) -> str:
    done = subprocess.run(inside(root, *arguments), check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_package_can_be_installed(root: Path, dist: Path) -> None:
    (library,) = root.glob("lib/*/libc.so.6")
    (version,) = re.findall(rb"stable release version (\S+)\.\n", library.read_bytes())
    assert version == b"2.31"
    control = ["dpkg-deb", "--field", f"{dist}/nodeagent.deb", "Depends"]
    depends = subprocess.check_output(control, text=True).strip()
    assert {entry.split()[0] for entry in depends.split(", ")} == set(PACKAGES)
    ((package, least),) = re.findall(r"(\S+) \(>= (\S+)\)", depends)
    assert package == "libc6"
    compared = ["dpkg", "--compare-versions", version, "ge", least]
    assert subprocess.run(compared, check=False).returncode == 0


def test_every_symbol_of_every_library_is_there(root: Path) -> None:
    (linker,) = root.glob("lib*/ld-linux-*")
    libraries = sorted(
        (str(Path("/", path.relative_to(root))) for path in (root / FOLDER).rglob("*.so*")),
        key=lambda path: not path.endswith("/libolder.so"),
    )
    assert len(libraries) > 80

    def missing(libraries: list[str]) -> list[str]:
        # What ldd -r does, which is a script.
        done = subprocess.run(
            [
                *(Path("/", linker.relative_to(root)), "--preload", ":".join(libraries)),
                *("--library-path", Path("/", FOLDER, "_internal"), Path("/", FOLDER, "nodeagent")),
            ],
            check=False,
            capture_output=True,
            text=True,
            env={"LD_TRACE_LOADED_OBJECTS": "1", "LD_WARN": "1", "LD_BIND_NOW": "1"},
            preexec_fn=lambda: os.chroot(root),
        )
        lines = (done.stdout + done.stderr).splitlines()
        assert len(lines) > len(libraries)
        return [line for line in lines if "undefined symbol" in line or "cannot open" in line]

    assert missing(libraries) == []
    # The linker would tell: without that library they lack what is newer.
    assert any("close_range, version GLIBC_2.34" in line for line in missing(libraries[1:]))


def test_it_tells_its_version_and_finds_what_it_needs(root: Path, dist: Path) -> None:
    version = said(root, "--version")
    assert version.startswith(f"nodeagent {__version__}\n")
    (one,) = dist.glob(f"nodeagent-{__version__}-linux-*[!z]")
    shutil.copy(one, root / "one")
    assert subprocess.check_output(["chroot", root, "/one", "--version"], text=True) == version
    lines = said(root, "doctor").splitlines()
    assert any(re.match(r"ok +programs +\d+ pass the verifier", line) for line in lines)
    schema = said(root, "config", "schema")
    assert all(f'"{name}"' in schema for name in SINKS)


async def test_it_streams_to_a_server_with_tls_and_finds_by_rules(root: Path) -> None:
    (root / "rule.yml").write_text(RULE)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(root / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with receiving(context) as receiver, asyncio.timeout(PATIENCE_SECONDS):
        settings = {
            "detect.sigma": '["/rule.yml"]',
            "sinks.https.url": f"https://127.0.0.1:{receiver.port}/",
            "sinks.https.ca_file": "/ca.pem",
            "sinks.kafka.brokers": '["127.0.0.1:1"]',
            "sinks.kafka.topic": "events",
            "shutdown_seconds": "1",
        }
        words = [word for item in settings.items() for word in ("--set", "=".join(item))]
        words += ["--sink", "stdout", "--sink", "https", "--sink", "kafka"]
        agent = await asyncio.create_subprocess_exec(
            *inside(root, "run", *words),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=1 << 20,
        )
        assert agent.stdout is not None
        events: list[dict[str, Any]] = []
        async for line in agent.stdout:
            events.append(json.loads(line))
            if len(events) == 1:
                acted = await asyncio.create_subprocess_exec("/bin/true", "zeebra")
                assert await acted.wait() == 0
            if events[-1]["kind"] == "finding" and events[-1]["type"] == "Sigma:Runtime/ARule":
                agent.terminate()
        errors = (await agent.communicate())[1].decode()
    assert agent.returncode == 128 + signal.SIGTERM, errors
    assert events[-1]["kind"] == "agent.stop"
    assert ["/bin/true", "zeebra"] in [event.get("argv") for event in events]
    assert "balanced: every event is accounted for" in errors
    # Each client is there, and the one whose server is not says why.
    sent = [event["kind"] for request in receiver.requests for event in request.events]
    assert {"agent.start", "exec", "finding", "agent.stop"} <= set(sent)
    assert re.search(r"sink_retry sink=kafka .*127\.0\.0\.1:1", errors)
