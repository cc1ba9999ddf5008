# SPDX-License-Identifier: Apache-2.0
"""Containers that are started with more of the node than they should have."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import ClassVar, Final

from nodeagent.detect import Signal
from nodeagent.detect.recent import Recent
from nodeagent.detect.where import POWERS, is_runtime, powers_of
from nodeagent.event import Container, Event, Exec, Mount, ProcessFacts

__all__ = ["Posture"]

CONTAINERS_LIMIT: Final = 2048
MOUNTS_LIMIT: Final = 8
"""Of one container; more say no more."""
MS_REMOUNT: Final = 0x20
MS_BIND: Final = 0x1000
EVERYTHING: Final = frozenset(
    {"CAP_SYS_ADMIN", "CAP_SYS_MODULE", "CAP_SYS_PTRACE", "CAP_SYS_RAWIO"}
)
"""Who has these was started with `privileged`, or might as well have been."""
HOST_PATHS: Final = re.compile(
    r"/|/(?:etc|root|home|boot|dev|proc|usr|bin|sbin|lib|var|run)|/var/(?:lib|run)"
    r"|/etc/(?:kubernetes|ssh|systemd|cron[^/]*|sudoers\.d|pam\.d)(?:/.*)?|/root/\.ssh(?:/.*)?"
    r"|/var/lib/(?:kubelet(?:/pki(?:/.*)?)?|docker|containerd|etcd|rancher)|/var/spool/cron(?:/.*)?"
    r"|.*/(?:docker|containerd|crio|podman)\.sock"
)
"""What holds the node's programs, keys or settings, or commands its container runtime."""


class Posture:
    """Remembers what was mounted into a container until its first program runs."""

    name = "posture"
    kinds: ClassVar[tuple[str, ...]] = ("exec", "mount")

    def __init__(self) -> None:
        self._started: Recent[str, bool] = Recent(CONTAINERS_LIMIT)
        """Containers of which a program was seen, by their id."""
        self._mounted: Recent[str, list[str]] = Recent(CONTAINERS_LIMIT)

    def inspect(self, event: Event) -> Iterable[Signal]:
        """What the runtime mounts, and the first program of a container."""
        process = event.process
        container = process.container if process is not None else None
        if process is None or container is None or container.sandbox:
            return ()
        if isinstance(event, Mount):
            if event.flags & MS_BIND and is_runtime(process):
                self._learn(event, container)
            return ()
        is_first = not self._started.get(container.id)
        if not isinstance(event, Exec) or event.result < 0 or not is_first or is_runtime(process):
            return ()
        self._started.put(container.id, value=True)
        return self._judge(event, event.facts, container)

    def _learn(self, event: Mount, container: Container) -> None:
        if event.flags & MS_REMOUNT or not HOST_PATHS.fullmatch(event.source):
            return
        mounted = self._mounted.get(container.id) or []
        if event.source not in mounted and len(mounted) < MOUNTS_LIMIT:
            self._mounted.put(container.id, [*mounted, event.source])

    def _judge(self, event: Exec, facts: ProcessFacts, container: Container) -> Iterator[Signal]:
        names = powers_of(facts, facts.capabilities, POWERS)
        context: dict[str, object] = {"capabilities": names}
        if {*names} >= EVERYTHING:
            yield Signal("container_privileged", event, context)
        elif names:
            yield Signal("container_capabilities", event, context, key=", ".join(names))
        if event.process is not None and facts.namespace_pid == event.process.task.pid:
            yield Signal("container_host_pids", event, key="all processes")
        for source in self._mounted.get(container.id) or ():
            yield Signal("container_host_path", event, {"mountSource": source}, key=source)
