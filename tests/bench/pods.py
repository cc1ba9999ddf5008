# SPDX-License-Identifier: Apache-2.0
"""Many containers at once, as far as the agent can see: cgroups, and a CRI that knows them.

Hundreds of real ones would need more of the machine than the agent that is measured.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any, Final

from grpclib.const import Cardinality, Handler
from grpclib.server import Server, Stream

from nodeagent.follow.cri import MESSAGES, SERVICE, message_types
from nodeagent.kernel.cgroup import whole_hierarchy

TYPES: Final = message_types(MESSAGES)
FOLDER: Final = "nodeagent-bench"


@contextmanager
def cgroups(count: int) -> Iterator[Path]:
    """So many with names like those of containers, removed afterwards."""
    root = whole_hierarchy()
    if root is None:
        raise RuntimeError("cgroup v2 is not mounted")
    folder = Path(root) / FOLDER
    folder.mkdir()
    made = [folder / f"{number:064x}" for number in range(count)]
    try:
        for each in made:
            each.mkdir()
        yield folder
    finally:
        for each in (*made, folder):
            if each.exists():
                each.rmdir()


class Cri:
    """Knows every container, each in a pod of its own."""

    def __mapping__(self) -> Mapping[str, Handler]:
        """What grpclib serves."""
        answers = {
            "Version": self._version,
            "ListContainers": self._containers,
            "ListPodSandbox": self._sandboxes,
        }
        return {
            SERVICE + name: Handler(
                answer,
                Cardinality.UNARY_UNARY,
                TYPES[f"{name}Request"],
                TYPES[f"{name}Response"],
            )
            for name, answer in answers.items()
        }

    async def _version(self, stream: Stream[Any, Any]) -> None:
        await stream.recv_message()
        reply = TYPES["VersionResponse"](runtime_name="containerd", runtime_version="1")
        await stream.send_message(reply)

    async def _containers(self, stream: Stream[Any, Any]) -> None:
        request: Any = await stream.recv_message()
        number = request.filter.id
        container = {
            "id": number,
            "pod_sandbox_id": f"f{number[1:]}",
            "metadata": {"name": f"main-{number[-8:]}"},
            "image": {"user_specified_image": f"registry.example/shop/image-{number[-8:]}:1"},
            "image_ref": f"registry.example/shop/image@sha256:{number}",
            "created_at": 1_764_000_000_000_000_000,
        }
        await stream.send_message(TYPES["ListContainersResponse"](containers=[container]))

    async def _sandboxes(self, stream: Stream[Any, Any]) -> None:
        request: Any = await stream.recv_message()
        number = request.filter.id
        sandbox = {
            "id": number,
            "metadata": {"name": f"pod-{number[-8:]}", "uid": number[:36], "namespace": "shop"},
            "labels": {"app": f"app-{number[-8:]}", "k8s-app": "shop"},
        }
        await stream.send_message(TYPES["ListPodSandboxResponse"](items=[sandbox]))


@contextmanager
def serving(socket: Path) -> Iterator[None]:
    """The CRI behind this socket, in a thread of its own."""
    loop = asyncio.new_event_loop()
    server = Server([Cri()], loop=loop)
    thread = Thread(target=loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(server.start(path=str(socket)), loop).result()
    try:
        yield
    finally:
        server.close()
        asyncio.run_coroutine_threadsafe(server.wait_closed(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
