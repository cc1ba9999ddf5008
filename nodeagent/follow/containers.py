# SPDX-License-Identifier: Apache-2.0
"""Asks the container runtimes what the cgroups are that the stream speaks of."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from nodeagent.config import ContainersConfig
from nodeagent.enrich.container import TIMEOUT, UNKNOWN
from nodeagent.errors import BpfError
from nodeagent.event import Container, Pod
from nodeagent.follow.cgroup_path import CgroupPaths, Found, container_of, is_socket
from nodeagent.kernel.cgroup import open_hierarchy
from nodeagent.kernel.libbpf import Libbpf
from nodeagent.source import ContainerSeen

if TYPE_CHECKING:
    from nodeagent.follow.cri import Cri
    from nodeagent.follow.docker import Docker

__all__ = ["ContainerFollower"]

log: Final = logging.getLogger(__name__)

CRI_SOCKETS: Final = (
    "/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/run/k3s/containerd/containerd.sock",
    "/run/dockershim.sock",
    "/run/cri-dockerd.sock",
)
QUESTIONS_AT_ONCE: Final = 16
QUESTIONS_WAITING: Final = 1000
FIRST_PAUSE_SECONDS: Final = 0.05
LONGEST_PAUSE_SECONDS: Final = 5.0
HEARD_LIMIT: Final = 2048
"""Containers; the one that was told first is forgotten first."""
LISTEN_SECONDS: Final = 10.0
"""Until a runtime that is not there, or hung up, is listened to again."""
LATE_SECONDS: Final = 60.0
"""Go on asking for this long after the events went on without an answer."""
QUIET_SECONDS: Final = 60.0
"""Say no more than once in this time that a runtime does not answer."""


def is_unimplemented(error: Exception) -> bool:
    """A gRPC server does not have the call; told by name, since the library may not be loaded."""
    return bool(getattr(getattr(error, "status", None), "name", "") == "UNIMPLEMENTED")


class ContainerFollower:
    """Answers each cgroup that it is asked about with at least one item."""

    def __init__(
        self,
        libbpf: Libbpf,
        config: ContainersConfig,
        controller: str,
        tell: Callable[[ContainerSeen], None],
    ) -> None:
        """`tell` takes the answers; `controller` of cgroups as kernel/cgroup.py has it."""
        self._config = config
        self._tell = tell
        self._questions: asyncio.Queue[tuple[int, Found]] = asyncio.Queue(QUESTIONS_WAITING)
        self._runtimes: dict[str, Cri | Docker] = {}
        self._complained = 0.0
        self._no_cri: dict[str, float] = {}
        """Sockets of a containerd that serves Docker alone, and when they said so."""
        self._heard: dict[str, Container] = {}
        """What runtimes have told without being asked."""
        self._paths: CgroupPaths | None = None
        try:
            self._paths = CgroupPaths(open_hierarchy(libbpf, controller))
        except BpfError as error:
            log.warning("no_containers why=%s", error)

    def close(self) -> None:
        """Let the root of the cgroups go."""
        if self._paths is not None:
            self._paths.close()

    def start(self) -> None:
        """Ask about all that are there, so that few events have to wait."""
        if self._paths is not None:
            self.ask((cgroup, None) for cgroup in self._paths.all())

    def ask(self, cgroups: Iterable[tuple[int, str | None]]) -> None:
        """Answer at once for what is no container, and later for the others. Never waits."""
        for cgroup, told in cgroups:
            path = told or self._path(cgroup)
            found = container_of(path) if path is not None else None
            if found is None:
                self._tell(ContainerSeen(cgroup, None))
            elif not self._config.ask:
                self._tell(ContainerSeen(cgroup, _half(found, UNKNOWN)))
            else:
                try:
                    self._questions.put_nowait((cgroup, found))
                except asyncio.QueueFull:
                    self._tell(ContainerSeen(cgroup, _half(found, TIMEOUT)))

    def _path(self, cgroup: int) -> str | None:
        return self._paths.path(cgroup) if self._paths is not None else None

    async def follow(self) -> None:
        """Ask until cancelled, then hang up everywhere."""
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(QUESTIONS_AT_ONCE):
                    group.create_task(self._work(), name=f"container {number}")
                if self._config.ask:
                    for socket in self._places():
                        group.create_task(self._listen(socket), name=f"events {socket}")
        finally:
            for runtime in self._runtimes.values():
                await runtime.close()
            self._runtimes.clear()

    async def _listen(self, socket: str) -> None:
        """Remember what a runtime tells by itself, where it does."""
        while True:
            if is_socket(socket):
                # A connection of its own: a stream that stalls holds up no question.
                runtime = self._runtime(socket)
                try:
                    async for container in runtime.events():
                        if len(self._heard) >= HEARD_LIMIT:
                            del self._heard[next(iter(self._heard))]
                        self._heard[container.id] = container
                except Exception as error:  # noqa: BLE001  as for questions
                    if is_unimplemented(error):
                        log.info("no_container_events socket=%s", socket)
                        return
                    self._complain(socket, error)
                finally:
                    await runtime.close()
            await asyncio.sleep(LISTEN_SECONDS * random.uniform(0.5, 1.0))  # noqa: S311

    async def _work(self) -> None:
        while True:
            cgroup, found = await self._questions.get()
            deadline = time.monotonic() + self._config.wait_seconds
            container = await self._find(found, deadline)
            if container is None:
                self._tell(ContainerSeen(cgroup, _half(found, self._why())))
            else:
                self._tell(ContainerSeen(cgroup, container))

    def _why(self) -> str:
        return TIMEOUT if self._sockets() else UNKNOWN

    async def _find(self, found: Found, deadline: float) -> Container | None:
        """Ask all runtimes again and again until one knows it, or until the deadline."""
        pause = FIRST_PAUSE_SECONDS
        while (left := deadline - time.monotonic()) > 0:
            heard = self._heard.get(found.id)
            if heard is not None:
                return heard
            sockets = self._sockets()
            if not sockets:
                return None
            for socket in sockets:
                container = await self._ask(socket, found.id, left)
                if container is not None:
                    return container
            await asyncio.sleep(min(pause * random.uniform(0.5, 1.0), max(left, 0)))  # noqa: S311
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
        return None

    async def _ask(self, socket: str, number: str, seconds: float) -> Container | None:
        runtime = self._runtimes.get(socket)
        if runtime is None:
            runtime = self._runtimes[socket] = self._runtime(socket)
        try:
            async with asyncio.timeout(seconds):
                return await runtime.find(number)
        except Exception as error:  # noqa: BLE001  a lying server makes the libraries fail anyhow
            if is_unimplemented(error):
                self._no_cri[socket] = time.monotonic()
            else:
                self._complain(socket, error)
        # Another question may have begun a new connection meanwhile.
        if self._runtimes.get(socket) is runtime:
            del self._runtimes[socket]
        await runtime.close()
        return None

    def _runtime(self, socket: str) -> Cri | Docker:
        # Either costs several MiB, so it is imported where there is a runtime to talk to.
        config = self._config
        if socket == config.docker_socket:
            from nodeagent.follow.docker import Docker  # noqa: PLC0415

            return Docker(socket)
        from nodeagent.follow.cri import Cri  # noqa: PLC0415

        return Cri(socket, config.labels, config.annotations)

    def _complain(self, socket: str, error: Exception) -> None:
        now = time.monotonic()
        if now - self._complained > QUIET_SECONDS or not self._complained:
            self._complained = now
            why = str(error) or type(error).__name__
            log.warning("runtime_silent socket=%s why=%s", socket, why[:200])

    def _sockets(self) -> list[str]:
        since = time.monotonic() - QUIET_SECONDS
        return [
            path
            for path in self._places()
            if is_socket(path) and self._no_cri.get(path, since) <= since
        ]

    def _places(self) -> list[str]:
        """Where sockets may be."""
        return [*(self._config.cri_sockets or CRI_SOCKETS), self._config.docker_socket]


def _half(found: Found, enrichment: str) -> Container:
    """What the path alone says."""
    pod = Pod("", "", found.pod_uid, "") if found.pod_uid else None
    return Container(found.id, found.runtime, enrichment, pod=pod)
