# SPDX-License-Identifier: Apache-2.0
"""Findings that only a real container can give, and quiet where a container is just made."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.containers.lab import Lab
from tests.containers.test_files import DROP, exec_of
from tests.detect.shapes import misfits
from tests.kernel.stream import ACTS, Event, Stream


def findings(stream: Stream, container: str) -> list[Event]:
    """All about a container, signals included."""
    stream.catch_up()
    return [event for event in stream.events if event["kind"] == "finding" and of(event, container)]


def of(event: Event, container: str) -> bool:
    return bool(event["resource"].get("containerDetails", {}).get("id") == container)


def finding(stream: Stream, container: str, type_: str) -> Event:
    return stream.first(
        lambda e: e["kind"] == "finding" and e["type"] == type_ and of(e, container), type_
    )


def test_program_that_was_written_in_the_container_is_found(lab: Lab, stream: Stream) -> None:
    pod = lab.pod("shop-5d8f-abcde", namespace="shop", labels={"pod-template-hash": "5d8f"})
    number = lab.container(pod, "main", ["/bin/sh", "-c", "exec sleep 1000", "quiet-mark"])
    exec_of(stream, "quiet-mark")
    assert not findings(stream, number)
    assert lab.execute(number, "/bin/sh", "-c", DROP).exit_code == 0
    found = finding(stream, number, "Execution:Runtime/NewBinaryExecuted")
    assert found["context"]["modifyingProcess"]["executablePath"] == "/bin/busybox"
    assert found["context"]["modifiedAt"].startswith("20")
    assert not list(misfits(found))
    assert found["process"]["executablePath"] == "/tmp/busybox"
    workload = found["resource"]["kubernetesDetails"]["kubernetesWorkloadDetails"]
    assert (workload["name"], workload["type"], workload["namespace"]) == (
        "shop",
        "Deployment",
        "shop",
    )
    lab.remove(pod)


def test_script_that_was_written_in_the_container_is_found(lab: Lab, stream: Stream) -> None:
    pod = lab.pod("script")
    number = lab.container(pod, "main", ["/bin/sh", "-c", "exec sleep 1000"])
    script = "cd /tmp; printf '#!/bin/sh\\n' > x.sh; chmod 755 x.sh; ./x.sh"
    assert lab.execute(number, "/bin/sh", "-c", script).exit_code == 0
    found = finding(stream, number, "Execution:Runtime/NewBinaryExecuted")
    assert found["context"]["threatFilePath"] == "/tmp/x.sh"
    assert found["context"]["modifyingProcess"]["executablePath"] == "/bin/busybox"
    assert not list(misfits(found))
    lab.remove(pod)


def test_library_that_was_written_in_the_container_is_found(
    lab: Lab, stream: Stream, tmp_path: Path
) -> None:
    program = tmp_path / "memory"
    command = ["gcc", "-static", "-O1", "-pthread", "-o", str(program), str(ACTS / "memory.c")]
    subprocess.run(command, check=True)
    pod = lab.pod("library")
    mounts = [{"container_path": "/volume", "host_path": str(tmp_path), "readonly": True}]
    number = lab.container(pod, "main", ["/bin/sh", "-c", "exec sleep 1000"], mounts=mounts)
    script = "cd /tmp && /volume/memory mmap_library"
    assert lab.execute(number, "/bin/sh", "-c", script).exit_code == 0
    found = finding(stream, number, "Execution:Runtime/NewLibraryLoaded")
    assert found["context"]["libraryPath"] == "/tmp/library"
    assert not list(misfits(found))
    assert found["context"]["modifyingProcess"]["executablePath"] == "/volume/memory"
    # The program itself came with the volume.
    assert "Execution:Runtime/NewBinaryExecuted" not in {
        each["type"] for each in findings(stream, number)
    }
    lab.remove(pod)


@pytest.mark.parametrize(
    ("script", "type_"),
    [
        ("echo x > /tmp/release_agent", "PrivilegeEscalation:Runtime/CGroupsReleaseAgentModified"),
        ("touch /tmp/runc; echo x >> /tmp/runc", "PrivilegeEscalation:Runtime/RuncContainerEscape"),
        ("cat /etc/shadow", "CredentialAccess:Runtime/SensitiveFileRead"),
    ],
)
def test_ways_out_of_a_real_container_are_found(
    lab: Lab, stream: Stream, script: str, type_: str
) -> None:
    pod = lab.pod("escape")
    number = lab.container(pod, "main", ["/bin/sh", "-c", "exec sleep 1000"])
    lab.execute(number, "/bin/sh", "-c", f"echo r > /etc/shadow; {script}")
    assert finding(stream, number, type_)["resource"]["containerDetails"]["name"] == "main"
    lab.remove(pod)


def test_pods_that_just_start_and_end_give_no_finding(lab: Lab, stream: Stream) -> None:
    pods = [lab.pod(f"quiet-{number}") for number in range(5)]
    numbers = [lab.container(pod, "main", ["/bin/true"]) for pod in pods]
    for pod in pods:
        lab.remove(pod)
    assert not [each for number in numbers for each in findings(stream, number)]
