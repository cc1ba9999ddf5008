# SPDX-License-Identifier: Apache-2.0
"""Findings that only a real container can give, and quiet where a container is just made."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.containers.lab import HOST_NETWORK, IMAGE, OF_THE_CONTAINER, OF_THE_NODE, Lab, image
from tests.containers.test_files import DROP, exec_of
from tests.detect.replaying import Recorded
from tests.detect.shapes import misfits
from tests.findings import Note, note_found, note_near
from tests.kernel.stream import ACTS, Event, Stream

EXPECTED = tuple(
    word
    for direction in ("egress", "ingress")
    for word in ("--set", f'detect.network.{direction}={{"shop/caller" = ["10.0.0.0/8"]}}')
)
"""Of one workload; nothing is said of others."""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """What the agent of these tests sees."""
    return Recorded(tmp_path_factory.mktemp("recorded"))


@pytest.fixture(scope="module")
def stream(lab: Lab, recorded: Recorded) -> Iterator[Stream]:
    """An agent that asks this containerd, and records."""
    options = ("--signals", *EXPECTED, *recorded.options)
    with Stream("--set", f'containers.cri_sockets=["{lab.socket}"]', *options) as running:
        yield running


def findings(stream: Stream, container: str) -> list[Event]:
    """All about a container, signals included."""
    stream.catch_up()
    # Findings stand behind the events of their batch, so only the next batch is behind them.
    stream.catch_up()
    return [event for event in stream.events if event["kind"] == "finding" and of(event, container)]


def of(event: Event, container: str) -> bool:
    return bool(event["resource"].get("containerDetails", {}).get("id") == container)


def sleeps_in(container: str, event: Event) -> bool:
    where = event.get("container") or {}
    is_sleep = event["kind"] == "exec" and event["argv"][0] == "sleep"
    return is_sleep and where.get("id") == container


def finding(stream: Stream, container: str, type_: str) -> Event:
    return stream.first(
        lambda e: e["kind"] == "finding" and e["type"] == type_ and of(e, container), type_
    )


def test_program_that_was_written_in_the_container_is_found(
    lab: Lab, stream: Stream, record_property: Note
) -> None:
    pod = lab.pod("shop-5d8f-abcde", namespace="shop", labels={"pod-template-hash": "5d8f"})
    number = lab.container(pod, "main", ["/bin/sh", "-c", "exec sleep 1000", "quiet-mark"])
    exec_of(stream, "quiet-mark")
    # What is in the image may run.
    assert not findings(stream, number)
    assert lab.execute(number, "/bin/sh", "-c", DROP).exit_code == 0
    found = finding(stream, number, "Execution:Runtime/NewBinaryExecuted")
    note_near(record_property, found["type"])
    note_found(record_property, found)
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
    lab: Lab, stream: Stream, tmp_path: Path, record_property: Note
) -> None:
    type_ = "Execution:Runtime/NewLibraryLoaded"
    program = tmp_path / "memory"
    command = ["gcc", "-static", "-O1", "-pthread", "-o", str(program), str(ACTS / "memory.c")]
    subprocess.run(command, check=True)
    pod = lab.pod("library")
    mounts = [{"container_path": "/volume", "host_path": str(tmp_path), "readonly": True}]
    number = lab.container(pod, "main", ["/bin/sh", "-c", "exec sleep 1000"], mounts=mounts)
    # These libraries came with the volume.
    loader = copy_with_libraries(Path("/bin/true"), tmp_path)
    near = f"/volume/{loader} --library-path /volume /volume/true"
    assert lab.execute(number, "/bin/sh", "-c", near).exit_code == 0
    stream.one(kind="mmap", path="/volume/libc.so.6", container__id=number)
    assert type_ not in {each["type"] for each in findings(stream, number)}
    note_near(record_property, type_)
    script = "cd /tmp && /volume/memory mmap_library"
    assert lab.execute(number, "/bin/sh", "-c", script).exit_code == 0
    found = finding(stream, number, type_)
    note_found(record_property, found)
    assert found["context"]["libraryPath"] == "/tmp/library"
    assert not list(misfits(found))
    assert found["context"]["modifyingProcess"]["executablePath"] == "/volume/memory"
    # The program itself came with the volume.
    assert "Execution:Runtime/NewBinaryExecuted" not in {
        each["type"] for each in findings(stream, number)
    }
    lab.remove(pod)


def copy_with_libraries(program: Path, folder: Path) -> str:
    """Copies of a program and of what it is linked to; the name of the one that loads it."""
    linked = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
    needed = [Path(name) for name in re.findall(r"(/\S+) \(0x", linked)]
    for each in (program, *needed):
        shutil.copy(each, folder)
    (loader,) = (each.name for each in needed if each.name.startswith("ld-"))
    return loader


def test_three_tactics_in_one_container_are_an_attack_sequence(
    lab: Lab, stream: Stream, record_property: Note
) -> None:
    type_ = "AttackSequence:Runtime/CompromisedContainer"
    pod = lab.pod("sequence")
    number = lab.container(pod, "main", ["/bin/sh", "-c", "exec sleep 1000"])
    for each in ("echo x > /tmp/release_agent", "touch /tmp/runc; echo x >> /tmp/runc", DROP):
        lab.execute(number, "/bin/sh", "-c", each)
    finding(stream, number, "Execution:Runtime/NewBinaryExecuted")
    # Two tactics only, heavy as they are.
    assert type_ not in {each["type"] for each in findings(stream, number)}
    note_near(record_property, type_)
    lab.execute(number, "/bin/sh", "-c", "ln -s /etc/shadow /tmp/harmless")
    found = finding(stream, number, type_)
    assert found["severity"] == "critical"
    assert {each["type"].partition(":")[0] for each in found["evidence"]["signals"]} == {
        "CredentialAccess",
        "Execution",
        "PrivilegeEscalation",
    }
    assert not list(misfits(found))
    note_found(record_property, found)
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


def test_containers_with_more_of_the_node_than_others_are_told_and_are_no_finding_alone(
    lab: Lab, stream: Stream, record_property: Note
) -> None:
    type_ = "PrivilegeEscalation:Runtime/PrivilegedContainerStarted"
    forever = ["/bin/sleep", "1000"]
    pid = {"pid": OF_THE_NODE, **HOST_NETWORK}
    pods = [lab.pod("node-agent", namespaces=pid), lab.pod("tracer"), lab.pod("plain")]
    mounts = [
        {"container_path": "/node", "host_path": "/etc", "readonly": True},
        {"container_path": "/runtime.sock", "host_path": str(lab.socket)},
        {"container_path": "/data", "host_path": "/srv"},
    ]
    everything = {"capabilities": {"add_capabilities": ["ALL"]}, "namespace_options": pid}
    agent = lab.container(pods[0], "main", forever, mounts=mounts, security_context=everything)
    one = {"capabilities": {"add_capabilities": ["SYS_PTRACE", "NET_ADMIN"]}}
    tracer = lab.container(pods[1], "main", forever, security_context=one)
    plain = lab.container(pods[2], "main", forever, mounts=mounts[2:])
    told = {
        number: {each["evidence"]["rule"]: each for each in findings(stream, number)}
        for number in (agent, tracer, plain)
    }
    assert [*told[agent]] == ["container_privileged", "container_host_pids", "container_host_path"]
    sources = [each.get("context", {}).get("mountSource") for each in findings(stream, agent)]
    assert {*sources} == {None, "/etc", str(lab.socket)}
    assert [*told[tracer]] == ["container_capabilities"]
    assert told[tracer]["container_capabilities"]["context"] == {"capabilities": ["CAP_SYS_PTRACE"]}
    assert not told[plain]
    note_near(record_property, type_)
    for found in [*told[agent].values(), *told[tracer].values()]:
        assert (found["type"], found["severity"]) == (type_, "informational")
        assert not list(misfits(found))
        note_found(record_property, found)
    for pod in pods:
        lab.remove(pod)


def test_parts_of_a_cluster_do_their_work_and_nothing_else(
    lab: Lab, stream: Stream, tmp_path: Path
) -> None:
    name = "public.ecr.aws/ebs-csi-driver/aws-ebs-csi-driver:v1"
    archive = tmp_path / "driver.tar"
    archive.write_bytes(image(name))
    lab.take(archive)
    work = "; ".join(
        (
            "mkdir -p /var/lib/kubelet/volume /elsewhere",
            "cat /dev/nvme9n1",
            "mount -t ext4 /dev/nvme9n1 /var/lib/kubelet/volume",
            "nc -w 1 169.254.169.254 80",
        )
    )
    pods = [lab.pod(each, namespace="kube-system") for each in ("ebs-csi-node", "stranger")]
    privileged = {
        "capabilities": {"add_capabilities": ["ALL"]},
        # As the kubelet does it unless a pod shares its processes.
        "namespace_options": {"pid": OF_THE_CONTAINER, **HOST_NETWORK},
    }
    started = ["/bin/sh", "-c", f"({work}); exec sleep 1000"]
    numbers = [
        lab.container(pod, "main", started, security_context=privileged, image={"image": of})
        for pod, of in zip(pods, (name, IMAGE), strict=True)
    ]
    told = {"container_privileged"}
    work_of_it = {"raw_device", "host_mount", "metadata_access"}
    for number, wanted in zip(numbers, (told, told | work_of_it), strict=True):
        stream.first(partial(sleeps_in, number))
        assert {each["evidence"]["rule"] for each in findings(stream, number)} == wanted
    # Somebody comes in, or it mounts what is no volume.
    lab.execute(numbers[0], "/bin/sh", "-c", work)
    lab.execute(numbers[0], "/bin/mount", "-t", "ext4", "/dev/nvme9n1", "/elsewhere")
    told |= {*work_of_it, "container_shell"}
    assert {each["evidence"]["rule"] for each in findings(stream, numbers[0])} >= told
    for pod in pods:
        lab.remove(pod)


def test_connections_of_a_workload_that_nobody_expects_are_found(
    lab: Lab, stream: Stream, record_property: Note
) -> None:
    own: dict[str, int] = {}
    labels = {"pod-template-hash": "5d8f"}
    pods = [
        lab.pod("caller-5d8f-abcde", namespace="shop", labels=labels, namespaces=own),
        lab.pod("friend", namespace="other", namespaces=own),
    ]
    serve = "while :; do /bin/busybox nc -l -p 5000 < /dev/null; done"
    options = {"security_context": {"namespace_options": own}}
    caller, friend = (
        lab.container(pod, "main", ["/bin/sh", "-c", serve], **options) for pod in pods
    )
    for number, other in ((caller, friend), (friend, caller)):
        shown = lab.execute(other, "/bin/busybox", "ifconfig", "eth0").stdout.decode()
        (address,) = re.findall(r"inet addr:(\S+)", shown)
        lab.execute(number, "/bin/busybox", "nc", address, "5000")
    for type_ in ("UnexpectedEgress", "UnexpectedIngress"):
        found = finding(stream, caller, f"UnauthorizedAccess:Runtime/{type_}")
        assert "198.18.113.0/24" in found["title"]
        assert not list(misfits(found))
        note_found(record_property, found)
        note_near(record_property, found["type"])
    assert not [each for each in findings(stream, friend) if "Unexpected" in each["type"]]
    for pod in pods:
        lab.remove(pod)


def test_pods_that_just_start_and_end_give_no_finding(lab: Lab, stream: Stream) -> None:
    pods = [lab.pod(f"quiet-{number}") for number in range(5)]
    numbers = [lab.container(pod, "main", ["/bin/true"]) for pod in pods]
    for pod in pods:
        lab.remove(pod)
    assert not [each for number in numbers for each in findings(stream, number)]


def test_replay_gives_all_of_it_again_byte_for_byte(stream: Stream, recorded: Recorded) -> None:
    # The last one of these tests, since it ends their agent.
    assert stream.stop() == 143
    assert "balanced" in stream.errors
    found = recorded.findings()
    assert b"CompromisedContainer" in b"".join(found)
    assert recorded.replayed(EXPECTED) == found
