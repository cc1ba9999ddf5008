# SPDX-License-Identifier: Apache-2.0
"""Batches as objects of S3, compressed and named by what is in them."""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import Annotated, Final

from msgspec import Meta

from nodeagent.errors import StartError
from nodeagent.identity import agent_id, time_of
from nodeagent.sink import Batch, Sink
from sinks.aws_api import AwsApi, AwsConfig
from sinks.schema import encoder_of

LEVEL: Final = 3
"""Of zstd."""


class S3(Sink):
    """Uploads each batch; the same batch again has the same name and replaces itself.

    PREFIX/2025/11/24/23/AGENT-HASH.ndjson.zst, where the hour is that of its first event.
    """

    class Config(AwsConfig, kw_only=True, frozen=True):
        """Which bucket, and where in it."""

        bucket: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]
        """The bucket, which has to exist."""
        prefix: Annotated[str, Meta(pattern=r"^[A-Za-z0-9!_.*'()/=-]*$")] = "nodeagent/"
        """What the names of all objects begin with."""

    def __init__(self, config: S3.Config) -> None:
        """Nothing is opened yet."""
        self._config = config
        self._encode = encoder_of(config)
        self._agent = agent_id()
        # A name with dots has no certificate, and other endpoints may know no such hosts.
        as_path = bool(config.endpoint) or "." in config.bucket
        self._api = AwsApi(config, "s3", "s3" if as_path else f"{config.bucket}.s3")
        self._base = f"/{config.bucket}/" if as_path else "/"

    async def open(self) -> None:
        """Read the certificates; credentials are fetched with the first batch."""
        try:
            import zstandard  # noqa: F401, PLC0415
        except ImportError as error:
            raise StartError(
                "the s3 sink needs zstandard: install it with `pip install nodeagent[s3]`"
            ) from error
        await self._api.open()

    async def send(self, batch: Batch) -> None:
        """Upload the batch."""
        lines = batch.ndjson(self._encode)
        first = time.gmtime(time_of(batch.items[0]) // 1_000_000_000)
        digest = hashlib.sha256(lines).hexdigest()
        folder = self._config.prefix + time.strftime("%Y/%m/%d/%H", first)
        name = f"{self._base}{folder}/{self._agent}-{digest[:32]}.ndjson.zst"
        body = await asyncio.to_thread(compressed, lines)
        await self._api.put(name, body, {"Content-Type": "application/zstd"})

    async def close(self) -> None:
        """Hang up."""
        await self._api.close()


def compressed(lines: bytes) -> bytes:
    """The same by zstd, with a checksum."""
    import zstandard  # noqa: PLC0415

    return zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress(lines)
