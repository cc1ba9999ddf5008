# SPDX-License-Identifier: Apache-2.0
"""A server on loopback that checks each request as a test says, and answers in order."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web


@dataclass
class Posted:
    """A request."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    """Unpacked."""

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


@dataclass
class Peer:
    """The server; `answers` are given first, then what `reply` makes of the request."""

    reply: Callable[[Posted], tuple[int, object]]
    url: str = ""
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    taken: list[Posted] = field(default_factory=list)
    """Requests that `reply` has answered."""

    async def handle(self, request: web.Request) -> web.Response:
        posted = Posted(request.path, request.headers, await request.read())
        if self.answers:
            status, headers = self.answers.pop(0)
            return web.Response(status=status, headers=headers, text="as the test wants it")
        self.taken.append(posted)
        status, said = self.reply(posted)
        if said is None:
            return web.Response(status=status)
        return web.json_response(said, status=status)


@asynccontextmanager
async def peer(reply: Callable[[Posted], tuple[int, object]], port: int = 0) -> AsyncIterator[Peer]:
    """Any exception of `reply`, like that of a schema, is an answer 500."""
    made = Peer(reply)
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", made.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield made
    finally:
        await runner.cleanup()


def halving(largest_bytes: int, said: object) -> Callable[[Posted], tuple[int, object]]:
    """Refuses what is too large."""
    return lambda posted: (413, None) if len(posted.body) > largest_bytes else (200, said)
