# SPDX-License-Identifier: Apache-2.0
"""What every sink must do, with all of ours."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import pytest
import zstandard
from aiokafka import AIOKafkaConsumer, TopicPartition

from nodeagent.compliance import SinkCompliance
from sinks import SINKS
from sinks.alertmanager import Alertmanager
from sinks.cloudwatch import CloudWatch
from sinks.elasticsearch import Elasticsearch
from sinks.eventbridge import EventBridge
from sinks.file import File
from sinks.https import Https
from sinks.kafka import Kafka
from sinks.loki import Loki
from sinks.otlp import Otlp
from sinks.s3 import S3
from sinks.securityhub import SecurityHub
from sinks.stdout import Stdout
from sinks.store import Store
from sinks.syslog import Syslog
from sinks.webhook import Webhook
from tests.delivery.moto_server import KEYS
from tests.delivery.peer import Peer, Posted, peer
from tests.delivery.receiver import Receiver, receiving
from tests.delivery.rsyslog import Rsyslog, free_port, rsyslog
from tests.delivery.test_alertmanager import alertmanager, alerts
from tests.delivery.test_kafka import PARTITIONS, TOPIC, broker

P = TypeVar("P")


class Restarting(Generic[P]):
    """A server that can be away, at a port that stays the same."""

    def __init__(
        self,
        serve: Callable[[int], AbstractAsyncContextManager[P]],
        settings: Callable[[int], dict[str, Any]],
        read: Callable[[P], Awaitable[str]],
    ) -> None:
        self._port = free_port()
        self._serve = serve
        self._read = read
        self._stack = AsyncExitStack()
        self.settings = settings(self._port)

    async def received(self) -> str:
        return await self._read(self._there)

    async def start(self) -> None:
        self._there = await self._stack.enter_async_context(self._serve(self._port))

    async def stop(self) -> None:
        await self._stack.aclose()

    async def __aenter__(self) -> Restarting[P]:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()


class Posting(SinkCompliance):
    """One that posts to a server by HTTP."""

    path = ""
    settings: ClassVar[dict[str, Any]] = {}

    def peer(self) -> Restarting[Peer]:
        return Restarting(lambda port: peer(self.reply, port), self.settings_for, self.read)

    def settings_for(self, port: int) -> dict[str, Any]:
        return {"url": f"http://127.0.0.1:{port}{self.path}", **self.settings}

    def reply(self, posted: Posted) -> tuple[int, object]:
        return 200, {}

    def text(self, posted: Posted) -> str:
        return posted.body.decode()

    async def read(self, server: Peer) -> str:
        return "\n".join(map(self.text, server.taken))


class OfAws(Posting):
    """The servers of test_aws_sinks.py are strict; this one is quick."""

    @pytest.fixture(autouse=True)
    def _keys(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in KEYS.items():
            monkeypatch.setenv(name, value)

    def settings_for(self, port: int) -> dict[str, Any]:
        return {"endpoint": f"http://127.0.0.1:{port}", **self.settings}


class OnDisk(SinkCompliance):
    """One without another side."""

    has_peer = False

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.path = tmp_path / "kept"
        self.settings = {"path": str(self.path)}

    @asynccontextmanager
    async def peer(self) -> AsyncIterator[OnDisk]:
        yield self

    async def received(self) -> str:
        return self.path.read_text(errors="replace") if self.path.exists() else ""

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass


class TestFile(OnDisk):
    sink = File


class TestStore(OnDisk):
    sink = Store

    async def received(self) -> str:
        files = sorted(self.path.parent.glob("kept*"))
        return "".join(file.read_bytes().decode(errors="replace") for file in files)


class TestStdout(OnDisk):
    sink = Stdout

    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> Iterator[None]:
        self.path = tmp_path / "kept"
        self.settings = {}
        with self.path.open("w") as self.out:
            yield

    def _made(self, peer: object) -> Stdout:
        return Stdout(Stdout.Config(format="json"), self.out.fileno())


class TestHttps(SinkCompliance):
    sink = Https

    def peer(self) -> Restarting[Receiver]:
        return Restarting(
            lambda port: receiving(port=port),
            lambda port: {"url": f"http://localhost:{port}/", "compression": "zstd"},
            self.read,
        )

    async def read(self, server: Receiver) -> str:
        return "\n".join(each.body.decode() for each in server.requests)


class TestOtlp(Posting):
    sink = Otlp


class TestLoki(Posting):
    sink = Loki


class TestElasticsearch(Posting):
    sink = Elasticsearch

    def reply(self, posted: Posted) -> tuple[int, object]:
        items = [{"create": {"status": 201}} for _ in posted.body.splitlines()[::2]]
        return 200, {"took": 1, "errors": False, "items": items}


class TestWebhook(Posting):
    sink = Webhook


class TestS3(OfAws):
    sink = S3
    settings: ClassVar[dict[str, Any]] = {"bucket": "events"}

    def text(self, posted: Posted) -> str:
        return zstandard.ZstdDecompressor().decompress(posted.body).decode()


class TestCloudWatch(OfAws):
    sink = CloudWatch
    settings: ClassVar[dict[str, Any]] = {"group": "events"}


class TestEventBridge(OfAws):
    sink = EventBridge

    def reply(self, posted: Posted) -> tuple[int, object]:
        entries = [{"EventId": str(n)} for n in range(len(posted.json["Entries"]))]
        return 200, {"FailedEntryCount": 0, "Entries": entries}


class TestSecurityHub(OfAws):
    sink = SecurityHub
    settings: ClassVar[dict[str, Any]] = {"account": "123456789012"}

    def reply(self, posted: Posted) -> tuple[int, object]:
        count = len(posted.json["Findings"])
        return 200, {"FailedCount": 0, "SuccessCount": count, "FailedFindings": []}


class TestSyslog(SinkCompliance):
    sink = Syslog

    def peer(self) -> Restarting[Rsyslog]:
        return Restarting(
            lambda port: rsyslog(tcp=port),
            lambda port: {"address": f"tcp://127.0.0.1:{port}"},
            self.read,
        )

    async def read(self, server: Rsyslog) -> str:
        path = server.folder / "read"
        return path.read_text() if path.exists() else ""


class TestKafka(SinkCompliance):
    sink = Kafka

    def peer(self) -> Restarting[int]:
        return Restarting(
            broker,
            lambda port: {"brokers": [f"127.0.0.1:{port}"], "topic": TOPIC, "tls": False},
            self.read,
        )

    async def read(self, port: int) -> str:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=f"127.0.0.1:{port}", auto_offset_reset="earliest"
        )
        await consumer.start()
        try:
            consumer.assign([TopicPartition(TOPIC, number) for number in range(PARTITIONS)])
            text = ""
            while found := await consumer.getmany(timeout_ms=300):
                text += "".join(each.value.decode() for some in found.values() for each in some)
            return text
        finally:
            await consumer.stop()


class TestAlertmanager(SinkCompliance):
    sink = Alertmanager

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def peer(self) -> Restarting[str]:
        return Restarting(
            lambda port: alertmanager(self.folder, port),
            lambda port: {"url": f"http://127.0.0.1:{port}"},
            self.read,
        )

    async def read(self, url: str) -> str:
        return json.dumps(await alerts(url))


def test_every_sink_is_here() -> None:
    tested = {each.sink for each in globals().values() if hasattr(each, "sink")}
    assert tested >= set(SINKS.values())
