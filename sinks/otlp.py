# SPDX-License-Identifier: Apache-2.0
"""Events as logs of OpenTelemetry, by OTLP over HTTP in JSON."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any, Final

import orjson

from nodeagent import __version__
from nodeagent.errors import Rejected
from nodeagent.event import Event
from nodeagent.finding import Finding, Severity
from nodeagent.identity import Item, agent_id, event_id, node_name, time_of, what_of
from nodeagent.sink import Batch, Sink
from sinks.http import Client, HttpConfig, in_parts, packed
from sinks.schema import encoder_of, json_lines

INFO: Final = (9, "INFO")
SEVERITIES: Final = {
    Severity.INFORMATIONAL: INFO,
    Severity.LOW: (10, "INFO2"),
    Severity.MEDIUM: (13, "WARN"),
    Severity.HIGH: (17, "ERROR"),
    Severity.CRITICAL: (21, "FATAL"),
}
"""severityNumber and its short name, by the severity of a finding."""


class Otlp(Sink):
    """Posts log records to a collector; the body of each is its line of JSON."""

    Config = HttpConfig

    def __init__(self, config: HttpConfig) -> None:
        """Nothing is opened yet."""
        self._body = encoder_of(config)
        self._encoder = self.encoder = self._records
        self._client = Client.of(config)
        self._url = f"{config.url.rstrip('/')}/v1/logs"
        self._agent = agent_id()
        self._resource = attributes(
            {
                "service.name": "nodeagent",
                "service.version": __version__,
                "service.instance.id": self._agent,
                "host.name": node_name(),
                "os.type": "linux",
            }
        )

    async def open(self) -> None:
        """Read the certificates; the first connection is made with the first batch."""
        await self._client.open()

    async def send(self, batch: Batch) -> None:
        """Post the batch, in parts if the collector finds it too large."""
        await in_parts(batch, self._post, "")

    async def close(self) -> None:
        """Hang up."""
        await self._client.close()

    async def _post(self, batch: Batch, _: str) -> None:
        records = [orjson.Fragment(line) for line in batch.lines(self._encoder)]
        scope = {"name": "nodeagent", "version": __version__}
        logs = [
            {
                "resource": {"attributes": self._resource},
                "scopeLogs": [{"scope": scope, "logRecords": records}],
            }
        ]
        body, more = await asyncio.to_thread(packed, orjson.dumps({"resourceLogs": logs}))
        headers = {"Content-Type": "application/json", **more}
        answer = await self._client.post(self._url, body, headers)
        refused, why = partial_success(answer.body)
        if refused:
            raise Rejected(why, refused)

    def _records(self, items: Iterable[Item]) -> bytes:
        """A log record for each item, as the collector takes it."""
        now = str(time.time_ns())
        found = list(items)
        lines = self._body(found).split(b"\n")
        records = (self._record(item, line, now) for item, line in zip(found, lines, strict=False))
        return json_lines(records)

    def _record(self, item: Item, line: bytes, now: str) -> dict[str, Any]:
        number, name = SEVERITIES[item.severity] if isinstance(item, Finding) else INFO
        shown: dict[str, str | int] = {"log.record.uid": f"{self._agent}-{event_id(item)}"}
        if isinstance(item, Event) and item.process is not None:
            shown["process.pid"] = item.process.task.pid
            shown["process.executable.path"] = item.process.path
            if (container := item.process.container) is not None:
                shown["container.id"] = container.id
                if container.pod is not None:
                    shown["k8s.pod.name"] = container.pod.name
                    shown["k8s.namespace.name"] = container.pod.namespace
        return {
            "timeUnixNano": str(time_of(item)),
            "observedTimeUnixNano": now,
            "severityNumber": number,
            "severityText": name,
            "eventName": f"nodeagent.{what_of(item)}",
            "body": {"stringValue": line.decode()},
            "attributes": attributes(shown),
        }


def attributes(values: dict[str, Any]) -> list[dict[str, Any]]:
    """Names and values as OTLP has them; 64-bit integers are strings in its JSON."""
    return [
        {
            "key": name,
            "value": {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value},
        }
        for name, value in values.items()
    ]


def partial_success(answer: bytes) -> tuple[int, str]:
    """How many records a collector that took the request refused, and why."""
    try:
        said = orjson.loads(answer or b"{}").get("partialSuccess") or {}
        return int(said.get("rejectedLogRecords", 0)), str(said.get("errorMessage", ""))[:200]
    except (orjson.JSONDecodeError, AttributeError, ValueError):
        # It said 2xx, and that counts.
        return 0, ""
