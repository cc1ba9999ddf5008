# SPDX-License-Identifier: Apache-2.0
"""What the agent can do with less than all of root's power."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.requirement import need

LEAST = ("bpf", "perfmon")
SERVICE = (*LEAST, "net_admin", "sys_ptrace", "dac_read_search")

# A system has tracefs; to mount it takes more than the agent is given.
SCRIPT = """
    mount -t tracefs none /sys/kernel/tracing
    exec setpriv --bounding-set="$CAPABILITIES" --inh-caps="$CAPABILITIES" "$@"
"""


@pytest.fixture(autouse=True)
def tool(kernel: None) -> None:
    need("kernel", shutil.which("setpriv") is not None, "setpriv of util-linux is not installed")


def run_with(
    *capabilities: str, command: tuple[str, ...] = ("run", "--duration", "0.2", "--format", "json")
) -> subprocess.CompletedProcess[str]:
    """A short run, or another command, with these capabilities only."""
    wanted = ",".join(["-all", *(f"+{name}" for name in capabilities)])
    agent = [sys.executable, "-m", "nodeagent", *command]
    return subprocess.run(
        ["unshare", "--mount", "sh", "-ec", SCRIPT, "sh", *agent],
        check=False,
        capture_output=True,
        text=True,
        env={"CAPABILITIES": wanted, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        timeout=60,
    )


def coverage(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    (said,) = [event for event in events if event["kind"] == "agent.coverage"]
    return dict(said["kinds"])


def test_with_those_of_the_service_it_sees_everything() -> None:
    families = {kind: each["family"] for kind, each in coverage(run_with(*SERVICE)).items()}
    assert families["open"] in {"tracepoint", "trampoline"}
    assert families["dns"] == families["sendto"] == "cgroup"
    # There are machines without modules.
    assert {kind for kind, family in families.items() if family is None} <= {"module"}


@pytest.mark.parametrize("more", [(), ("sys_admin",)])
def test_without_the_network_it_sees_neither_dns_nor_datagrams(more: tuple[str, ...]) -> None:
    # CAP_SYS_ADMIN is given up before anything is attached.
    kinds = coverage(run_with(*LEAST, *more))
    for kind in ("dns", "sendto"):
        assert kinds[kind]["family"] is None
        assert set(kinds[kind]["missing"].values()) == {"that needs CAP_NET_ADMIN"}
    assert kinds["exec"]["family"] is not None


@pytest.mark.parametrize(("more", "hidden"), [((), True), (("syslog",), False)])
def test_kernel_hides_its_addresses_from_all_without_syslog(
    more: tuple[str, ...], hidden: bool
) -> None:
    paranoid = int(Path("/proc/sys/kernel/perf_event_paranoid").read_text())
    need("kernel", paranoid > 1, "kernel.perf_event_paranoid shows addresses to everybody")
    done = run_with(*SERVICE, *more, command=("doctor", "--json"))
    checks = {check["name"]: check["found"] for check in json.loads(done.stdout)["checks"]}
    assert ("hides its addresses" in checks["kernel tables"]) == hidden


def test_without_ebpf_it_says_what_it_needs() -> None:
    done = run_with("net_admin")
    assert done.returncode == 2
    assert "CAP_BPF" in done.stderr
    assert "Traceback" not in done.stderr
