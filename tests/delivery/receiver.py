# SPDX-License-Identifier: Apache-2.0
"""A server that takes batches by HTTP and does what a test tells it to."""

from __future__ import annotations

import asyncio
import gzip
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import zstandard
from aiohttp import web


@dataclass
class Request:
    """What came."""

    headers: Mapping[str, str]
    body: bytes
    """Unpacked."""

    @property
    def key(self) -> str:
        return self.headers["Idempotency-Key"]

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.body.splitlines()]


@dataclass
class Receiver:
    """The server; `answers` are given one after the other, then 200."""

    port: int = 0
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    largest_bytes: int = 1 << 30
    delay_seconds: float = 0.0

    @property
    def taken(self) -> dict[str, Request]:
        """By key, as a receiver keeps them that drops what comes twice."""
        return {request.key: request for request in self.requests}

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = unpacked(await request.read(), request.headers.get("Content-Encoding", ""))
        if self.delay_seconds:
            await asyncio.sleep(self.delay_seconds)
        if self.answers:
            status, headers = self.answers.pop(0)
            return web.Response(status=status, headers=headers, text="as the test wants it")
        if len(body) > self.largest_bytes:
            return web.Response(status=413)
        self.requests.append(Request(request.headers, body))
        return web.Response()


def unpacked(body: bytes, encoding: str) -> bytes:
    if encoding == "zstd":
        return zstandard.ZstdDecompressor().decompress(body)
    return gzip.decompress(body) if encoding == "gzip" else body


@asynccontextmanager
async def receiving(
    context: ssl.SSLContext | None = None, port: int = 0
) -> AsyncIterator[Receiver]:
    """A server on loopback, with TLS when there is a context."""
    receiver = Receiver()
    app = web.Application(client_max_size=1 << 30)
    app.router.add_post("/{path:.*}", receiver.handle)
    # The path of every request would go to the log.
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, auto_decompress=False)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, ssl_context=context)
    await site.start()
    receiver.port = runner.addresses[0][1]
    try:
        yield receiver
    finally:
        await runner.cleanup()
