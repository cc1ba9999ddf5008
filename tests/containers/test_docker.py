# SPDX-License-Identifier: Apache-2.0
"""Containers of a real Docker Engine, where nobody serves a CRI."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.containers.engine import Engine
from tests.containers.lab import IMAGE, need_containers
from tests.kernel.stream import Event, Stream

TASK = {
    "com.amazonaws.ecs.task-arn": "arn:aws:ecs:eu-west-1:1:task/shop/7",
    "com.amazonaws.ecs.cluster": "shop",
    "com.amazonaws.ecs.task-definition-family": "web",
}


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    need_containers("dockerd", "docker", "containerd", "runc")
    with Engine() as running:
        yield running


@pytest.fixture(scope="module")
def stream(engine: Engine) -> Iterator[Stream]:
    """No CRI is there, as on a machine with Docker alone."""
    with Stream(
        *("--set", 'containers.cri_sockets=["/nonexistent"]'),
        *("--set", f"containers.docker_socket={engine.socket}"),
    ) as running:
        yield running
        assert running.stop() == 143
    assert "balanced" in running.errors


def exec_of(stream: Stream, name: str) -> Event:
    """The program with this last argument; not the client, which has it too."""

    def is_it(event: Event) -> bool:
        argv = event.get("argv") or [""]
        return bool(event["kind"] == "exec" and argv[-1] == name and argv[0] != "docker")

    return stream.first(is_it, name)


def test_container_has_name_image_and_task(engine: Engine, stream: Stream) -> None:
    labels = [word for name, value in TASK.items() for word in ("--label", f"{name}={value}")]
    number = engine.run("--detach", "--name", "web", *labels, IMAGE, "1000000")
    event = exec_of(stream, "1000000")
    assert event["container"] == {
        "id": number,
        "runtime": "docker",
        "enrichment": "complete",
        "name": "web",
        "image": IMAGE,
        "image_digest": engine.inspect(number, "{{.Image}}"),
        "created": engine.inspect(number, "{{.Created}}"),
        "ecs": {"arn": "arn:aws:ecs:eu-west-1:1:task/shop/7", "cluster": "shop", "family": "web"},
    }
    engine.remove(number)


def test_container_that_lives_for_a_moment_has_its_name(engine: Engine, stream: Stream) -> None:
    engine.run("--rm", "--name", "moment", "--entrypoint", "/bin/true", IMAGE, "for-a-moment")
    container = exec_of(stream, "for-a-moment")["container"]
    assert (container["name"], container["enrichment"]) == ("moment", "complete")
