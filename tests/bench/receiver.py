# SPDX-License-Identifier: Apache-2.0
"""A server with TLS that writes what it gets to a file: the other end of the https sink.

    python -m tests.bench.receiver CERTIFICATE OUTPUT

Says its port, and at the end what came over the network and what that was unpacked.
"""

from __future__ import annotations

import asyncio
import json
import signal
import ssl
import sys
from pathlib import Path

import zstandard
from aiohttp import web


async def serve(certificate: str, output: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    seen = {"packed": 0, "lines": 0, "requests": 0}
    unpacker = zstandard.ZstdDecompressor()
    with Path(output).open("ab", buffering=0) as file:  # noqa: ASYNC230  it serves nobody else

        async def take(request: web.Request) -> web.Response:
            body = await request.read()
            lines = unpacker.decompressobj().decompress(body)
            seen["packed"] += len(body)
            seen["lines"] += len(lines)
            seen["requests"] += 1
            file.write(lines)
            return web.Response()

        app = web.Application(client_max_size=1 << 30)
        app.router.add_post("/", take)
        runner = web.AppRunner(app, access_log=None, auto_decompress=False, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        print(runner.addresses[0][1], flush=True)
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        await stop.wait()
        await runner.cleanup()
    print(json.dumps(seen), flush=True)


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
