# SPDX-License-Identifier: Apache-2.0
"""Log records as the published messages of OTLP have them, read by those messages themselves."""

from __future__ import annotations

import json

import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from nodeagent.errors import Rejected
from nodeagent.sink import Batch
from sinks.otlp import Otlp
from tests.delivery.opened import opened
from tests.delivery.peer import Posted, halving, peer
from tests.events import (
    TIME,
    a_container,
    a_finding,
    a_process,
    an_agent_event,
    an_exec,
    inside,
)

pytestmark = pytest.mark.usefixtures("origin")


def read(posted: Posted) -> ExportLogsServiceRequest:
    """Raises where there is a field that OTLP does not have."""
    assert posted.path == "/v1/logs"
    assert posted.headers["Content-Type"] == "application/json"
    message = ExportLogsServiceRequest()
    json_format.Parse(posted.body, message)
    return message


def take(posted: Posted) -> tuple[int, object]:
    read(posted)
    return 200, {}


async def test_each_event_is_a_log_record() -> None:
    process = inside(a_process(), a_container())
    batch = Batch([an_agent_event(), an_exec(process=process)], [a_finding()])
    async with peer(take) as server, opened(Otlp, url=f"{server.url}/") as sink:
        await sink.send(batch)
    (posted,) = server.taken
    (logs,) = read(posted).resource_logs
    resource = {each.key: each.value.string_value for each in logs.resource.attributes}
    assert resource["service.name"] == "nodeagent"
    assert resource["host.name"]
    records = logs.scope_logs[0].log_records
    assert [record.event_name for record in records] == [
        "nodeagent.agent.start",
        "nodeagent.exec",
        "nodeagent.finding",
    ]
    assert [record.body.string_value.encode() for record in records] == batch.lines()
    assert [record.time_unix_nano for record in records] == [TIME] * 3
    assert [record.severity_text for record in records] == ["INFO", "INFO", "ERROR"]
    shown = {each.key: each.value for each in records[1].attributes}
    assert shown["process.pid"].int_value == 1234
    assert shown["container.id"].string_value == "c" * 64
    assert shown["k8s.namespace.name"].string_value == "shop"


async def test_a_batch_that_is_too_large_is_halved() -> None:
    batch = Batch([an_exec(("echo", str(n))) for n in range(64)])
    reply = halving(30_000, {})
    async with peer(reply) as server, opened(Otlp, url=server.url) as sink:
        await sink.send(batch)
    found = [
        json.loads(record.body.string_value)["argv"][1]
        for posted in server.taken
        if len(posted.body) <= 30_000
        for record in read(posted).resource_logs[0].scope_logs[0].log_records
    ]
    assert found == [str(n) for n in range(64)]


async def test_records_that_the_collector_refused_are_counted() -> None:
    said = {"partialSuccess": {"rejectedLogRecords": "1", "errorMessage": "too old"}}
    async with peer(lambda _: (200, said)) as server, opened(Otlp, url=server.url) as sink:
        with pytest.raises(Rejected, match="too old") as caught:
            await sink.send(Batch([an_exec(), an_exec()]))
    assert caught.value.items == 1
