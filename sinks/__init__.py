# SPDX-License-Identifier: Apache-2.0
"""Where events go: one module per sink, imported when somebody asks for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Final

from nodeagent.sink import Sink

__all__ = ["SINKS", "SinkTypes"]


class SinkTypes(Mapping[str, type[Sink]]):
    """Classes of sinks by name; what a sink needs is in memory only where one is used."""

    def __init__(self, places: Mapping[str, str], others: Mapping[str, type[Sink]] = {}) -> None:
        """`places` are ours, as module:class; `others` come from elsewhere."""
        self._places = places
        self._others = others

    def __getitem__(self, name: str) -> type[Sink]:
        if name in self._others:
            return self._others[name]
        module, _, found = self._places[name].partition(":")
        # From the table below, never from input.
        sink: type[Sink] = getattr(import_module(module), found)
        return sink

    def __iter__(self) -> Iterator[str]:
        yield from self._places
        yield from self._others

    def __len__(self) -> int:
        return len(self._places) + len(self._others)

    def __contains__(self, name: object) -> bool:
        return name in self._places or name in self._others

    def beside(self, others: Mapping[str, type[Sink]]) -> SinkTypes:
        """The same and those that others bring, of other names."""
        return SinkTypes(self._places, others)


SINKS: Final = SinkTypes(
    {
        "stdout": "sinks.stdout:Stdout",
        "file": "sinks.file:File",
        "store": "sinks.store:Store",
        "https": "sinks.https:Https",
        "syslog": "sinks.syslog:Syslog",
        "kafka": "sinks.kafka:Kafka",
        "otlp": "sinks.otlp:Otlp",
        "loki": "sinks.loki:Loki",
        "elasticsearch": "sinks.elasticsearch:Elasticsearch",
        "webhook": "sinks.webhook:Webhook",
        "alertmanager": "sinks.alertmanager:Alertmanager",
        "s3": "sinks.s3:S3",
        "cloudwatch": "sinks.cloudwatch:CloudWatch",
        "eventbridge": "sinks.eventbridge:EventBridge",
        "securityhub": "sinks.securityhub:SecurityHub",
    }
)
"""The sinks that can be asked for, by name."""
