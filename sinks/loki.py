# SPDX-License-Identifier: Apache-2.0
"""Events to Grafana Loki, by its push interface."""

from __future__ import annotations

import asyncio
from collections import defaultdict

import orjson
from msgspec import field

from nodeagent.identity import node_name
from nodeagent.sink import Batch, Sink
from sinks.http import Client, HttpConfig, in_parts, packed
from sinks.schema import encoder_of


class Loki(Sink):
    """Pushes a stream for each kind; what Loki has already it takes and drops by itself."""

    NEEDS_FACTS = True

    class Config(HttpConfig, kw_only=True, frozen=True):
        """Where Loki is, and how streams are labelled."""

        labels: dict[str, str] = field(default_factory=lambda: {"job": "nodeagent"})
        """Label all streams so, besides `node` and `kind`; few values are best."""

    def __init__(self, config: Loki.Config) -> None:
        """Nothing is opened yet."""
        self._config = config
        self.encoder = self._encode = encoder_of(config)
        self._client = Client.of(config)
        self._url = f"{config.url.rstrip('/')}/loki/api/v1/push"
        node = node_name()
        self._labels = {"node": node, **config.labels}

    async def open(self) -> None:
        """Read the certificates; the first connection is made with the first batch."""
        await self._client.open()

    async def send(self, batch: Batch) -> None:
        """Push the batch, in parts if Loki finds it too large."""
        await in_parts(batch, self._push, "")

    async def close(self) -> None:
        """Hang up."""
        await self._client.close()

    async def _push(self, batch: Batch, _: str) -> None:
        streams: dict[str, list[list[str]]] = defaultdict(list)
        for facts, line in zip(batch.facts, batch.lines(self._encode), strict=True):
            streams[facts.what].append([str(facts.time), line.decode()])
        pushed: list[dict[str, object]] = [
            {"stream": self._labels | {"kind": kind}, "values": values}
            for kind, values in streams.items()
        ]
        body, more = await asyncio.to_thread(packed, orjson.dumps({"streams": pushed}))
        await self._client.post(self._url, body, {"Content-Type": "application/json", **more})
