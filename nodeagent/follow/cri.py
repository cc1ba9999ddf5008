# SPDX-License-Identifier: Apache-2.0
"""The container runtime interface of Kubernetes (CRI), as far as we ask.

Only the fields that are used are described here, with the numbers of
k8s.io/cri-api/pkg/apis/runtime/v1/api.proto; protobuf skips the others.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpclib.client import Channel, UnaryStreamMethod, UnaryUnaryMethod

from nodeagent.enrich.container import COMPLETE
from nodeagent.event import Container, Pod
from nodeagent.follow.labels import allowed, bounded, ecs_task, workload_of

__all__ = ["MESSAGES", "SERVICE", "Cri", "message_types"]

PACKAGE: Final = "runtime.v1"
SERVICE: Final = f"/{PACKAGE}.RuntimeService/"

TEXT, NUMBER = "string", "int64"
MESSAGES: Final[dict[str, dict[int, tuple[str, str]]]] = {
    "VersionRequest": {1: ("version", TEXT)},
    "VersionResponse": {2: ("runtime_name", TEXT), 3: ("runtime_version", TEXT)},
    "ContainerFilter": {1: ("id", TEXT)},
    "ListContainersRequest": {1: ("filter", "ContainerFilter")},
    "ListContainersResponse": {1: ("containers", "[Container]")},
    "ContainerMetadata": {1: ("name", TEXT), 2: ("attempt", "uint32")},
    "ImageSpec": {1: ("image", TEXT), 18: ("user_specified_image", TEXT)},
    "Container": {
        1: ("id", TEXT),
        2: ("pod_sandbox_id", TEXT),
        3: ("metadata", "ContainerMetadata"),
        4: ("image", "ImageSpec"),
        5: ("image_ref", TEXT),
        7: ("created_at", NUMBER),
        8: ("labels", "{}"),
        9: ("annotations", "{}"),
    },
    "ContainerStatusRequest": {1: ("container_id", TEXT)},
    "ContainerStatusResponse": {1: ("status", "ContainerStatus")},
    "ContainerStatus": {
        1: ("id", TEXT),
        2: ("metadata", "ContainerMetadata"),
        4: ("created_at", NUMBER),
        8: ("image", "ImageSpec"),
        9: ("image_ref", TEXT),
        12: ("labels", "{}"),
    },
    "PodSandboxStatus": {
        1: ("id", TEXT),
        2: ("metadata", "PodSandboxMetadata"),
        4: ("created_at", NUMBER),
        7: ("labels", "{}"),
        8: ("annotations", "{}"),
    },
    "GetEventsRequest": {},
    "ContainerEventResponse": {
        1: ("container_id", TEXT),
        4: ("pod_sandbox_status", "PodSandboxStatus"),
        5: ("containers_statuses", "[ContainerStatus]"),
    },
    "PodSandboxFilter": {1: ("id", TEXT)},
    "ListPodSandboxRequest": {1: ("filter", "PodSandboxFilter")},
    "ListPodSandboxResponse": {1: ("items", "[PodSandbox]")},
    "PodSandboxMetadata": {1: ("name", TEXT), 2: ("uid", TEXT), 3: ("namespace", TEXT)},
    "PodSandbox": {
        1: ("id", TEXT),
        2: ("metadata", "PodSandboxMetadata"),
        4: ("created_at", NUMBER),
        5: ("labels", "{}"),
        6: ("annotations", "{}"),
    },
}

RUNTIMES: Final = {"containerd": "containerd", "cri-o": "cri-o", "docker": "docker"}
"""By what a runtime says its name is."""


def message_types(messages: Mapping[str, Mapping[int, tuple[str, str]]]) -> dict[str, Any]:
    """The classes of messages that are described like `MESSAGES`."""
    file = descriptor_pb2.FileDescriptorProto(
        name="nodeagent_cri.proto", package=PACKAGE, syntax="proto3"
    )
    for name, members in messages.items():
        message = file.message_type.add(name=name)
        for number, (member, kind) in members.items():
            _add_member(message, number, member, kind, messages)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = message_factory.GetMessageClassesForFiles([file.name], pool)
    return {name: found[f"{PACKAGE}.{name}"] for name in messages}


def _add_member(
    message: descriptor_pb2.DescriptorProto,
    number: int,
    name: str,
    kind: str,
    messages: Collection[str],
) -> None:
    field = message.field.add(name=name, number=number)
    field.label = field.LABEL_REPEATED if kind[0] in "[{" else field.LABEL_OPTIONAL
    if kind == "{}":
        # A map is a list of pairs with a type of their own, whose name protobuf prescribes.
        entry = message.nested_type.add(name=f"{name.capitalize()}Entry")
        entry.options.map_entry = True
        for at, part in enumerate(("key", "value"), start=1):
            entry.field.add(
                name=part, number=at, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL
            )
        field.type = field.TYPE_MESSAGE
        field.type_name = f".{PACKAGE}.{message.name}.{entry.name}"
    elif kind.strip("[]") in messages:
        field.type = field.TYPE_MESSAGE
        field.type_name = f".{PACKAGE}.{kind.strip('[]')}"
    else:
        field.type = getattr(field, f"TYPE_{kind.strip('[]').upper()}")


TYPES: Final = message_types(MESSAGES)


class Cri:
    """One runtime behind its socket."""

    def __init__(
        self, socket: str, labels: Collection[str] = (), annotations: Collection[str] = ()
    ) -> None:
        """`labels` and `annotations` are patterns of those to show. Nothing is opened yet."""
        self.socket = socket
        self._labels = labels
        self._annotations = annotations
        self._channel = Channel(path=socket)
        self._runtime: str | None = None

    async def close(self) -> None:
        """Hang up."""
        self._channel.close()

    async def find(self, number: str) -> Container | None:
        """The container or sandbox with this id; None when the runtime does not know it.

        Raises OSError, GRPCError, StreamTerminatedError or ProtocolError when it does not
        answer as it should.
        """
        await self._learn_runtime()
        listed = await self._call("ListContainers", filter={"id": number})
        for each in listed.containers:
            if each.id == number:
                sandbox = await self._sandbox(each.pod_sandbox_id)
                return await self._container(each, sandbox)
        sandbox = await self._sandbox(number)
        if sandbox is None:
            return None
        return self._of_sandbox(sandbox)

    async def events(self) -> AsyncIterator[Container]:
        """What is made, started and removed, as the runtime tells it by itself, without end.

        So a container that is gone before anybody could ask has its name, too. Raises what
        `find` raises; GRPCError with UNIMPLEMENTED from a runtime that does not tell.
        """
        await self._learn_runtime()
        request, reply = TYPES["GetEventsRequest"], TYPES["ContainerEventResponse"]
        call: Any = UnaryStreamMethod(self._channel, f"{SERVICE}GetContainerEvents", request, reply)
        async with call.open() as stream:
            await stream.send_message(request(), end=True)
            async for event in stream:
                sandbox = event.pod_sandbox_status if event.pod_sandbox_status.id else None
                if sandbox is not None:
                    yield self._of_sandbox(sandbox)
                for status in event.containers_statuses:
                    if status.id:
                        yield self._of(status, sandbox, _image(status), status.image_ref)

    def _of(self, each: Any, sandbox: Any, image: str, digest: str) -> Container:
        """From its entry in a list or its status; `sandbox` may be None."""
        return Container(
            each.id,
            self._runtime or "",
            COMPLETE,
            name=bounded(each.metadata.name),
            image=bounded(image),
            image_digest=bounded(digest.rpartition("@")[2]),
            created=_time(each.created_at),
            pod=self._pod(sandbox) if sandbox is not None else None,
            ecs=ecs_task(each.labels),
        )

    def _of_sandbox(self, sandbox: Any) -> Container:
        return Container(
            sandbox.id,
            self._runtime or "",
            COMPLETE,
            created=_time(sandbox.created_at),
            sandbox=True,
            pod=self._pod(sandbox),
        )

    async def _learn_runtime(self) -> None:
        if self._runtime is None:
            version = await self._call("Version")
            said = str(version.runtime_name).lower()
            self._runtime = RUNTIMES.get(said, bounded(said))

    async def _container(self, each: Any, sandbox: Any) -> Container:
        image = _image(each)
        digest = each.image_ref
        if image.startswith("sha256:") or not image:
            # The list shows an id only; the status has the name that was asked for.
            status = (await self._call("ContainerStatus", container_id=each.id)).status
            digest = status.image_ref or digest
            image = _image(status) or image
        return self._of(each, sandbox, image, digest)

    async def _sandbox(self, number: str) -> Any:
        listed = await self._call("ListPodSandbox", filter={"id": number})
        return next((each for each in listed.items if each.id == number), None)

    def _pod(self, sandbox: Any) -> Pod:
        metadata = sandbox.metadata
        name = bounded(metadata.name)
        return Pod(
            name,
            bounded(metadata.namespace),
            bounded(metadata.uid),
            sandbox.id,
            allowed(sandbox.labels, self._labels),
            allowed(sandbox.annotations, self._annotations),
            workload_of(name, sandbox.labels),
        )

    async def _call(self, method: str, **values: object) -> Any:
        request, reply = TYPES[f"{method}Request"], TYPES[f"{method}Response"]
        call: Any = UnaryUnaryMethod(self._channel, SERVICE + method, request, reply)
        return await call(request(**values))


def _image(each: Any) -> str:
    """The name that was asked for, where the runtime knows it."""
    return str(each.image.user_specified_image or each.image.image)


def _time(nanoseconds: int) -> str:
    """RFC 3339; empty for a time that there is not."""
    try:
        when = datetime.fromtimestamp(nanoseconds / 1e9, UTC)
    except (OverflowError, OSError, ValueError):
        return ""
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z") if nanoseconds else ""
