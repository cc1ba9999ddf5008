# SPDX-License-Identifier: Apache-2.0
"""Events to Elasticsearch or OpenSearch, by their bulk interface."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final

import orjson
from msgspec import Meta

from nodeagent.encode import timestamp
from nodeagent.errors import Rejected, Retry
from nodeagent.identity import agent_id
from nodeagent.sink import Batch, Sink
from sinks.http import BUSY, Client, HttpConfig, failure, in_parts, packed
from sinks.schema import encoder_of

ANSWER_BYTES: Final = 64 * 1024 * 1024
"""An answer has some 200 bytes for each event."""
CREATED: Final = 201
CONFLICT: Final = 409
"""The event is there already."""
SERVER_ERROR: Final = 500


class Elasticsearch(Sink):
    """Creates a document for each event, whose id is the event's: one that comes again is none.

    The index may be a data stream: each document has an @timestamp.
    """

    NEEDS_FACTS = True

    class Config(HttpConfig, kw_only=True, frozen=True):
        """Where it is, and what documents go to."""

        index: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,254}$")] = (
            "logs-nodeagent-default"
        )
        """The index, alias or data stream."""

    def __init__(self, config: Elasticsearch.Config) -> None:
        """Nothing is opened yet."""
        self.encoder = self._encode = encoder_of(config)
        self._client = Client.of(config)
        self._url = f"{config.url.rstrip('/')}/{config.index}/_bulk"
        self._agent = agent_id()

    async def open(self) -> None:
        """Read the certificates; the first connection is made with the first batch."""
        await self._client.open()

    async def send(self, batch: Batch) -> None:
        """Create all documents, in parts if that is too much at once."""
        await in_parts(batch, self._post, "")

    async def close(self) -> None:
        """Hang up."""
        await self._client.close()

    async def _post(self, batch: Batch, _: str) -> None:
        parts = []
        for facts, line in zip(batch.facts, batch.lines(self._encode), strict=True):
            parts += [
                b'{"create":{"_id":"%b-%b"}}\n' % (self._agent.encode(), facts.id.encode()),
                b'{"@timestamp":"%b",' % timestamp(facts.time).encode(),
                line[1:],
                b"\n",
            ]
        body, more = await asyncio.to_thread(packed, b"".join(parts))
        headers = {"Content-Type": "application/x-ndjson", **more}
        answer = await self._client.request("POST", self._url, body, headers, ANSWER_BYTES)
        if not answer.is_success:
            raise failure(answer)
        try:
            said = orjson.loads(answer.body)
            outcomes = [each["create"] for each in said["items"]] if said["errors"] else []
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise Retry("the answer is none of the bulk interface: set url") from error
        judge(outcomes)


def judge(outcomes: list[dict[str, Any]]) -> None:
    """Raise what the outcomes of single documents mean for their batch."""
    failed = [each for each in outcomes if each["status"] not in {CREATED, CONFLICT}]
    for each in failed:
        if each["status"] in BUSY or each["status"] >= SERVER_ERROR:
            # All of it comes again, and what is there is left alone.
            raise Retry(why(each))
    if failed:
        raise Rejected(why(failed[0]), len(failed))


def why(outcome: dict[str, Any]) -> str:
    """What Elasticsearch says about one document."""
    error = outcome.get("error")
    said = error.get("reason") if isinstance(error, dict) else error
    return f"{outcome['status']} {str(said)[:200]}"
