# SPDX-License-Identifier: Apache-2.0
"""What somebody does not want to see is left out by a running agent, which counts it."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from nodeagent.kernel.object import find_object
from tests.detect.conftest import AT_ONCE, Watch
from tests.kernel.stream import Stream
from tests.kernel.test_metrics import free_port
from tests.requirement import need

READ, LINKED = (
    "CredentialAccess:Runtime/SensitiveFileRead",
    "CredentialAccess:Runtime/SensitiveFileLinked",
)
REASON, OVER = "who reads by FOLDER/cat may", "the link of the migration"
SUPPRESSIONS = f"""
[[suppress]]
reason = "{REASON}"
owner = "ops"
where = {{ type = "{READ}", "process.executablePath" = "FOLDER/cat" }}

[[suppress]]
reason = "{OVER}"
owner = "dev"
until = 2020-01-31
where = {{ type = "{LINKED}" }}
"""


class Silenced(Watch):
    """An agent with these suppressions, and where to ask it."""

    def __init__(self, stream: Stream, folder: Path, control: Path, port: int) -> None:
        super().__init__(stream)
        self.folder = folder
        self.control = control
        self.port = port

    def metric(self) -> dict[str, float]:
        """Hits by reason."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=20) as answer:
            families = text_string_to_metric_families(answer.read().decode())
        (hits,) = (each for each in families if each.name == "nodeagent_suppressed")
        return {sample.labels["reason"]: sample.value for sample in hits.samples}

    def status(self) -> str:
        """As the command line shows it."""
        command = [sys.executable, "-m", "nodeagent", "status", "--control", str(self.control)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def silenced(tmp_path: Path) -> Iterator[Silenced]:
    need("kernel", os.geteuid() == 0, "eBPF programs can only be loaded by root")
    need("kernel", find_object().exists(), "bpf/nodeagent.bpf.o is not built")
    rules, control, port = tmp_path / "suppressions.toml", tmp_path / "control.sock", free_port()
    rules.write_text(SUPPRESSIONS.replace("FOLDER", str(tmp_path)))
    settings = (
        f'detect.suppressions=["{rules}"]',
        f"metrics.listen=127.0.0.1:{port}",
        f"control.socket={control}",
    )
    options = [word for each in settings for word in ("--set", each)]
    with Stream(*AT_ONCE, *options) as stream:
        yield Silenced(stream, tmp_path, control, port)
        assert stream.stop() == 143


def test_hits_are_left_out_and_counted_and_one_that_is_over_says_so(silenced: Silenced) -> None:
    folder, reason = silenced.folder, REASON.replace("FOLDER", str(silenced.folder))
    assert silenced.metric() == {reason: 0, OVER: 0}
    root = silenced.play(
        f"cp /bin/cat {folder}/cat; {folder}/cat /etc/shadow; cat /etc/shadow;"
        " ln -s /etc/shadow harmless",
        folder / "scene",
    )
    found = [each for each in silenced.findings(root) if each["type"] in {READ, LINKED}]
    assert sorted((each["type"], each["process"]["name"]) for each in found) == [
        (LINKED, "ln"),
        (READ, "cat"),
    ]
    assert {each["process"]["executablePath"] for each in found} == {"/usr/bin/cat", "/usr/bin/ln"}
    assert silenced.metric() == {reason: 1, OVER: 0}
    said = silenced.status()
    assert "silenced 1 findings: who reads" in said
    assert f"silenced 0 findings: {OVER}" in said
    assert f'suppression_over until=2020-01-31 what=the suppression "{OVER}" of dev' in (
        silenced.stream.errors
    )
