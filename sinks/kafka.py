# SPDX-License-Identifier: Apache-2.0
"""Events to a topic of Kafka, each a record of its own."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal
from zlib import crc32

from msgspec import Meta

from nodeagent.errors import Rejected, Retry, StartError
from nodeagent.identity import agent_id
from nodeagent.sink import Batch, Sink
from sinks.http import TOKEN_BYTES, ConnectConfig, tls_context
from sinks.schema import encoder_of

if TYPE_CHECKING:
    from aiokafka import AIOKafkaProducer

REQUEST_BYTES: Final = 1_000_000
"""Brokers take up to 1 MiB unless they are told otherwise."""
PATIENCE: Final = 0.8
"""Part of the outlet's timeout after which the producer gives up, so that it does so first."""


class Kafka(Sink):
    """Produces to one partition of a topic, so that the events of a node stay in order.

    Each record has the agent's id as its key. All replicas in sync have a record before it
    counts as delivered; after a broken connection records may come twice.
    """

    NEEDS_FACTS = True

    class Config(ConnectConfig, kw_only=True, frozen=True):
        """Which brokers and topic, and how the agent shows who it is."""

        brokers: Annotated[list[Annotated[str, Meta(pattern=r"^[^\s:]+:\d+$")]], Meta(min_length=1)]
        """Some of them as HOST:PORT; they tell about the others."""
        topic: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,249}$")]
        """Where to produce; it has to exist, unless the brokers make what is missing."""
        tls: bool = True
        """Speak TLS with the brokers."""
        sasl: Literal["none", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "none"
        """How to log in."""
        username: str = ""
        """Who logs in."""
        password_file: str = ""
        """Where the password is; read at each connect."""
        compression: Literal["gzip", "none"] = "gzip"
        """Of records."""

    def __init__(self, config: Kafka.Config) -> None:
        """Nothing is opened yet."""
        self._config = config
        self.encoder = self._encode = encoder_of(config)
        self._key = agent_id().encode()
        self._producer: AIOKafkaProducer | None = None

    async def open(self) -> None:
        """Check the settings; the first connection is made with the first batch."""
        config = self._config
        if config.proxy or config.server_name:
            raise StartError("proxy and server_name mean nothing to Kafka: leave them out")
        if config.sasl != "none" and not (config.username and config.password_file):
            raise StartError(f"sasl = {config.sasl!r} needs username and password_file")
        if config.sasl == "PLAIN" and not config.tls:
            raise StartError("sasl = 'PLAIN' shows the password to the network: set tls = true")
        try:
            self._password()
        except OSError as error:
            raise StartError(
                f"password_file {config.password_file} cannot be read: {error.strerror}"
            ) from error
        tls_context(config)
        try:
            import aiokafka  # noqa: F401, PLC0415
        except ImportError as error:
            raise StartError(
                "the kafka sink needs aiokafka: install it with `pip install nodeagent[kafka]`"
            ) from error
        # It tells of each try by itself, once for each broker.
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)

    async def send(self, batch: Batch) -> None:
        """Produce all records, and wait until the brokers have them."""
        from aiokafka.errors import (  # noqa: PLC0415
            KafkaError,
            MessageSizeTooLargeError,
            RecordListTooLargeError,
        )

        try:
            producer = await self._connected()
            topic = self._config.topic
            partitions = sorted(await producer.partitions_for(topic))
            if not partitions:
                raise Retry(f"topic {topic} does not exist")
            partition = partitions[crc32(self._key) % len(partitions)]
            for part in self._parts(producer, batch):
                await (await producer.send_batch(part, topic, partition=partition))
        except (MessageSizeTooLargeError, RecordListTooLargeError) as error:
            raise Rejected(f"the brokers take no records of this size: {error}") from error
        except (KafkaError, OSError) as error:
            await self.close()
            raise Retry(f"{self._config.brokers[0]}: {error or type(error).__name__}") from error

    async def close(self) -> None:
        """Hang up."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()

    def _parts(self, producer: AIOKafkaProducer, batch: Batch) -> Iterator[Any]:
        """The records, as many at a time as fit in a request."""
        part = producer.create_batch()
        for facts, line in zip(batch.facts, batch.lines(self._encode), strict=True):
            record = {"key": self._key, "value": line, "timestamp": facts.time // 1_000_000}
            if part.append(**record) is None:
                yield part
                part = producer.create_batch()
                if part.append(**record) is None:
                    raise Rejected(f"an event of {len(line)} bytes fits in no request")
        yield part

    async def _connected(self) -> AIOKafkaProducer:
        if self._producer is not None:
            return self._producer
        from aiokafka import AIOKafkaProducer  # noqa: PLC0415

        config = self._config
        login = {} if config.sasl == "none" else {
            "sasl_mechanism": config.sasl,
            "sasl_plain_username": config.username,
            "sasl_plain_password": self._password(),
        }  # fmt: skip
        producer = AIOKafkaProducer(
            bootstrap_servers=config.brokers,
            client_id="nodeagent",
            acks="all",
            compression_type=None if config.compression == "none" else config.compression,
            max_batch_size=REQUEST_BYTES,
            max_request_size=REQUEST_BYTES,
            request_timeout_ms=int(config.timeout_seconds * PATIENCE * 1000),
            security_protocol=("SASL_" if login else "") + ("SSL" if config.tls else "PLAINTEXT"),
            ssl_context=tls_context(config) if config.tls else None,
            **login,
        )
        try:
            await producer.start()
        except BaseException:
            await producer.stop()
            raise
        self._producer = producer
        return producer

    def _password(self) -> str:
        if not self._config.password_file:
            return ""
        with Path(self._config.password_file).open("rb") as file:
            return file.read(TOKEN_BYTES).decode("utf-8", "replace").strip()
