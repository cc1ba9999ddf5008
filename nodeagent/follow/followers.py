# SPDX-License-Identifier: Apache-2.0
"""All that find out what the stream does not say, together."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from typing import Any

from nodeagent.config import Config
from nodeagent.detect.lists import ThreatLists
from nodeagent.event import AgentEvent
from nodeagent.follow.containers import ContainerFollower
from nodeagent.follow.files import FileFollower
from nodeagent.follow.inside import Inside
from nodeagent.follow.integrity import IntegrityFollower
from nodeagent.follow.interfaces import InterfaceFollower
from nodeagent.follow.lists import ListFollower
from nodeagent.follow.node import NodeFollower
from nodeagent.follow.users import UserFollower
from nodeagent.follow.worker import Worker
from nodeagent.kernel.libbpf import Libbpf
from nodeagent.ledger import Ledger
from nodeagent.pipeline import Pipeline

__all__ = ["Follow", "Followers"]

Follow = Callable[[], Coroutine[Any, Any, None]]
"""A task that runs beside the stream until cancelled."""


class Followers:
    """They ask what the pipeline wants to know, and feed it with the answers."""

    def __init__(
        self,
        libbpf: Libbpf,
        config: Config,
        pipeline: Pipeline,
        controller: str,
        *,
        lists: ThreatLists,
        ledger: Ledger,
        integrity: IntegrityFollower | None,
    ) -> None:
        """Open what they need; `controller` of cgroups as kernel/cgroup.py has it.

        Threat lists that are fetched go into `lists`; the ledger gets what fails.
        """
        self._pipeline = pipeline
        self._closing = ExitStack()
        self._node = NodeFollower(config.node, self._tell_node, ledger.troubles)
        self._interfaces = InterfaceFollower(self._node.learn_interfaces)
        self._follows_interfaces = config.node.interfaces
        self._containers = ContainerFollower(libbpf, config.containers, controller, pipeline.feed)
        self._closing.callback(self._containers.close)
        worker = Worker("files")
        self._closing.callback(worker.close)
        inside = Inside(libbpf.syscall)
        self._files = FileFollower(config.files, inside, worker, pipeline.feed)
        self._users = UserFollower(inside, worker, pipeline.feed)
        self.lists = ListFollower(config, lists, ledger.failures)
        self._closing.callback(self.lists.close)
        self._integrity = integrity

    def start(self) -> None:
        """Tell what is known without waiting."""
        self._users.start()
        self._containers.start()
        self._node.start()

    def ask(self) -> None:
        """Take the questions of the pipeline. Never waits."""
        self._containers.ask(self._pipeline.unknown_cgroups())
        self._files.ask(self._pipeline.questions_about_files())
        self._users.ask(self._pipeline.questions_about_users())
        if self._integrity is not None:
            self._integrity.ask()

    def tasks(self) -> dict[str, Follow]:
        """What has to run beside the stream, by name."""
        more = {"interfaces": self._interfaces.follow} if self._follows_interfaces else {}
        if self._integrity is not None:
            more["integrity"] = self._integrity.follow
        return {
            **more,
            "containers": self._containers.follow,
            "files": self._files.follow,
            "lists": self.lists.follow,
            "node": self._node.follow,
            "users": self._users.follow,
        }

    def close(self) -> None:
        """Let everything go."""
        self._closing.close()

    def _tell_node(self, facts: dict[str, object]) -> None:
        self._pipeline.feed(AgentEvent("agent.node", time.time_ns(), facts))
