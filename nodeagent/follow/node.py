# SPDX-License-Identifier: Apache-2.0
"""Which node this is: its name at once, its instance when the cloud has answered."""

from __future__ import annotations

import asyncio
import logging
import os
import platform
from collections.abc import Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Final

import msgspec

from nodeagent import __version__
from nodeagent.config import NodeConfig
from nodeagent.event import Instance, Interface
from nodeagent.follow.instance import ENDPOINT, InstanceError, cluster_of, fetch, is_ec2

__all__ = ["NodeFollower", "id_of_boot", "name_of_node"]

log: Final = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS: Final = 1.0
MANAGED_TAG: Final = "NodeagentManaged"
"""Of an instance; `false` says that nobody should watch it."""
LONGEST_PAUSE_SECONDS: Final = 300.0


def name_of_node(config: NodeConfig, environment: Mapping[str, str] = os.environ) -> str:
    """As it was set, as Kubernetes says it (NODE_NAME), or the name of the host."""
    return config.name or environment.get("NODE_NAME", "") or platform.node()


def id_of_boot() -> str:
    """What the kernel says; changes with each start of the machine."""
    return _line("/proc/sys/kernel/random/boot_id")


class NodeFollower:
    """Tells who this node is, at the start and again when the cloud or the kernel tells more."""

    def __init__(
        self,
        config: NodeConfig,
        tell: Callable[[dict[str, object]], None],
        troubles: MutableMapping[str, str],
    ) -> None:
        """`tell` takes the facts of an `agent.node` event, `troubles` what is wrong by its code."""
        self._config = config
        self._troubles = troubles
        self._tell = tell
        self._instance: Instance | None = None
        self._interfaces: list[Interface] | None = None

    def start(self) -> None:
        """Tell what is known without asking anybody."""
        self._tell(self._facts())

    def learn_interfaces(self, interfaces: list[Interface]) -> None:
        """Take them, and tell who this node is with them."""
        self._interfaces = interfaces
        self._tell(self._facts())

    async def follow(self) -> None:
        """Ask for the instance until it answers, on a machine that is one."""
        wanted = self._config.instance
        if wanted == "none" or (wanted == "auto" and not await asyncio.to_thread(is_ec2)):
            return
        endpoint = self._config.metadata_endpoint or ENDPOINT
        pause = FIRST_PAUSE_SECONDS
        said = ""
        while self._instance is None:
            try:
                self._instance = await asyncio.to_thread(
                    fetch, self._config.instance_seconds, endpoint
                )
            except InstanceError as error:
                if str(error) != said:
                    self._troubles["INSTANCE_UNKNOWN"] = said = str(error)
                    log.warning("no_instance why=%s", error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
        self._troubles.pop("INSTANCE_UNKNOWN", None)
        if (self._instance.tags or {}).get(MANAGED_TAG, "").lower() == "false":
            self._troubles["EXCLUDED_BY_TAG"] = f"the instance has the tag {MANAGED_TAG}=false"
        self._tell(self._facts())

    def _facts(self) -> dict[str, object]:
        instance = self._instance
        cluster = self._config.cluster or (cluster_of(instance) if instance is not None else "")
        return {
            "name": name_of_node(self._config),
            "cluster": cluster,
            "machine_id": _line("/etc/machine-id"),
            "boot_id": id_of_boot(),
            "kernel": platform.release(),
            "machine": platform.machine(),
            "version": __version__,
            "instance": _shown(instance),
            "interfaces": msgspec.to_builtins(self._interfaces),
        }


def _shown(instance: Instance | None) -> dict[str, object] | None:
    """With the names that the rest of the stream has."""
    if instance is None:
        return None
    return {name: getattr(instance, name) for name in instance.__struct_fields__}


def _line(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
