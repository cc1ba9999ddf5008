# SPDX-License-Identifier: Apache-2.0
"""The network interfaces of the node and their addresses, and each change of them."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from nodeagent.event import Interface

__all__ = ["InterfaceFollower"]

log: Final = logging.getLogger(__name__)

INTERFACES_MOST: Final = 64
"""A node has one for each of its pods; those that were made first are told."""
ADDRESSES_MOST: Final = 16
"""Of one interface."""
SETTLE_SECONDS: Final = 0.5
"""Changes come in groups."""
QUIET_SECONDS: Final = 10.0
"""Tell no more than once in this time."""
RETRY_SECONDS: Final = 60.0

IFF_UP: Final = 1
GROUPS: Final = 0x1 | 0x10 | 0x100
"""RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR of rtnetlink(7)."""


class InterfaceFollower:
    """Listens to rtnetlink(7)."""

    def __init__(self, tell: Callable[[list[Interface]], None]) -> None:
        """`tell` takes all interfaces, at the start and after each change."""
        self._tell = tell
        self._told: list[Interface] | None = None
        self._changed = asyncio.Event()

    async def follow(self) -> None:
        """Until cancelled. A failure is told, and tried again later."""
        if _is_own_network():
            log.info("no_interfaces why=the network is that of a pod, not of the node")
            return
        while True:
            try:
                routes = await asyncio.to_thread(_library)
                async with routes.AsyncIPRoute() as changes, routes.AsyncIPRoute() as lists:
                    await changes.bind(groups=GROUPS)
                    async with asyncio.TaskGroup() as group:
                        group.create_task(self._listen(changes), name="interface changes")
                        group.create_task(self._tell_all(lists), name="interface lists")
            except Exception as error:  # noqa: BLE001  whatever the library raises, the stream goes on
                log.warning("no_interfaces why=%s", _cause(error))
                await asyncio.sleep(RETRY_SECONDS)

    async def _listen(self, changes: Any) -> None:
        while True:
            async for _ in changes.get():
                self._changed.set()

    async def _tell_all(self, lists: Any) -> None:
        while True:
            self._changed.clear()
            found = await list_interfaces(lists)
            if found != self._told:
                self._told = found
                self._tell(found)
                await asyncio.sleep(QUIET_SECONDS)
            await self._changed.wait()
            await asyncio.sleep(SETTLE_SECONDS)


def _is_own_network() -> bool:
    """Whether these are not the interfaces of the node, as far as a thread of the kernel shows."""
    kernel = Path("/proc/2")
    try:
        if (kernel / "comm").read_text() != "kthreadd\n":
            return False
        return not (kernel / "ns/net").samefile("/proc/self/ns/net")
    except OSError:
        return False


def _library() -> Any:
    """It takes some MiB and a good part of a second, which nobody has to wait for."""
    import pyroute2  # noqa: PLC0415

    return pyroute2


async def list_interfaces(lists: Any) -> list[Interface]:
    """Those that there are now, as an AsyncIPRoute gives them."""
    addresses: defaultdict[int, list[str]] = defaultdict(list)
    async for each in await lists.addr("dump"):
        # The own end of a point-to-point connection is not what IFA_ADDRESS says.
        address = each.get("local") or each.get("address")
        if address and len(addresses[each["index"]]) < ADDRESSES_MOST:
            addresses[each["index"]].append(f"{address}/{each['prefixlen']}")
    links = {each["index"]: each async for each in await lists.link("dump")}
    return [
        Interface(
            str(links[index].get("ifname") or ""),
            str(links[index].get("address") or ""),
            bool(links[index]["flags"] & IFF_UP),
            tuple(sorted(addresses[index])),
        )
        for index in sorted(links)[:INTERFACES_MOST]
    ]


def _cause(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error)[:200] or type(error).__name__
