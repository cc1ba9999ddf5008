# SPDX-License-Identifier: Apache-2.0
"""Findings as alerts to the Alertmanager of Prometheus."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Final

import orjson
from msgspec import Meta, field

from nodeagent.encode import timestamp
from nodeagent.finding import Finding
from nodeagent.identity import Item, node_name
from nodeagent.sink import Batch, Sink
from sinks.http import Client, HttpConfig
from sinks.schema import json_lines

EVIDENCE_LENGTH: Final = 4000


class Alertmanager(Sink):
    """Posts alerts; the same finding is the same alert, which ends some time after the last one."""

    FINDINGS_ONLY = True

    class Config(HttpConfig, kw_only=True, frozen=True):
        """Where it is, and how alerts are labelled."""

        labels: dict[str, str] = field(default_factory=dict)
        """Label all alerts so, besides alertname, severity, node and finding."""
        resolve_seconds: Annotated[float, Meta(gt=0)] = 14_400.0
        """An alert ends this long after its finding was seen last."""

        def __post_init__(self) -> None:
            """Alerts have a form of their own."""
            if self.schema != "native" or self.remove:
                raise ValueError("schema and remove have no effect on alerts: leave them out")

    def __init__(self, config: Alertmanager.Config) -> None:
        """Nothing is opened yet."""
        self._config = config
        self._client = Client.of(config)
        self._url = f"{config.url.rstrip('/')}/api/v2/alerts"
        self._node = node_name()
        self.encoder = self._alerts

    async def open(self) -> None:
        """Read the certificates; the first connection is made with the first finding."""
        await self._client.open()

    async def send(self, batch: Batch) -> None:
        """Post all of them at once."""
        alerts = b"[" + b",".join(batch.lines(self._alerts)) + b"]"
        await self._client.post(self._url, alerts, {"Content-Type": "application/json"})

    async def close(self) -> None:
        """Hang up."""
        await self._client.close()

    def _alerts(self, findings: Iterable[Item]) -> bytes:
        """A line for each finding."""
        alerts = (self._alert(each) for each in findings if isinstance(each, Finding))
        return json_lines(alerts)

    def _alert(self, finding: Finding) -> dict[str, Any]:
        ends = finding.last_seen + int(self._config.resolve_seconds * 1e9)
        return {
            "labels": {
                "alertname": finding.type,
                "severity": finding.severity.name.lower(),
                "node": self._node,
                "finding": finding.id,
                **self._config.labels,
            },
            "annotations": {
                "summary": finding.title,
                "description": orjson.dumps(finding.details).decode()[:EVIDENCE_LENGTH],
                "count": str(finding.count),
            },
            "startsAt": timestamp(finding.first_seen),
            "endsAt": timestamp(ends),
        }
