# SPDX-License-Identifier: Apache-2.0
"""Batches as objects of S3, compressed and named by what is in them."""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import Annotated

from msgspec import Meta

from nodeagent.identity import agent_id
from nodeagent.sink import Batch, Sink, packed
from sinks.aws_api import AwsApi, AwsConfig
from sinks.schema import encoder_of


class S3(Sink):
    """Uploads each batch; the same batch again has the same name and replaces itself.

    PREFIX/2025/11/24/23/AGENT-HASH.ndjson.zst, where the hour is that of its first event.
    """

    NEEDS_FACTS = True

    class Config(AwsConfig, kw_only=True, frozen=True):
        """Which bucket, and where in it."""

        bucket: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]
        """The bucket, which has to exist."""
        prefix: Annotated[str, Meta(pattern=r"^[A-Za-z0-9!_.*'()/=-]*$")] = "nodeagent/"
        """What the names of all objects begin with."""

    def __init__(self, config: S3.Config) -> None:
        """Nothing is opened yet."""
        self._config = config
        self.encoder = self._encode = encoder_of(config)
        self._agent = agent_id()
        # A name with dots has no certificate, and other endpoints may know no such hosts.
        as_path = bool(config.endpoint) or "." in config.bucket
        self._api = AwsApi(config, "s3", "s3" if as_path else f"{config.bucket}.s3")
        self._base = f"/{config.bucket}/" if as_path else "/"

    async def open(self) -> None:
        """Read the certificates; credentials are fetched with the first batch."""
        await self._api.open()

    async def send(self, batch: Batch) -> None:
        """Upload the batch."""
        lines = batch.ndjson(self._encode)
        first = time.gmtime(batch.facts[0].time // 1_000_000_000)
        digest = hashlib.sha256(lines).hexdigest()
        folder = self._config.prefix + time.strftime("%Y/%m/%d/%H", first)
        name = f"{self._base}{folder}/{self._agent}-{digest[:32]}.ndjson.zst"
        body = batch.packed
        if body is None:
            body = await asyncio.to_thread(packed, lines)
        await self._api.put(name, body, {"Content-Type": "application/zstd"})

    async def close(self) -> None:
        """Hang up."""
        await self._api.close()
