# SPDX-License-Identifier: Apache-2.0
"""The deb in a Debian with systemd, from its installation to its end."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from nodeagent import __version__
from nodeagent.cli import COMMANDS
from tests.detect.test_silence import MILD
from tests.packaging.day import DAYS
from tests.packaging.guest import Step
from tests.packaging.scenario import (
    MEMORY_BYTES,
    NEWER,
    OLD_CONTAINER,
    RESTARTS,
    STEPS,
    WATCHDOG_SECONDS,
    commands,
)

pytestmark = pytest.mark.vm

SYSTEMD = Path(__file__).parents[2] / "packaging/systemd"
UNIT = (SYSTEMD / "nodeagent.service").read_text()
STATE = {"/etc/nodeagent", "/var/lib/nodeagent", "/var/log/nodeagent"}
OURS = {"/etc/systemd/system/nodeagent.service.d"}
"""What the scenario itself made."""

EXPOSURE = {"exposed": 2.8, "exposed elsewhere": 2.5}
"""By what `systemd-analyze security` says; the first one with CAP_SYS_ADMIN for the start."""

Seen = dict[str, Step]
Note = Callable[[str, object], None]


def kinds(step: Step) -> list[str]:
    return re.findall(r'"agent\.(start|stop)"', step.output)


def restarts(step: Step) -> int:
    """How often systemd did it by itself from its first to its second word."""
    before, after = re.findall(r"NRestarts=(\d+)", step.output)
    return int(after) - int(before)


def missed(step: Step, ended: str | None) -> float:
    """How long nobody watched before this start, when the run before ended like this."""
    (start,) = step.lines()
    assert start["previous"]["ended"] == ended
    gap: float = start["previous"]["gap_seconds"]
    return gap


def mask(line: str) -> int:
    """Of a line like CapEff of /proc/PID/status."""
    return int(line.split()[1], 16)


def capabilities() -> int:
    """Those that the unit names."""
    numbers = {"DAC_READ_SEARCH": 2, "NET_ADMIN": 12, "SYS_PTRACE": 19, "PERFMON": 38, "BPF": 39}
    (line,) = re.findall(r"^CapabilityBoundingSet=(.*)", UNIT, re.MULTILINE)
    return sum(1 << numbers[name.removeprefix("CAP_")] for name in line.split())


def test_every_command_of_the_readme_is_run(seen: Seen) -> None:
    run = "\n".join(STEPS.values())
    assert len(commands()) == 8
    assert [command for command in commands() if command not in run] == []


def test_package_brings_manual_and_completion(dist: Path, tmp_path: Path, seen: Seen) -> None:
    subprocess.run(["dpkg-deb", "--extract", dist / "nodeagent.deb", tmp_path], check=True)
    page = gzip.decompress((tmp_path / "usr/share/man/man1/nodeagent.1.gz").read_bytes()).decode()
    names = [module.__name__.rpartition(".")[2] for module in COMMANDS]
    assert [name for name in names if f"nodeagent {name}" not in page.replace("\\-", "-")] == []
    assert "-F _shtab_nodeagent nodeagent" in seen["completion"].output


def test_service_starts_with_the_installation(seen: Seen, record_property: Note) -> None:
    assert seen["install"].code == 0, seen["install"].errors
    assert seen["state"].code == 0
    assert "Active: active (running)" in seen["state"].output
    assert seen["enabled"].output == "enabled\n"
    (first,) = seen["first event"].lines()
    assert first["kind"] == "agent.start"
    assert first["previous"] is None
    # dpkg ends when the service is ready, which it is when events come.
    assert datetime.fromisoformat(first["time"]).timestamp() < seen["install"].ended
    seconds = datetime.fromisoformat(first["time"]).timestamp() - seen["install"].began
    record_property("package", f"first event {seconds:.1f} s after the installation began")


def test_systemd_knows_that_it_is_ready_and_what_it_may_take(seen: Seen) -> None:
    facts = seen["properties"].facts()
    assert facts["Type"] == "notify"
    assert facts["NotifyAccess"] == "main"
    assert facts["StatusText"] == "streaming"
    assert facts["NRestarts"] == "0"
    assert facts["MemoryMax"] == str(MEMORY_BYTES)
    assert facts["CPUQuotaPerSecUSec"] == "1s"
    assert seen["limits"].output.split() == [
        f"memory.max:{MEMORY_BYTES}",
        "cpu.max:100000",
        "100000",
    ]


def test_it_has_the_capabilities_of_the_unit_in_each_thread(seen: Seen) -> None:
    lines = seen["capabilities"].output.splitlines()
    found = {name: mask(line) for line in lines for name in [line.partition(":")[0]]}
    # One line for each, so all threads agree.
    assert len(lines) == len(found)
    assert found["CapEff"] == found["CapPrm"] == capabilities()
    # What Debian's drop-in adds is given up; without new privileges it cannot come back.
    assert found["CapBnd"] == capabilities() | 1 << 21
    assert found["CapInh"] == found["CapAmb"] == 0
    assert found["NoNewPrivs"] == 1


def test_what_systemd_still_finds_is_little_and_explained(
    seen: Seen, record_property: Note
) -> None:
    why = UNIT + (SYSTEMD / "debian.conf").read_text()
    for point in json.loads(seen["exposure"].output):
        if point["exposure"]:
            # CapabilityBoundingSet=~CAP_(DAC_*|FOWNER|IPC_OWNER), User=/DynamicUser=
            name = re.sub(r".*~(CAP_)?", "", point["name"]).replace("(", "")
            assert re.split(r"[*|/]", name)[0] in why, point["name"]
    for step, most in EXPOSURE.items():
        (score,) = re.findall(r"level for \S+: (\d+\.\d)", seen[step].output)
        assert float(score) <= most
        record_property("package", f"systemd-analyze security: {score} {step}")


def test_it_can_write_only_what_is_its_own(seen: Seen) -> None:
    assert seen["writable"].errors.count("Read-only file system") == 3


def test_events_of_a_command_arrive(seen: Seen) -> None:
    (event,) = seen["command"].lines()
    assert event["argv"] == ["/tmp/something-new", "--here"]
    assert event["process"]["path"] == "/tmp/something-new"


def test_container_that_was_there_before_has_its_name(seen: Seen) -> None:
    (event,) = seen["contained"].lines()
    assert event["container"]["id"] == OLD_CONTAINER
    assert event["container"]["runtime"] == "docker"


def test_status_and_last_events_are_shown(seen: Seen) -> None:
    assert seen["status"].code == 0, seen["status"].errors
    assert seen["status"].output.startswith(f"agent    {__version__}, pid ")
    assert "DEAD" not in seen["status"].output
    assert len(seen["last"].lines()) == 3


def test_configuration_is_checked_and_taken_over(seen: Seen) -> None:
    assert seen["edit"].code == 0, seen["edit"].errors
    assert seen["reload"].code == 0, seen["reload"].errors
    assert "sink     backend: 0 delivered" in seen["reload"].output


def test_stopped_agent_is_restarted_by_the_watchdog(seen: Seen) -> None:
    step = seen["stopped"]
    assert step.code == 0, step.output
    assert f"Watchdog timeout (limit {WATCHDOG_SECONDS}s)!" in step.output
    assert restarts(step) == 1
    # A start without the end of the run before: events between them are missing.
    assert kinds(step)[-2:] == ["start", "start"]
    assert missed(seen["start after stopped"], None) >= WATCHDOG_SECONDS / 2


def test_second_agent_is_refused(seen: Seen) -> None:
    assert seen["second"].code == 2
    assert seen["second"].errors.startswith("nodeagent: another agent (pid ")
    assert len(seen["second"].errors.splitlines()) == 1


def test_killed_agent_is_restarted_and_keeps_its_files(seen: Seen) -> None:
    assert seen["killed"].code == 0, seen["killed"].errors
    inodes = re.findall(r"^(\d+) /var", seen["killed"].output, re.MULTILINE)
    assert len(inodes) == 4
    assert inodes[:2] == inodes[2:]
    assert restarts(seen["killed"]) == 1
    assert kinds(seen["killed"])[-2:] == ["start", "start"]
    assert re.search(r"backend: .* [1-9]\d* spooled, 0 dropped", seen["after kill"].output)


def test_gap_of_a_kill_is_right_though_the_clock_is_stepped_meanwhile(seen: Seen) -> None:
    assert 0 < missed(seen["start after killed"], None) < 600
    (line,) = re.findall(r'.*"agent\.clock".*', seen["memory"].output)
    assert json.loads(line)["stepped_seconds"] == pytest.approx(-3600, abs=1)


def test_agent_without_memory_is_killed_and_comes_back(seen: Seen) -> None:
    assert seen["memory"].code == 0, seen["memory"].output + seen["memory"].errors
    assert restarts(seen["memory"]) >= 1
    assert 0 < missed(seen["start after memory"], None) < 600


def test_it_can_be_restarted_again_and_again(seen: Seen) -> None:
    assert {seen[f"restart {number}"].code for number in range(RESTARTS)} == {0}
    first, second, *stops = seen["after restarts"].output.splitlines()
    assert {first, second} == {"Result=success", "NRestarts=0"}
    assert len(stops) == RESTARTS
    for stop in map(json.loads, stops):
        assert stop["reason"] == "SIGTERM"
        assert balances(stop)
        # The spool of the run before.
        assert stop["sinks"]["backend"]["recovered"]
    assert 0 < missed(seen["start after restarts"], "SIGTERM") < 600


def test_it_works_below_its_profile_of_apparmor_and_looks_at_the_kernel_with_syslog(
    seen: Seen,
) -> None:
    assert seen["confined"].code == 0, seen["confined"].errors
    profile, status, *_ = seen["confined"].output.splitlines()
    assert profile == "nodeagent (enforce)"
    assert status.startswith("agent ")
    assert "kernel_not_checked" not in seen["confined"].output
    assert seen["confined"].errors.count("Read-only file system") == 2
    assert seen["denied"].output == ""


def test_usual_work_gives_at_most_one_finding_above_low(seen: Seen) -> None:
    for name in ("people", *(f"day {number}" for number in range(DAYS))):
        day = seen[name]
        assert day.code == 0, day.output + day.errors
    assert seen["found"].code == 0, seen["found"].errors
    found = [each for each in seen["found"].lines() if each["severity"] not in MILD]
    told = {each["type"]: each["title"] for each in found}
    assert len(told) <= 1, told


def balances(stop: dict[str, Any]) -> bool:
    kept = ("delivered", "queued", "spooled")
    sinks = stop["sinks"].values()
    return all(
        sink["routed"] == sum(map(sink.get, kept)) + sum(sink["dropped"].values()) for sink in sinks
    )


def test_upgrade_keeps_the_configuration_and_goes_on(seen: Seen) -> None:
    assert seen["upgrade"].code == 0, seen["upgrade"].errors
    assert seen["upgraded"].output == f"{NEWER} install ok installed"
    assert seen["configuration"].output == seen["configuration after upgrade"].output


def test_wrong_configuration_is_told_in_one_sentence(seen: Seen) -> None:
    assert seen["break"].code == 2
    sentence = seen["break"].errors.strip()
    assert "kernal" in sentence
    assert len(sentence.splitlines()) == 1
    # The package is installed all the same.
    assert seen["broken upgrade"].code == 0
    assert "systemctl status nodeagent says why" in seen["broken upgrade"].errors
    assert sentence in seen["broken state"].output
    assert "Traceback" not in seen["broken state"].output
    assert seen["broken facts"].facts() == {
        "ActiveState": "failed",
        "SubState": "failed",
        "Result": "exit-code",
        "ExecMainStatus": "2",
    }


def test_removal_leaves_what_was_configured_and_seen(seen: Seen) -> None:
    assert seen["remove"].code == 0, seen["remove"].errors
    left = set(seen["removed"].output.splitlines()) - set(seen["before"].output.splitlines())
    assert {path for path in left if not path.startswith("/var/lib/dpkg/")} == STATE | OURS


def test_removed_package_comes_back_with_its_state(seen: Seen) -> None:
    assert seen["come back"].code == 0, seen["come back"].errors
    assert "\nenabled\n" in seen["come back"].output
    assert "sink     backend: " in seen["come back"].output


def test_purge_of_what_runs_leaves_nothing(seen: Seen) -> None:
    # The same way of looking finds something while it runs.
    assert 'prog "name":"on_exec"' in seen["objects"].output
    assert 'map "name":"high"' in seen["objects"].output
    assert seen["purge"].code == 0, seen["purge"].errors
    left = set(seen["purged"].output.splitlines()) - set(seen["before"].output.splitlines())
    assert left == OURS
