# SPDX-License-Identifier: Apache-2.0
"""Findings one by one, in JSON or for Slack, and not too often."""

from __future__ import annotations

import json
from typing import Final

import fastjsonschema
import pytest

from nodeagent.errors import Retry
from nodeagent.finding import Severity
from nodeagent.ledger import SinkCounts
from nodeagent.outlet import Outlet
from nodeagent.sink import Batch
from sinks.webhook import Webhook
from tests.delivery.opened import opened
from tests.delivery.peer import Posted, peer
from tests.events import a_finding, an_exec

pytestmark = pytest.mark.usefixtures("origin")

MESSAGE: Final = fastjsonschema.compile(
    {
        "type": "object",
        "required": ["text"],
        "additionalProperties": False,
        "properties": {
            "text": {"type": "string", "minLength": 1},
            "blocks": {
                "type": "array",
                "maxItems": 50,
                "items": {
                    "type": "object",
                    "required": ["type", "text"],
                    "additionalProperties": False,
                    "properties": {
                        "type": {"const": "section"},
                        "text": {
                            "type": "object",
                            "required": ["type", "text"],
                            "additionalProperties": False,
                            "properties": {
                                "type": {"const": "mrkdwn"},
                                "text": {"type": "string", "minLength": 1, "maxLength": 3000},
                            },
                        },
                    },
                },
            },
        },
    }
)
"""An incoming webhook of Slack with sections, from the reference of Block Kit."""


def take(posted: Posted) -> tuple[int, object]:
    assert posted.path == "/hook"
    assert posted.headers["Content-Type"] == "application/json"
    return 200, None


async def test_each_finding_is_a_request() -> None:
    batch = Batch([], [a_finding(), a_finding(title="other")])
    async with peer(take) as server, opened(Webhook, url=f"{server.url}/hook") as sink:
        await sink.send(batch)
    assert [posted.body for posted in server.taken] == batch.lines()


@pytest.mark.parametrize("severity", list(Severity)[1:])
async def test_message_for_slack_mentions_nobody(severity: Severity) -> None:
    evidence = {"path": "/tmp/<!channel>```", "long": "&" * 5000}
    finding = a_finding(severity=severity, title="<!here> & more", evidence=evidence)
    settings = {"format": "slack"}
    async with peer(take) as server, opened(Webhook, url=f"{server.url}/hook", **settings) as sink:
        await sink.send(Batch([], [finding]))
    (posted,) = server.taken
    MESSAGE(posted.json)
    assert "<!" not in posted.body.decode()
    assert posted.json["blocks"][1]["text"]["text"].count("```") == 2


async def test_the_same_finding_waits_and_another_does_not() -> None:
    async with peer(take) as server, opened(Webhook, url=f"{server.url}/hook") as sink:
        for count in (1, 2, 3):
            await sink.send(Batch([], [a_finding(count=count)]))
        await sink.send(Batch([], [a_finding(title="other")]))
    assert [json.loads(posted.body)["title"] for posted in server.taken] == [
        "A shell talks to 192.0.2.1",
        "other",
    ]


async def test_the_same_finding_comes_again_with_its_count_when_it_is_time() -> None:
    settings = {"repeat_seconds": 0}
    async with peer(take) as server, opened(Webhook, url=f"{server.url}/hook", **settings) as sink:
        for count in (1, 2):
            await sink.send(Batch([], [a_finding(count=count)]))
    assert [json.loads(posted.body)["count"] for posted in server.taken] == [1, 2]


async def test_after_a_failure_only_the_rest_is_posted() -> None:
    batch = Batch([], [a_finding(title=title) for title in ("a", "b", "c")])
    failed: list[str] = []

    def once(posted: Posted) -> tuple[int, object]:
        if posted.json["title"] == "b" and not failed:
            failed.append("b")
            return 503, None
        return 200, None

    async with peer(once) as server, opened(Webhook, url=server.url) as sink:
        with pytest.raises(Retry):
            await sink.send(batch)
        await sink.send(batch)
    assert [posted.json["title"] for posted in server.taken] == ["a", "b", "b", "c"]


async def test_events_are_not_routed_to_it() -> None:
    counts = SinkCounts()
    config = Webhook.Config(url="http://localhost/hook")
    outlet = Outlet("hook", Webhook(config), config, counts, lambda name, why: None)
    outlet.offer(Batch([an_exec()] * 5))
    assert (counts.routed, counts.queued) == (0, 0)
    outlet.offer(Batch([an_exec()] * 5, [a_finding()]))
    assert (counts.routed, counts.queued) == (1, 1)
