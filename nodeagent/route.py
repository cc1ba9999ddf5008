# SPDX-License-Identifier: Apache-2.0
"""Which events and findings a sink wants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import translate
from re import Pattern
from re import compile as compiled
from typing import Final
from zlib import crc32

from nodeagent.event import HIGH_VALUE, Container, Event, Pod
from nodeagent.finding import Finding, Severity
from nodeagent.identity import Item
from nodeagent.sink import Batch, SinkConfig

__all__ = ["Selection"]

SAMPLES: Final = 1 << 32
"""Values of the checksum by which events are sampled."""

Wants = Callable[[Item], bool]


class Selection:
    """Made once from the settings of a sink; what is not set costs nothing."""

    def __init__(self, config: SinkConfig, *, findings_only: bool) -> None:
        """`findings_only` where that is the nature of the sink."""
        self._findings_only = findings_only or config.findings_only
        least = Severity[config.severity.upper()]
        self._least = max(least, Severity.LOW) if self._findings_only else least
        self._kinds = frozenset(config.kinds)
        self._namespaces = _Patterns(config.namespaces)
        self._labels = {name: _Patterns([value]) for name, value in config.pod_labels.items()}
        self._sampled_below = int(config.sample * SAMPLES)
        self._wants = self._rules()

    def wanted(self, batch: Batch) -> Batch | None:
        """What the sink wants of it; None when that is nothing."""
        if self._findings_only:
            batch = Batch((), batch.findings)
        if self._wants:
            chosen = [all(wants(item) for wants in self._wants) for item in batch.items]
            if not all(chosen):
                batch = batch.only(chosen)
        return batch if len(batch) else None

    def sampled(self, batch: Batch) -> Batch:
        """What is left of it when the rest of the frequent events is left out."""
        below = self._sampled_below
        if below == SAMPLES:
            return batch
        return batch.only([_is_precious(item) or _sample(item) < below for item in batch.items])

    def _rules(self) -> Sequence[Wants]:
        rules: list[Wants] = []
        if self._kinds:
            rules.append(self._is_of_kinds)
        if self._least:
            rules.append(self._is_severe)
        if self._namespaces or self._labels:
            rules.append(self._is_of_pods)
        return rules

    def _is_of_kinds(self, item: Item) -> bool:
        if isinstance(item, Event):
            return item.kind in self._kinds
        return ("finding" if isinstance(item, Finding) else "agent") in self._kinds

    def _is_severe(self, item: Item) -> bool:
        return not isinstance(item, Finding) or item.severity >= self._least

    def _is_of_pods(self, item: Item) -> bool:
        if isinstance(item, Finding):
            namespace = _namespace_of(item)
            return not self._namespaces or self._namespaces.fit(namespace)
        if not isinstance(item, Event):
            # What the agent says of itself, with the counts of what is missing.
            return True
        pod = _pod_of(item)
        return pod is not None and self._is_chosen(pod)

    def _is_chosen(self, pod: Pod) -> bool:
        if self._namespaces and not self._namespaces.fit(pod.namespace):
            return False
        return all(
            name in pod.labels and patterns.fit(pod.labels[name])
            for name, patterns in self._labels.items()
        )


class _Patterns:
    """Texts where * and ? stand for anything."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._pattern: Pattern[str] | None = None
        if texts:
            self._pattern = compiled("|".join(translate(text) for text in texts))

    def __bool__(self) -> bool:
        return self._pattern is not None

    def fit(self, text: str) -> bool:
        return self._pattern is not None and self._pattern.match(text) is not None


def _pod_of(event: Event) -> Pod | None:
    container: Container | None = event.process.container if event.process else None
    return container.pod if container else None


def _namespace_of(finding: Finding) -> str:
    details = finding.resource.get("kubernetesDetails")
    workload = details.get("kubernetesWorkloadDetails") if isinstance(details, dict) else None
    return str(workload.get("namespace", "")) if isinstance(workload, dict) else ""


def _is_precious(item: Item) -> bool:
    return not isinstance(item, Event) or item.kind in HIGH_VALUE


def _sample(item: Item) -> int:
    """The same for all events of a process, so that its story stays whole."""
    process = item.process if isinstance(item, Event) else None
    return crc32(process.uuid.encode()) if process is not None else 0
