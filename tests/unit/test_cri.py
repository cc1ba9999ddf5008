# SPDX-License-Identifier: Apache-2.0
"""What a container runtime may say, however strange, becomes a bounded container."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError
from grpclib.server import Server, Stream

from nodeagent.config import ContainersConfig
from nodeagent.encode import container_json
from nodeagent.follow.containers import ContainerFollower, is_unimplemented
from nodeagent.follow.cri import SERVICE, Cri
from nodeagent.follow.labels import LABELS_MOST, VALUE_CHARACTERS
from nodeagent.kernel.libbpf import Libbpf
from nodeagent.source import ContainerSeen
from tests.bench import pods
from tests.polling import until

NUMBER = "a" * 64
LARGE = "x" * (1 << 20)
HOSTILE = "\x1b]0;a\u202eb\n\0"


class Excessive(pods.Cri):
    """Has much to say."""

    async def _sandboxes(self, stream: Stream[Any, Any]) -> None:
        request: Any = await stream.recv_message()
        labels = {f"app-{number}": HOSTILE for number in range(1000)} | {"large": LARGE}
        sandbox = {
            "id": request.filter.id,
            "metadata": {"name": LARGE, "uid": LARGE, "namespace": HOSTILE},
            "labels": labels,
            "annotations": {"note": LARGE},
            "created_at": 1 << 62,
        }
        await stream.send_message(pods.TYPES["ListPodSandboxResponse"](items=[sandbox]))


class Empty(pods.Cri):
    """Knows nothing of a container but that it exists."""

    async def _containers(self, stream: Stream[Any, Any]) -> None:
        request: Any = await stream.recv_message()
        container = {"id": request.filter.id, "image": {"image": "x"}}
        await stream.send_message(pods.TYPES["ListContainersResponse"](containers=[container]))

    async def _sandboxes(self, stream: Stream[Any, Any]) -> None:
        await stream.recv_message()
        await stream.send_message(pods.TYPES["ListPodSandboxResponse"]())


@asynccontextmanager
async def asked(path: Path, served: pods.Cri) -> AsyncIterator[Cri]:
    server = Server([served])
    await server.start(path=str(path))
    cri = Cri(str(path), labels=["*"], annotations=["note"])
    try:
        yield cri
    finally:
        await cri.close()
        server.close()
        await server.wait_closed()


async def test_what_is_too_long_is_cut_and_json_stays_valid(tmp_path: Path) -> None:
    async with asked(tmp_path / "socket", Excessive()) as cri:
        found = await cri.find(NUMBER)
    assert found is not None
    assert found.pod is not None
    assert len(found.pod.name) == len(found.pod.uid) == VALUE_CHARACTERS
    assert len(found.pod.labels) == LABELS_MOST
    assert found.pod.labels["app-0"] == HOSTILE
    assert len(found.pod.annotations["note"]) == VALUE_CHARACTERS
    shown = container_json(found)
    assert msgspec.json.decode("{" + shown[1:] + "}")["container"]["pod"]["namespace"] == HOSTILE
    assert len(shown) < 1 << 16


async def test_container_without_a_pod_is_one_all_the_same(tmp_path: Path) -> None:
    async with asked(tmp_path / "socket", Empty()) as cri:
        found = await cri.find(NUMBER)
    assert found is not None
    assert (found.id, found.image, found.pod, found.created) == (NUMBER, "x", None, "")


class Telling(pods.Cri):
    """Tells what happens, and knows nothing when it is asked."""

    def __mapping__(self) -> Mapping[str, Handler]:
        told = Handler(
            self._events,
            Cardinality.UNARY_STREAM,
            pods.TYPES["GetEventsRequest"],
            pods.TYPES["ContainerEventResponse"],
        )
        return {**super().__mapping__(), f"{SERVICE}GetContainerEvents": told}

    async def _events(self, stream: Stream[Any, Any]) -> None:
        await stream.recv_message()
        sandbox = {"id": "f" * 64, "metadata": {"name": "web-1", "uid": "u", "namespace": "shop"}}
        status = {
            "id": NUMBER,
            "metadata": {"name": "main"},
            "image": {"image": "registry.example/web:1"},
            "image_ref": "registry.example/web@sha256:1",
        }
        event = {"container_id": NUMBER, "pod_sandbox_status": sandbox}
        reply = pods.TYPES["ContainerEventResponse"]
        await stream.send_message(reply(**event, containers_statuses=[status, {}]))
        await stream.send_message(reply(container_id="of nothing"))


async def test_what_a_runtime_tells_by_itself_is_known(tmp_path: Path) -> None:
    async with asked(tmp_path / "socket", Telling()) as cri:
        sandbox, container = [each async for each in cri.events()]
    assert sandbox.sandbox
    assert (container.id, container.name) == (NUMBER, "main")
    assert (container.runtime, container.image_digest) == ("containerd", "sha256:1")
    assert container.pod is not None
    assert (container.pod.name, container.pod.namespace) == ("web-1", "shop")


class Silent(Telling):
    """Has the call, and no answer to it."""

    async def _events(self, stream: Stream[Any, Any]) -> None:
        await stream.recv_message()
        raise GRPCError(Status.UNIMPLEMENTED, "unknown method")


async def test_runtime_that_does_not_tell_says_so(tmp_path: Path) -> None:
    async with asked(tmp_path / "socket", Silent()) as cri:
        with pytest.raises(GRPCError) as raised:
            await anext(cri.events())
    assert is_unimplemented(raised.value)


class Gone(Telling):
    """What it told of has gone."""

    async def _containers(self, stream: Stream[Any, Any]) -> None:
        await stream.recv_message()
        await stream.send_message(pods.TYPES["ListContainersResponse"]())

    async def _sandboxes(self, stream: Stream[Any, Any]) -> None:
        await stream.recv_message()
        await stream.send_message(pods.TYPES["ListPodSandboxResponse"]())


async def test_container_that_is_gone_has_the_name_that_was_told(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    server = Server([Gone()])
    await server.start(path=str(path))
    config = ContainersConfig(cri_sockets=[str(path)], docker_socket="/nonexistent")
    told: list[ContainerSeen] = []
    follower = ContainerFollower(Libbpf(), config, "", told.append)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(follower.follow())
        await asyncio.sleep(0.5)
        follower.ask([(4711, f"/kubepods/{NUMBER}")])
        await until(lambda: told)
        task.cancel()
    follower.close()
    server.close()
    await server.wait_closed()
    (seen,) = told
    assert seen.container is not None
    assert (seen.container.name, seen.container.enrichment) == ("main", "complete")


@pytest.mark.parametrize("number", ["", "b" * 64])
async def test_answer_about_another_one_is_none(tmp_path: Path, number: str) -> None:
    class Other(pods.Cri):
        async def _containers(self, stream: Stream[Any, Any]) -> None:
            await stream.recv_message()
            other = {"id": number}
            await stream.send_message(pods.TYPES["ListContainersResponse"](containers=[other]))

        async def _sandboxes(self, stream: Stream[Any, Any]) -> None:
            await stream.recv_message()
            other = {"id": number}
            await stream.send_message(pods.TYPES["ListPodSandboxResponse"](items=[other]))

    async with asked(tmp_path / "socket", Other()) as cri:
        assert await cri.find(NUMBER) is None
