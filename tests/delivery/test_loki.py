# SPDX-License-Identifier: Apache-2.0
"""Streams as the push interface of Loki wants them."""

from __future__ import annotations

from typing import Any, Final

import fastjsonschema
import pytest

from nodeagent.sink import Batch
from sinks.loki import Loki
from tests.delivery.opened import opened
from tests.delivery.peer import Posted, halving, peer
from tests.events import TIME, a_finding, an_exec, an_open

pytestmark = pytest.mark.usefixtures("origin")

LABEL: Final = "^[a-zA-Z_][a-zA-Z0-9_]*$"
PUSH: Final = fastjsonschema.compile(
    {
        "type": "object",
        "required": ["streams"],
        "additionalProperties": False,
        "properties": {
            "streams": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["stream", "values"],
                    "additionalProperties": False,
                    "properties": {
                        "stream": {
                            "type": "object",
                            "minProperties": 1,
                            "patternProperties": {LABEL: {"type": "string"}},
                            "additionalProperties": False,
                        },
                        "values": {
                            "type": "array",
                            "minItems": 1,
                            "items": {
                                "type": "array",
                                "items": [
                                    {"type": "string", "pattern": "^[0-9]{19}$"},
                                    {"type": "string"},
                                ],
                                "minItems": 2,
                                "maxItems": 2,
                            },
                        },
                    },
                },
            }
        },
    }
)
"""POST /loki/api/v1/push, from Loki's reference of its HTTP interface."""


def take(posted: Posted) -> tuple[int, object]:
    assert posted.path == "/loki/api/v1/push"
    assert posted.headers["Content-Type"] == "application/json"
    PUSH(posted.json)
    return 204, None


def streams(posted: Posted) -> dict[str, Any]:
    return {each["stream"]["kind"]: each for each in posted.json["streams"]}


async def test_each_kind_is_a_stream() -> None:
    batch = Batch([an_exec(), an_open(), an_exec(("id",))], [a_finding()])
    settings = {"labels": {"job": "nodes", "cluster": "c1"}, "headers": {"X-Scope-OrgID": "t1"}}
    async with peer(take) as server, opened(Loki, url=server.url, **settings) as sink:
        await sink.send(batch)
    (posted,) = server.taken
    assert posted.headers["X-Scope-OrgID"] == "t1"
    found = streams(posted)
    assert set(found) == {"exec", "open", "finding"}
    assert found["exec"]["stream"]["job"] == "nodes"
    assert found["exec"]["stream"]["cluster"] == "c1"
    assert found["exec"]["stream"]["node"]
    lines = batch.lines()
    assert found["exec"]["values"] == [
        [str(TIME), lines[0].decode()],
        [str(TIME), lines[2].decode()],
    ]


async def test_a_batch_that_is_too_large_is_halved() -> None:
    async with peer(halving(20_000, {})) as server, opened(Loki, url=server.url) as sink:
        await sink.send(Batch([an_exec(("echo", str(n))) for n in range(64)]))
    taken = [posted for posted in server.taken if len(posted.body) <= 20_000]
    assert sum(len(streams(posted)["exec"]["values"]) for posted in taken) == 64
