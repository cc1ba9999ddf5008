# SPDX-License-Identifier: Apache-2.0
"""The whole way: from the kernel of this machine to a server with TLS, which fails at times."""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
from pathlib import Path

import pytest
import trustme

from nodeagent.kernel.object import find_object
from tests.delivery.receiver import receiving
from tests.requirement import need

SECONDS = 3


@pytest.fixture
def kernel() -> None:
    need("kernel", os.geteuid() == 0, "eBPF needs root")
    need("kernel", find_object().exists(), "bpf/nodeagent.bpf.o is not built")


async def test_what_a_flaky_server_took_is_what_the_ledger_says(
    kernel: None, tmp_path: Path
) -> None:
    authority = trustme.CA()
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    async with receiving(context) as receiver:
        receiver.answers = [(503, {"Retry-After": "0"}), (500, {}), (429, {"Retry-After": "1"})]
        settings = {
            "sinks.https.url": f"https://localhost:{receiver.port}/events",
            "sinks.https.ca_file": str(ca_file),
            "spool.folder": str(tmp_path),
            "shutdown_seconds": "30",
        }
        words = [word for item in settings.items() for word in ("--set", "=".join(item))]
        agent = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "nodeagent", "run", "--sink", "https"),
            *("--duration", str(SECONDS), *words),
            stderr=asyncio.subprocess.PIPE,
        )
        _, errors = await agent.communicate()
    said = errors.decode()
    assert agent.returncode == 0, said
    assert "balanced: every event is accounted for" in said
    assert said.count("sink_retry") == 3
    events = [event for request in receiver.taken.values() for event in request.events]
    kinds = {event["kind"] for event in events}
    assert {"agent.start", "agent.stop"} <= kinds
    (row,) = [line.split() for line in said.splitlines() if line.startswith("https")]
    assert row == ["https", str(len(events)), str(len(events)), "0", "0", "0"]
    # No request was answered with success twice.
    assert len(receiver.taken) == len(receiver.requests)
