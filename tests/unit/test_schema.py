# SPDX-License-Identifier: Apache-2.0
"""The JSON Schema says what the stream shows: no less, and nothing else."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from functools import cache
from typing import Any

import fastjsonschema
import pytest

from nodeagent.encode import encode, timestamp
from nodeagent.event import EVENTS, AgentEvent, Container, EcsTask, Event, Incomplete
from nodeagent.finding import Finding
from nodeagent.ledger import KernelCounts, Ledger
from nodeagent.schema import KINDS, stream_schema
from tests.events import (
    MAKERS,
    TIME,
    a_connect,
    a_container,
    a_finding,
    a_fork,
    a_process,
    a_task,
    an_agent_event,
    an_exit,
    an_open,
    inside,
)


def closed(schema: Any) -> Any:
    """The same schema, but what it does not name is refused."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {key: closed(value) for key, value in schema.items()}
    if "properties" in strict and strict.get("type") == "object":
        strict["additionalProperties"] = False
    return strict


@cache
def strict(kind: str | None) -> Callable[[object], object]:
    validate: Callable[[object], object] = fastjsonschema.compile(closed(stream_schema(kind)))
    return validate


def check(item: Event | AgentEvent | Finding, kind: str | None = None) -> dict[str, Any]:
    """The line of the stream, when the strict schema takes it."""
    line: dict[str, Any] = json.loads(encode([item]))
    strict(kind)(line)
    return line


def a_ledger() -> Ledger:
    ledger = Ledger()
    ledger.kernel["open"] = KernelCounts(seen=3, sent=2, lost={"ring full": 1})
    ledger.decoded["open"] = 2
    ledger.withheld["open"] = 1
    ledger.failures["hash"] = 1
    ledger.sink("file").dropped["queue full"] = 7
    return ledger


def test_every_kind_has_a_maker_here() -> None:
    assert MAKERS.keys() == EVENTS.keys()


@pytest.mark.parametrize("kind", EVENTS)
def test_schema_of_a_kind_names_every_field_of_its_events(kind: str) -> None:
    line = check(MAKERS[kind](), kind)
    assert line["kind"] == kind


@pytest.mark.parametrize("kind", [kind for kind, event in EVENTS.items() if event.attempt])
def test_failed_and_incomplete_events_fit(kind: str) -> None:
    incomplete = Incomplete(truncated=("path",), unread={"path": "EFAULT"})
    line = check(MAKERS[kind](result=-2, incomplete=incomplete), kind)
    assert line["error"] == "ENOENT"
    assert line["truncated"] == ["path"]


@pytest.mark.parametrize("kind", EVENTS)
def test_an_event_of_a_process_that_is_hardly_known_fits(kind: str) -> None:
    check(MAKERS[kind](process=a_process(path="", login_uid=1000, session_id=3)), kind)


@pytest.mark.parametrize(
    "container",
    [
        a_container(ecs=EcsTask("arn:aws:ecs:eu-west-1:1:task/one", "one", "web")),
        a_container(pod=None, name="", image="", enrichment="unknown"),
        a_container(sandbox=True),
    ],
)
def test_where_a_process_runs_fits(container: Container) -> None:
    event = an_open(process=inside(a_process(), container))
    assert check(event, "open")["container"]["id"] == container.id


def test_numbers_without_a_name_fit() -> None:
    check(a_connect(family=99, type=99, protocol=99), "connect")
    check(a_fork(flags=0xFFFFFFFFFFFFFFFF), "fork")
    check(an_open(flags=1 << 40, device=0, mode=0), "open")
    check(an_exit(signal=99), "exit")


def test_unset_ids_fit() -> None:
    check(a_fork(child=a_task(login_uid=1000)), "fork")


@pytest.mark.parametrize(
    ("kind", "item"),
    [
        ("finding", a_finding()),
        ("agent.ledger", AgentEvent("agent.ledger", TIME, a_ledger().report())),
        ("agent.stop", AgentEvent("agent.stop", TIME, {"reason": "SIGINT", **a_ledger().report()})),
        (
            "agent.start",
            an_agent_event(
                version="0.1.0", kernel="6.1", machine="x86_64", kinds=[], previous=None
            ),
        ),
        (
            "agent.start",
            an_agent_event(
                **dict.fromkeys(("version", "kernel", "machine"), "one"),
                kinds=["exec"],
                previous={"ended": None, "alive": timestamp(TIME), "gap_seconds": 1.5},
            ),
        ),
        (
            "agent.node",
            an_agent_event(
                "agent.node",
                **dict.fromkeys(("name", "cluster", "machine_id", "boot_id"), "one"),
                **dict.fromkeys(("kernel", "machine", "version"), "two"),
                instance={
                    **dict.fromkeys(("account_id", "region", "availability_zone"), "a"),
                    **dict.fromkeys(("instance_id", "instance_type", "image_id"), "b"),
                    "tags": {"Name": "web"},
                    "cluster": "shop",
                },
                interfaces=[{"name": "lo", "mac": "", "up": True, "addresses": ["::1/128"]}],
            ),
        ),
        ("agent.hand_over", an_agent_event("agent.hand_over", pid=7, path="/usr/bin/nodeagent")),
        ("agent.clock", an_agent_event("agent.clock", stepped_seconds=-3600.0)),
        (
            "agent.coverage",
            an_agent_event(
                "agent.coverage",
                status="UNHEALTHY",
                issues=[{"code": "HOOK_SILENT", "subject": "open", "why": "nothing is seen"}],
                kinds={"open": {"family": "tracepoint", "programs": ["a"], "missing": {"b": "c"}}},
                why_no_trampolines=None,
            ),
        ),
    ],
)
def test_what_is_no_event_fits_too(kind: str, item: AgentEvent | Finding) -> None:
    assert check(item, kind)["kind"] == kind


@pytest.mark.parametrize("kind", EVENTS)
def test_the_schema_of_the_stream_takes_every_kind(kind: str) -> None:
    check(MAKERS[kind]())


@pytest.mark.parametrize("kind", EVENTS)
def test_an_event_of_another_kind_or_without_a_field_is_refused(kind: str) -> None:
    line = json.loads(encode([MAKERS[kind]()]))
    validate = fastjsonschema.compile(stream_schema(kind))
    for damaged in ({**line, "kind": "other"}, {**line, "cpu": "0"}, {**line, "process": {}}):
        with pytest.raises(fastjsonschema.JsonSchemaException):
            validate(damaged)
    del line["tid"]
    with pytest.raises(fastjsonschema.JsonSchemaException):
        validate(line)


@pytest.mark.parametrize("kind", KINDS)
def test_what_later_versions_add_is_no_error(kind: str) -> None:
    assert "additionalProperties" not in stream_schema(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_says_what_it_is(kind: str) -> None:
    schema = stream_schema(kind)
    assert schema["title"] == kind
    assert schema["description"].endswith(".")


def test_fields_are_described_by_the_sentence_under_them() -> None:
    properties = stream_schema("open")["properties"]
    assert (
        properties["path"]["description"]
        == "The real path of the file that was opened, through links and mounts."
    )
    assert properties["tid"]["description"] == "The thread that did it."


def test_without_sources_only_descriptions_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    with_sources = stream_schema("exec")

    def no_source(_: object) -> str:
        raise OSError("could not get source code")

    monkeypatch.setattr(inspect, "getsource", no_source)
    without = stream_schema("exec")
    assert without["properties"].keys() == with_sources["properties"].keys()
    assert "description" not in without["properties"]["filename"]
