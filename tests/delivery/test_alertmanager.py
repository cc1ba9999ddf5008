# SPDX-License-Identifier: Apache-2.0
"""Alerts to a real Alertmanager."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from nodeagent.finding import Severity
from nodeagent.sink import Batch
from sinks.alertmanager import Alertmanager
from tests.delivery.opened import opened
from tests.delivery.rsyslog import free_port
from tests.events import a_finding
from tests.requirement import need

pytestmark = pytest.mark.usefixtures("origin")

CONFIG = """
route: {receiver: nobody}
receivers: [{name: nobody}]
"""


@asynccontextmanager
async def alertmanager(folder: Path, port: int = 0) -> AsyncIterator[str]:
    program = shutil.which("prometheus-alertmanager")
    need("alertmanager", program is not None, "prometheus-alertmanager is not installed")
    (folder / "config.yml").write_text(CONFIG)
    url = f"http://127.0.0.1:{port or free_port()}"
    server = await asyncio.create_subprocess_exec(
        str(program),
        f"--config.file={folder}/config.yml",
        f"--storage.path={folder}/data",
        f"--web.listen-address={url.removeprefix('http://')}",
        "--cluster.listen-address=",
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(30), aiohttp.ClientSession() as session:
            while not await is_ready(session, url):  # noqa: ASYNC110  of another process
                await asyncio.sleep(0.05)
        yield url
    finally:
        if server.returncode is None:
            server.kill()
        await server.wait()


async def is_ready(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(f"{url}/-/ready") as answer:
            return answer.status == 200
    except aiohttp.ClientConnectorError:
        return False


async def alerts(url: str) -> list[dict[str, Any]]:
    async with aiohttp.ClientSession() as session, session.get(f"{url}/api/v2/alerts") as answer:
        found: list[dict[str, Any]] = await answer.json()
        return found


async def test_each_finding_is_an_alert_however_often_it_comes(tmp_path: Path) -> None:
    now = time.time_ns()
    times = {"first_seen": now - 60 * 10**9, "last_seen": now}
    findings = [
        a_finding(**times),
        a_finding(**times, title="other", severity=Severity.CRITICAL, evidence={"pid": 7}),
    ]
    async with alertmanager(tmp_path) as url:
        async with opened(Alertmanager, url=f"{url}/", labels={"team": "red"}) as sink:
            await sink.send(Batch([], findings))
            await sink.send(Batch([], [a_finding(**times, count=2)]))
        found = await alerts(url)
    by_summary = {each["annotations"]["summary"]: each for each in found}
    assert set(by_summary) == {"A shell talks to 192.0.2.1", "other"}
    assert len(found) == 2
    first, other = by_summary["A shell talks to 192.0.2.1"], by_summary["other"]
    assert first["labels"]["alertname"] == "Execution:Runtime/ReverseShell"
    assert first["labels"]["team"] == "red"
    assert first["annotations"]["count"] == "2"
    assert other["labels"]["severity"] == "critical"
    assert json.loads(other["annotations"]["description"])["evidence"] == {"pid": 7}
    assert first["status"]["state"] == "active"


async def test_an_alert_ends_some_time_after_its_finding(tmp_path: Path) -> None:
    now = time.time_ns()
    old = a_finding(first_seen=now - 7200 * 10**9, last_seen=now - 3600 * 10**9)
    async with alertmanager(tmp_path) as url:
        async with opened(Alertmanager, url=url, resolve_seconds=60) as sink:
            await sink.send(Batch([], [old]))
        assert await alerts(url) == []
