# SPDX-License-Identifier: Apache-2.0
"""What all sinks that post to a server do alike."""

from __future__ import annotations

from typing import Any

import pytest

from nodeagent.errors import Rejected, Retry, StartError
from nodeagent.sink import Batch, Sink
from sinks.alertmanager import Alertmanager
from sinks.cloudwatch import CloudWatch
from sinks.elasticsearch import Elasticsearch
from sinks.eventbridge import EventBridge
from sinks.loki import Loki
from sinks.otlp import Otlp
from sinks.s3 import S3
from sinks.securityhub import SecurityHub
from sinks.webhook import Webhook
from tests.delivery.opened import opened
from tests.delivery.peer import Posted, peer
from tests.events import a_finding

pytestmark = pytest.mark.usefixtures("origin")

BY_URL: list[type[Sink]] = [Otlp, Loki, Elasticsearch, Webhook, Alertmanager]
OF_AWS: dict[type[Sink], dict[str, Any]] = {
    S3: {"bucket": "events"},
    CloudWatch: {"group": "events"},
    EventBridge: {},
    SecurityHub: {"account": "123456789012"},
}
BATCH = Batch([], [a_finding()])


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)


def settings_of(sink: type[Sink], url: str) -> dict[str, Any]:
    return {"url": url} if sink in BY_URL else {**OF_AWS[sink], "endpoint": url}


def never(posted: Posted) -> tuple[int, object]:
    raise AssertionError(posted.path)


@pytest.mark.parametrize("sink", [*BY_URL, *OF_AWS])
@pytest.mark.parametrize(
    ("status", "verdict", "after"),
    [
        (400, Rejected, None),
        (429, Retry, 7.0),
        (403, Retry, 7.0),
        (503, Retry, 7.0),
        (301, Retry, 30.0),
    ],
)
async def test_answer_is_a_verdict(
    sink: type[Sink], status: int, verdict: type[Exception], after: float | None
) -> None:
    async with peer(never) as server, opened(sink, **settings_of(sink, server.url)) as made:
        server.answers = [(status, {"Retry-After": "7", "Location": "http://elsewhere.example/"})]
        with pytest.raises(verdict, match=f"HTTP {status}") as caught:
            await made.send(BATCH)
    assert getattr(caught.value, "after_seconds", None) == after


@pytest.mark.parametrize("sink", [*BY_URL, *OF_AWS])
async def test_nobody_there_is_a_retry(sink: type[Sink]) -> None:
    async with peer(never) as server:
        url = server.url
    async with opened(sink, **settings_of(sink, url)) as made:
        with pytest.raises(Retry, match=r"127\.0\.0\.1"):
            await made.send(BATCH)


@pytest.mark.parametrize("sink", [*BY_URL, *OF_AWS])
async def test_plain_http_to_elsewhere_stops_the_start(sink: type[Sink]) -> None:
    with pytest.raises(StartError, match="https://"):
        async with opened(sink, **settings_of(sink, "http://192.0.2.1/")):
            pass


@pytest.mark.parametrize("sink", OF_AWS)
async def test_no_region_stops_the_start(sink: type[Sink], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_REGION")
    with pytest.raises(StartError, match="AWS_REGION"):
        async with opened(sink, **OF_AWS[sink]):
            pass


@pytest.mark.parametrize("sink", [Alertmanager, SecurityHub])
def test_ocsf_is_refused_where_it_means_nothing(sink: type[Sink]) -> None:
    with pytest.raises(ValueError, match="schema and remove have no effect"):
        sink.Config(**settings_of(sink, "http://localhost") | {"schema": "ocsf"})


async def test_token_goes_with_the_scheme_that_was_asked_for(tmp_path: Any) -> None:
    (tmp_path / "key").write_text("abc123\n")
    settings = {"token_file": str(tmp_path / "key"), "token_scheme": "ApiKey"}
    async with (
        peer(lambda _: (200, {"errors": False, "items": []})) as server,
        opened(Elasticsearch, url=server.url, **settings) as sink,
    ):
        await sink.send(BATCH)
    assert server.taken[0].headers["Authorization"] == "ApiKey abc123"
