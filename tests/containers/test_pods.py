# SPDX-License-Identifier: Apache-2.0
"""Events carry the container and the pod that they come from."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from nodeagent.kernel.cgroup import CONTROLLERS, whole_hierarchy
from tests.bench.pods import cgroups
from tests.containers.lab import IMAGE, Lab
from tests.kernel.stream import Event, Stream
from tests.requirement import need

AT_ONCE = 50
WAIT_SECONDS = 1
HOST_PROGRAMS = 50
PROMPT_SECONDS = 5.0
"""On a busy machine; the events of a container wait for two seconds."""


@contextmanager
def agent(*settings: str) -> Iterator[Stream]:
    options = [word for setting in settings for word in ("--set", setting)]
    with Stream(*options) as running:
        yield running
        assert running.stop() == 143
    assert "balanced" in running.errors


def inside(events: Iterable[Event], container: str) -> list[Event]:
    return [event for event in events if event.get("container", {}).get("id") == container]


def marked(name: str) -> list[str]:
    """A command whose exec is found by its last argument."""
    return ["/bin/sh", "-c", f"echo {name}; exec sleep 1000", name]


def exec_of(stream: Stream, name: str) -> Event:
    return stream.first(
        lambda e: e["kind"] == "exec" and bool(e.get("argv")) and e["argv"][-1] == name, name
    )


def test_first_event_of_a_container_knows_its_pod(lab: Lab, stream: Stream) -> None:
    labels = {"app": "web", "secret": "no", "pod-template-hash": "5d8f"}
    pod = lab.pod("web-5d8f-abcde", namespace="shop", labels=labels)
    number = lab.container(pod, "main", marked("first"))
    container = exec_of(stream, "first")["container"]
    assert container["id"] == number
    assert container["name"] == "main"
    assert container["runtime"] == "containerd"
    assert container["image"] == IMAGE
    assert container["image_digest"].startswith("sha256:")
    assert container["enrichment"] == "complete"
    assert container["created"].endswith("Z")
    assert container["pod"]["name"] == "web-5d8f-abcde"
    assert container["pod"]["namespace"] == "shop"
    assert container["pod"]["sandbox_id"] == pod
    assert container["pod"]["labels"] == {"app": "web"}
    assert container["pod"]["workload"] == {"kind": "Deployment", "name": "web"}
    lab.remove(pod)


def test_two_containers_of_a_pod_are_told_apart(lab: Lab, stream: Stream) -> None:
    pod = lab.pod("pair")
    first = lab.container(pod, "left", marked("left-one"))
    second = lab.container(pod, "right", marked("right-one"))
    assert exec_of(stream, "left-one")["container"]["id"] == first
    event = exec_of(stream, "right-one")
    assert event["container"]["id"] == second
    assert event["container"]["name"] == "right"
    assert event["container"]["pod"]["name"] == "pair"
    lab.remove(pod)


def test_top_says_what_a_pod_costs(lab: Lab, tmp_path: Path) -> None:
    control = tmp_path / "control.sock"
    busy = ["/bin/sh", "-c", "while :; do /bin/true; done"]
    pod = lab.pod("busy", namespace="shop")
    lab.container(pod, "loop", busy)
    with agent(f'containers.cri_sockets=["{lab.socket}"]', f"control.socket={control}") as running:
        running.catch_up()
        words = ("top", "pods", "--once", "--output", "json", "--control", str(control))
        shown = subprocess.run(
            [sys.executable, "-m", "nodeagent", *words], capture_output=True, text=True, check=True
        )
    rows = [json.loads(line) for line in shown.stdout.splitlines()]
    (row,) = [row for row in rows if (row["namespace"], row["pod"]) == ("shop", "busy")]
    assert row["container"] == "loop"
    assert row["events_per_second"] > 0
    assert 0 < row["share_percent"] <= 100
    lab.remove(pod)


def test_exec_into_a_container_belongs_to_it(lab: Lab, stream: Stream) -> None:
    pod = lab.pod("entered")
    number = lab.container(pod, "main", marked("resident"))
    assert lab.execute(number, "/bin/echo", "visitor").exit_code == 0
    assert exec_of(stream, "visitor")["container"]["id"] == number
    lab.remove(pod)


def test_container_that_lives_for_a_moment_has_its_name(lab: Lab, stream: Stream) -> None:
    pod = lab.pod("moment")
    number = lab.container(pod, "short", ["/bin/true", "moment-mark"])
    event = exec_of(stream, "moment-mark")
    assert event["container"]["id"] == number
    assert event["container"]["name"] == "short"
    lab.remove(pod)


def test_process_of_the_host_has_no_container(stream: Stream) -> None:
    os.spawnv(os.P_WAIT, "/bin/true", ["true", "of-the-host"])
    assert "container" not in exec_of(stream, "of-the-host")


def test_fifty_pods_at_once_are_all_known(lab: Lab, stream: Stream) -> None:
    pods = {name: lab.pod(name) for name in (f"many-{n}" for n in range(AT_ONCE))}
    numbers = {name: lab.container(pod, name, marked(name)) for name, pod in pods.items()}
    for name, number in numbers.items():
        container = exec_of(stream, name)["container"]
        assert (container["id"], container["pod"]["name"]) == (number, name)
    for pod in pods.values():
        lab.remove(pod)
    # Not only the programs: whatever happened in there.
    stream.catch_up()
    for name, number in numbers.items():
        events = inside(stream.events, number)
        assert len(events) > 1
        assert {e["container"]["enrichment"] for e in events} == {"complete"}
        assert {e["container"]["name"] for e in events} == {name}


@contextmanager
def listener(path: str, answer: bytes) -> Iterator[None]:
    """A socket whose owner answers everybody with the same bytes, or with nothing."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        open_ones = []
        stop = threading.Event()

        def serve() -> None:
            server.settimeout(0.1)
            while not stop.is_set():
                # A client may not wait for all of it.
                with suppress(TimeoutError, BrokenPipeError, ConnectionResetError):
                    connection, _ = server.accept()
                    open_ones.append(connection)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            for connection in open_ones:
                connection.close()


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n<html>", bytes(range(256)) * 40],
    ids=["nothing", "html", "garbage"],
)
def test_events_go_on_marked_when_a_runtime_does_not_answer_right(lab: Lab, answer: bytes) -> None:
    path = str(lab.folder / "lying.sock")
    with (
        listener(path, answer),
        agent(
            f'containers.cri_sockets=["{path}"]', f"containers.wait_seconds={WAIT_SECONDS}"
        ) as stream,
    ):
        pod = lab.pod("unheard")
        number = lab.container(pod, "main", marked("unheard-mark"))
        os.spawnv(os.P_WAIT, "/bin/true", ["true", "meanwhile"])
        assert "container" not in exec_of(stream, "meanwhile")
        container = exec_of(stream, "unheard-mark")["container"]
        assert container["id"] == number
        assert container["enrichment"] == "timeout"
        assert container["pod"]["uid"].startswith("0a0a0a0a")
        lab.remove(pod)
    Path(path).unlink()
    assert "runtime_silent" in stream.errors
    assert "Traceback" not in stream.errors


def test_runtime_that_restarts_is_asked_again(lab: Lab, stream: Stream) -> None:
    pod = lab.pod("restarted")
    lab.container(pod, "before", marked("before-restart"))
    exec_of(stream, "before-restart")
    lab.stop()
    lab.start()
    number = lab.container(pod, "after", marked("after-restart"))
    container = exec_of(stream, "after-restart")["container"]
    assert (container["id"], container["name"]) == (number, "after")
    lab.remove(pod)


def test_runtime_that_is_stopped_holds_up_nobody_else(lab: Lab, stream: Stream) -> None:
    with cgroups(1) as folder, lab.stopped():
        enter = f'echo 0 > "{next(folder.glob("0*"))}/cgroup.procs"; exec true while-stopped'
        subprocess.run(["sh", "-c", enter], check=True)
        many = f"for i in $(seq {HOST_PROGRAMS}); do /bin/true on-the-host-$i; done"
        subprocess.run(["sh", "-c", many], check=True)
        started = time.monotonic()
        exec_of(stream, f"on-the-host-{HOST_PROGRAMS}")
        assert time.monotonic() - started < PROMPT_SECONDS
        assert exec_of(stream, "while-stopped")["container"]["enrichment"] == "timeout"
    pod = lab.pod("after-the-stop")
    lab.container(pod, "main", marked("after-the-stop"))
    assert exec_of(stream, "after-the-stop")["container"]["enrichment"] == "complete"
    lab.remove(pod)


def test_cgroups_of_version_1_tell_the_container_too(lab: Lab) -> None:
    need("containers", any(map(whole_hierarchy, CONTROLLERS)), "no cgroups v1")
    with agent(f'containers.cri_sockets=["{lab.socket}"]', 'kernel.cgroups="v1"') as stream:
        pod = lab.pod("version-1")
        number = lab.container(pod, "main", marked("version-1-mark"))
        container = exec_of(stream, "version-1-mark")["container"]
        assert (container["id"], container["pod"]["name"]) == (number, "version-1")
        assert container["enrichment"] == "complete"
        made = stream.one(kind="new_cgroup")
        assert made["path"].startswith("/")
        lab.remove(pod)
        stream.catch_up()
        events = inside(stream.events, number)
    assert {event["container"]["name"] for event in events} == {"main"}


def test_replay_has_the_same_containers(lab: Lab, tmp_path: Path) -> None:
    recording = tmp_path / "recording"
    settings = f'containers.cri_sockets=["{lab.socket}"]'
    with Stream("--set", settings, "--record", str(recording)) as stream:
        pod = lab.pod("recorded")
        lab.container(pod, "main", marked("recorded-mark"))
        exec_of(stream, "recorded-mark")
        lab.remove(pod)
        assert stream.stop() == 143
    command = [sys.executable, "-m", "nodeagent", "replay", str(recording), "--format", "json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    again = [json.loads(line) for line in done.stdout.splitlines()]
    told = [e for e in stream.events if e["kind"] not in {"agent.stop", "agent.ledger"}]
    assert [e for e in again if e["kind"] not in {"agent.stop", "agent.ledger"}] == told
    assert any("container" in event for event in again)
