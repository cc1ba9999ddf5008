# SPDX-License-Identifier: Apache-2.0
"""AWS as moto has it, in a process of its own, and clients of boto3 to look into it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import boto3
from aiohttp import ClientSession

from tests.delivery.rsyslog import free_port, is_open

REGION = "eu-west-1"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": REGION}


@dataclass
class Aws:
    """Where it is."""

    url: str

    async def ask(self, service: str, operation: str, **settings: Any) -> Any:
        """What boto3 is told, off the loop."""

        def call() -> Any:
            client = boto3.client(
                service,
                region_name=REGION,
                endpoint_url=self.url,
                aws_access_key_id="AKIDEXAMPLE",
                aws_secret_access_key="secret",
            )
            try:
                return getattr(client, operation)(**settings)
            finally:
                client.close()

        return await asyncio.to_thread(call)

    async def reset(self) -> None:
        """Forget everything."""
        async with ClientSession() as session, session.post(f"{self.url}/moto-api/reset") as said:
            said.raise_for_status()


@asynccontextmanager
async def aws() -> AsyncIterator[Aws]:
    port = free_port()
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, **KEYS},
    )
    try:
        async with asyncio.timeout(60):
            while not is_open(port):  # noqa: ASYNC110  of another process
                await asyncio.sleep(0.05)
        yield Aws(f"http://127.0.0.1:{port}")
    finally:
        if server.returncode is None:
            server.kill()
        await server.wait()
