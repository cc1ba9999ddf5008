# SPDX-License-Identifier: Apache-2.0
"""Hooks are proved alive by what the agent does itself; one that is taken away is missed."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest

from nodeagent.event import EVENTS
from tests.kernel.stream import Stream, held_by
from tests.kernel.test_ledger import check_balance

QUICK = ("--set", "canary.interval_seconds=0.5")
UNTRIED = {"older_socket", "new_cgroup", "kernel_hook"}
"""They cannot be done without effect, or are no hooks."""


def test_every_hook_is_alive_and_nothing_is_shown_of_it() -> None:
    with Stream(*QUICK) as stream:
        (coverage,) = [stream.one(kind="agent.coverage")]
        time.sleep(3)
        assert stream.stop() == 143
    report = stream.events[-1]
    check_balance(report)
    assert report["dead"] == []
    assert not [e for e in stream.events if e["kind"] == "agent.canary"]
    pid = stream.agent.pid
    assert not [e for e in stream.events if e.get("process", {}).get("pid") == pid]
    # It has tried all that there is.
    tried = {kind for kind, row in report["kinds"].items() if row["filtered"]}
    live = {kind for kind, row in coverage["kinds"].items() if row["family"]}
    assert tried >= live - UNTRIED - {"exec", "exit"}
    assert live <= set(EVENTS)


def dns_links(pid: int) -> list[int]:
    """Links of programs on the cgroup, which others can detach; the others there are of sendto."""
    shown = subprocess.run(["bpftool", "-j", "link", "show"], check=True, capture_output=True)
    ours = {number for what, number in held_by(pid) if what == "link"}
    return [
        each["id"]
        for each in json.loads(shown.stdout)
        if each["type"] == "cgroup" and each["id"] in ours and "udp" not in each["attach_type"]
    ]


def test_hook_that_somebody_takes_away_is_missed_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    where = f"127.0.0.1:{port}"
    with Stream(*QUICK, "--set", f'metrics.listen="{where}"') as stream:
        time.sleep(2)
        links = dns_links(stream.agent.pid)
        assert links
        with urllib.request.urlopen(f"http://{where}/readyz") as ready:
            assert ready.status == 200
        for link in links:
            subprocess.run(["bpftool", "link", "detach", "id", str(link)], check=True)
        event = stream.one(kind="agent.canary")
        assert event["dead"] == ["dns"]
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"http://{where}/readyz")
        assert refused.value.code == 503
        assert refused.value.read() == b"hooks see nothing: dns\n"
        with urllib.request.urlopen(f"http://{where}/metrics") as metrics:
            lines = metrics.read().decode().splitlines()
        assert 'nodeagent_kind_alive{kind="dns"} 0.0' in lines
        assert 'nodeagent_kind_alive{kind="open"} 1.0' in lines
        stream.stop()
    assert stream.events[-1]["dead"] == ["dns"]
    assert "canary dead=dns" in stream.errors
