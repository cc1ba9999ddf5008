# SPDX-License-Identifier: Apache-2.0
"""The Docker Engine API behind its socket, where containers run without Kubernetes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import aiohttp
import msgspec

from nodeagent.enrich.container import COMPLETE
from nodeagent.event import Container
from nodeagent.follow.labels import bounded, ecs_task

__all__ = ["Docker"]

ANSWER_BYTES: Final = 4 << 20
"""More than the description of any container that Docker would make."""


class _Config(msgspec.Struct, rename="pascal", frozen=True):
    image: str = ""
    labels: dict[str, str] | None = None


class _Inspected(msgspec.Struct, rename="pascal", frozen=True):
    """What GET /containers/{id}/json of API 1.24 and later says, as far as we ask."""

    id: str
    name: str = ""
    created: str = ""
    image: str = ""
    config: _Config = _Config()


class _Told(msgspec.Struct, frozen=True):
    """One line of GET /events."""

    id: str


class Docker:
    """One engine behind its socket."""

    def __init__(self, socket: str) -> None:
        """Nothing is opened yet."""
        self._session = aiohttp.ClientSession(connector=aiohttp.UnixConnector(path=socket, limit=4))

    async def close(self) -> None:
        """Hang up."""
        await self._session.close()

    async def events(self) -> AsyncIterator[Container]:
        """What is made, as the engine tells it by itself, without end.

        It is asked about each before that has started, so that one that is gone a moment
        later has its name, too. Raises what `find` raises.
        """
        wanted = msgspec.json.encode({"type": ["container"], "event": ["create"]}).decode()
        async with self._session.get(
            "http://docker/v1.24/events",
            params={"filters": wanted},
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=None),
        ) as answer:
            async for line in answer.content:
                container = await self.find(msgspec.json.decode(line, type=_Told).id)
                if container is not None:
                    yield container

    async def find(self, number: str) -> Container | None:
        """The container with this id; None when the engine does not know it.

        Raises OSError, aiohttp.ClientError or msgspec.DecodeError when it does not answer
        as it should.
        """
        url = f"http://docker/v1.24/containers/{number}/json"
        async with self._session.get(url, allow_redirects=False) as answer:
            body = await answer.content.read(ANSWER_BYTES)
            status = answer.status
        if status == 404:  # noqa: PLR2004
            return None
        if status != 200:  # noqa: PLR2004
            raise OSError(0, f"the engine answered {status}")
        found = msgspec.json.decode(body, type=_Inspected)
        labels: Any = found.config.labels or {}
        return Container(
            found.id,
            "docker",
            COMPLETE,
            name=bounded(found.name.removeprefix("/")),
            image=bounded(found.config.image),
            # Of the image's configuration: the engine does not say what it was pulled by.
            image_digest=bounded(found.image),
            created=bounded(found.created),
            ecs=ecs_task(labels),
        )
