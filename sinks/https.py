# SPDX-License-Identifier: Apache-2.0
"""Events by HTTPS to a backend: each batch a request, repeated under its key until taken."""

from __future__ import annotations

import asyncio
from typing import Final, Literal

from nodeagent.sink import Batch, Sink
from nodeagent.sink import packed as by_zstd
from sinks.http import Client, HttpConfig, in_parts, packed
from sinks.schema import encoder_of

TYPES: Final = {"ndjson": "application/x-ndjson", "json": "application/json"}
ZSTD: Final = {"Content-Encoding": "zstd"}


class Https(Sink):
    """Posts batches; delivery is at least once as long as the spool holds.

    Each batch has a key (agent, start of the run, number), the same for each attempt, so
    that a receiver can drop what comes twice.
    """

    class Config(HttpConfig, kw_only=True, frozen=True):
        """Where to, and how the agent shows who it is."""

        format: Literal["ndjson", "json"] = "ndjson"
        """A line for each event, or one JSON array for each batch."""
        compression: Literal["gzip", "zstd", "none"] = "gzip"
        """Of the body; zstd costs a tenth of what gzip does, where the server takes it."""
        aws_service: str = ""
        """Sign requests for this service of AWS, for example execute-api, with the credentials
        of the environment, the pod, the task or the instance."""
        aws_region: str = ""
        """The region that they are signed for; empty: AWS_REGION of the environment."""

    def __init__(self, config: Https.Config) -> None:
        """Nothing is opened yet."""
        self._config = config
        self.encoder = self._encode = encoder_of(config)
        self._client = Client.of(config, config.aws_service, config.aws_region)

    async def open(self) -> None:
        """Read the certificates; the first connection is made with the first batch."""
        await self._client.open()

    async def send(self, batch: Batch) -> None:
        """Post the batch, in parts if the server finds it too large."""
        await in_parts(batch, self._post, batch.key)

    async def close(self) -> None:
        """Hang up."""
        await self._client.close()

    async def _post(self, batch: Batch, key: str) -> None:
        headers = {"Content-Type": TYPES[self._config.format], "Idempotency-Key": key}
        body, more = await self._body(batch)
        await self._client.post(self._config.url, body, headers | more)

    async def _body(self, batch: Batch) -> tuple[bytes, dict[str, str]]:
        compression, as_lines = self._config.compression, self._config.format == "ndjson"
        if compression == "zstd" and as_lines and batch.packed:
            # As it came from the spool.
            return batch.packed, ZSTD
        body = batch.ndjson(self._encode)
        if not as_lines:
            body = b"[" + body[:-1].replace(b"\n", b",") + b"]"
        if compression == "gzip":
            return await asyncio.to_thread(packed, body)
        if compression == "zstd":
            return await asyncio.to_thread(by_zstd, body), ZSTD
        return body, {}
