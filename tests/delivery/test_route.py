# SPDX-License-Identifier: Apache-2.0
"""What of the stream a sink gets, by its settings."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nodeagent.errors import ConfigError
from nodeagent.event import Container, Event, Pod
from nodeagent.finding import Severity
from nodeagent.identity import what_of
from nodeagent.ledger import SinkCounts
from nodeagent.outlet import Outlet
from nodeagent.route import Selection
from nodeagent.sink import Batch, SinkConfig
from sinks.file import File
from tests.delivery.opened import opened
from tests.events import a_finding, a_process, an_agent_event, an_exec, an_open, inside

PRODUCTION = {"kubernetesDetails": {"kubernetesWorkloadDetails": {"namespace": "prod-a"}}}


def in_pod(make: Callable[..., Event], namespace: str, **labels: str) -> Event:
    pod = Pod("web-1", namespace, "uid", "sandbox", labels=labels)
    container = Container("c1", "containerd", "complete", pod=pod)
    return make(process=inside(a_process(), container))


BATCH = Batch(
    [
        an_agent_event(),
        an_exec(),
        an_open(),
        in_pod(an_exec, "prod-a", app="web"),
        in_pod(an_open, "prod-b", app="db"),
        in_pod(an_open, "test", app="web"),
    ],
    [
        a_finding(title="low", severity=Severity.LOW),
        a_finding(title="high", severity=Severity.HIGH, resource=PRODUCTION),
        a_finding(title="signal", severity=Severity.INFORMATIONAL),
    ],
)


def wanted(*, findings_only: bool = False, **settings: Any) -> list[int]:
    """Which items of BATCH a sink with these settings gets."""
    config = msgspec.convert(settings, SinkConfig)
    batch = Selection(config, findings_only=findings_only).wanted(BATCH)
    return [BATCH.items.index(item) for item in batch.items] if batch is not None else []


EVERYTHING = list(range(9))


@pytest.mark.parametrize(
    ("settings", "items"),
    [
        ({}, EVERYTHING),
        ({"kinds": ["exec"]}, [1, 3]),
        ({"kinds": ["open", "finding"]}, [2, 4, 5, 6, 7, 8]),
        ({"kinds": ["agent"]}, [0]),
        ({"kinds": ["mount"]}, []),
        ({"findings_only": True}, [6, 7]),
        ({"severity": "medium"}, [0, 1, 2, 3, 4, 5, 7]),
        ({"findings_only": True, "severity": "critical"}, []),
        ({"namespaces": ["prod-*"]}, [0, 3, 4, 7]),
        ({"namespaces": ["prod-b", "test"]}, [0, 4, 5]),
        ({"namespaces": ["prod-*"], "kinds": ["open"]}, [4]),
        ({"pod_labels": {"app": "web"}}, [0, 3, 5, 6, 7, 8]),
        ({"pod_labels": {"app": "*"}, "namespaces": ["t?st"]}, [0, 5]),
        ({"pod_labels": {"app": "web", "tier": "1"}}, [0, 6, 7, 8]),
    ],
    ids=str,
)
def test_what_a_sink_wants(settings: dict[str, Any], items: list[int]) -> None:
    assert wanted(**settings) == items


def test_sink_for_findings_gets_no_signals() -> None:
    assert wanted(findings_only=True) == [6, 7]
    assert wanted(findings_only=True, severity="high") == [7]


def test_sampling_leaves_whole_processes_out_and_counts_them() -> None:
    processes = [
        msgspec.structs.replace(a_process(), uuid=f"00000000-0000-0000-0000-{number:012}")
        for number in range(400)
    ]
    opens = [an_open(process=process, sequence=n) for process in processes for n in range(3)]
    execs = [an_exec(process=process) for process in processes]
    counts = SinkCounts()
    sink = Kept()
    outlet = Outlet("file", sink, SinkConfig(sample=0.25, queue_events=10_000), counts, print)
    outlet.offer(Batch([*opens, *execs], [a_finding()]))
    assert counts.routed == 1601
    assert counts.queued + counts.dropped["sampled"] == 1601
    (batch,) = outlet._queue
    kept = [item for item in batch.items if what_of(item) == "open"]
    assert 200 < len(kept) < 400
    assert len(kept) % 3 == 0
    assert len(batch) - len(kept) == 401


class Kept(File):
    def __init__(self) -> None:
        super().__init__(File.Config(path="/dev/null"))


async def test_members_are_removed_from_lines(tmp_path: Path) -> None:
    path = tmp_path / "events"
    batch = Batch([an_exec(("ls",)), an_open()], [a_finding()])
    removed = ["argv", "process.lineage", "evidence", "no.such.member"]
    async with opened(File, path=str(path), remove=removed) as sink:
        await sink.send(batch)
    execution, opening, finding = map(json.loads, path.read_text().splitlines())
    whole = [json.loads(line) for line in batch.lines()]
    assert "argv" not in execution
    assert execution["removed"] == ["argv", "process.lineage"]
    assert "lineage" not in opening["process"]
    assert opening["removed"] == ["process.lineage"]
    assert finding["process"] == whole[2]["process"]
    assert execution["process"]["path"] == whole[0]["process"]["path"]


@pytest.mark.parametrize("member", ["kind", "time", "id"])
def test_what_every_line_needs_stays(member: str) -> None:
    with pytest.raises((ConfigError, ValueError), match=f"remove: {member} has to stay"):
        File.Config(path="x", remove=[member])
