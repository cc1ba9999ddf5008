# SPDX-License-Identifier: Apache-2.0
"""Documents as the bulk interface of Elasticsearch wants them, and a server that keeps them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nodeagent.errors import Rejected, Retry
from nodeagent.identity import agent_id, event_id
from nodeagent.sink import Batch
from sinks.elasticsearch import Elasticsearch
from tests.delivery.opened import opened
from tests.delivery.peer import Posted, peer
from tests.events import a_finding, an_agent_event, an_exec, an_open

pytestmark = pytest.mark.usefixtures("origin")


class Index:
    """Documents by id, created once only; `refusing` are the kinds that get this status."""

    def __init__(self) -> None:
        self.documents: dict[str, dict[str, Any]] = {}
        self.refusing: dict[str, int] = {}

    def take(self, posted: Posted) -> tuple[int, object]:
        assert posted.path == "/logs-nodeagent-default/_bulk"
        assert posted.headers["Content-Type"] == "application/x-ndjson"
        # The interface refuses a body whose last line has no end.
        assert posted.body.endswith(b"\n")
        lines = [json.loads(line) for line in posted.body.splitlines()]
        items = []
        for action, document in zip(lines[::2], lines[1::2], strict=True):
            assert set(action) == {"create"}
            assert len(action["create"]["_id"]) <= 512
            assert "@timestamp" in document
            items.append({"create": self._create(action["create"]["_id"], document)})
        errors = any(item["create"]["status"] != 201 for item in items)
        return 200, {"took": 1, "errors": errors, "items": items}

    def _create(self, key: str, document: dict[str, Any]) -> dict[str, Any]:
        if status := self.refusing.get(document["kind"]):
            return {"status": status, "error": {"type": "some", "reason": "as the test wants"}}
        if key in self.documents:
            return {"status": 409, "error": {"type": "version_conflict_engine_exception"}}
        self.documents[key] = document
        return {"status": 201}


async def test_each_event_is_a_document_under_its_id() -> None:
    batch = Batch([an_agent_event(), an_exec(), an_open(sequence=2)], [a_finding()])
    index = Index()
    async with peer(index.take) as server, opened(Elasticsearch, url=server.url) as sink:
        await sink.send(batch)
    assert list(index.documents) == [f"{agent_id()}-{event_id(item)}" for item in batch.items]
    for document, line in zip(index.documents.values(), batch.lines(), strict=True):
        assert document.pop("@timestamp") == "2025-11-24T23:11:09.123456789Z"
        assert document == json.loads(line)


async def test_what_comes_again_is_there_once() -> None:
    batch = Batch([an_exec(), an_open()])
    index = Index()
    async with peer(index.take) as server, opened(Elasticsearch, url=server.url) as sink:
        await sink.send(batch)
        await sink.send(Batch([an_exec(), an_open(), an_open(tid=3)]))
    assert len(index.documents) == 3


async def test_documents_that_are_refused_for_good_are_counted() -> None:
    index = Index()
    index.refusing = {"open": 400}
    async with peer(index.take) as server, opened(Elasticsearch, url=server.url) as sink:
        with pytest.raises(Rejected, match="as the test wants") as caught:
            await sink.send(Batch([an_exec(), an_open(), an_open(sequence=2)]))
    assert caught.value.items == 2
    assert len(index.documents) == 1


async def test_a_busy_shard_means_all_again_and_nothing_twice() -> None:
    index = Index()
    index.refusing = {"open": 429}
    batch = Batch([an_exec(), an_open()])
    async with peer(index.take) as server, opened(Elasticsearch, url=server.url) as sink:
        with pytest.raises(Retry, match="429"):
            await sink.send(batch)
        index.refusing = {}
        await sink.send(batch)
    assert [each["kind"] for each in index.documents.values()] == ["exec", "open"]


async def test_a_server_that_is_none_is_not_trusted_with_events() -> None:
    async with (
        peer(lambda _: (200, {"hello": 1})) as server,
        opened(Elasticsearch, url=server.url) as sink,
    ):
        with pytest.raises(Retry, match="none of the bulk interface"):
            await sink.send(Batch([an_exec()]))
