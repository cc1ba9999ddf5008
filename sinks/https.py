# SPDX-License-Identifier: Apache-2.0
"""Events by HTTPS to a backend: each batch a request, repeated under its key until taken."""

from __future__ import annotations

import asyncio
import time
from typing import Final, Literal

from nodeagent.identity import agent_id
from nodeagent.sink import Batch, Sink
from sinks.http import Client, HttpConfig, in_parts, packed
from sinks.schema import encoder_of

TYPES: Final = {"ndjson": "application/x-ndjson", "json": "application/json"}


class Https(Sink):
    """Posts batches; delivery is at least once as long as the queue holds.

    Each batch has a key (agent, start of the run, number), the same for each attempt, so
    that a receiver can drop what comes twice.
    """

    class Config(HttpConfig, kw_only=True, frozen=True):
        """Where to, and how the agent shows who it is."""

        format: Literal["ndjson", "json"] = "ndjson"
        """A line for each event, or one JSON array for each batch."""
        compression: Literal["gzip", "none"] = "gzip"
        """Of the body."""
        aws_service: str = ""
        """Sign requests for this service of AWS, for example execute-api, with the credentials
        of the environment, the pod, the task or the instance."""
        aws_region: str = ""
        """The region that they are signed for; empty: AWS_REGION of the environment."""

    def __init__(self, config: Https.Config) -> None:
        """Nothing is opened yet."""
        self._config = config
        self._encode = encoder_of(config)
        self._client = Client.of(config, config.aws_service, config.aws_region)
        self._agent = agent_id()
        self._epoch = time.time_ns()
        self._batch: Batch | None = None
        self._sequence = 0

    async def open(self) -> None:
        """Read the certificates; the first connection is made with the first batch."""
        await self._client.open()

    async def send(self, batch: Batch) -> None:
        """Post the batch, in parts if the server finds it too large."""
        if batch is not self._batch:
            self._batch = batch
            self._sequence += 1
        await in_parts(batch, self._post, f"{self._agent}-{self._epoch}-{self._sequence}")

    async def close(self) -> None:
        """Hang up."""
        await self._client.close()

    async def _post(self, batch: Batch, key: str) -> None:
        body = batch.ndjson(self._encode)
        headers = {"Content-Type": TYPES[self._config.format], "Idempotency-Key": key}
        if self._config.format == "json":
            body = b"[" + body[:-1].replace(b"\n", b",") + b"]"
        if self._config.compression == "gzip":
            body, more = await asyncio.to_thread(packed, body)
            headers |= more
        await self._client.post(self._config.url, body, headers)
