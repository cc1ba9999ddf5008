# SPDX-License-Identifier: Apache-2.0
"""Every event and finding is valid OCSF, in each version, and nothing of it is left out."""

from __future__ import annotations

import errno
import json
import socket
import stat
from collections.abc import Callable
from functools import cache
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

from nodeagent.dns import DnsAnswer, read_dns
from nodeagent.encode import encode
from nodeagent.event import EVENTS, AgentEvent, Endpoint, Event, Incomplete, Other
from nodeagent.finding import Finding, Severity
from nodeagent.ocsf import Version, ocsf_encoder
from nodeagent.ocsf.rows import ROWS
from tests.events import (
    MAKERS,
    a_bind,
    a_connect,
    a_container,
    a_dns,
    a_finding,
    a_fork,
    a_kill,
    a_listen,
    a_message,
    a_process,
    a_ptrace,
    a_setuid,
    an_accept,
    an_agent_event,
    an_exec,
    an_mmap,
    an_mprotect,
    an_open,
    inside,
)

VERSIONS: tuple[Version, ...] = get_args(Version)
FAILED = {"result": -errno.ECONNREFUSED}
UNIX = {"family": socket.AF_UNIX, "local": None, "remote": None, "protocol": 0}
NETLINK = UNIX | {"family": socket.AF_NETLINK}


@cache
def schemas(version: Version) -> OcsfJsonSchemaEmbedded:
    return OcsfJsonSchemaEmbedded(get_ocsf_schema(version=version))


@cache
def validator(version: Version, class_uid: int) -> Draft202012Validator:
    known = schemas(version)
    name = known.lookup_class_name_from_uid(class_uid)
    # Profiles that are applied; none for findings and for what the agent says of itself.
    profiles = ["host", "container"] if class_uid not in {2004, 6002} else []
    return Draft202012Validator(known.get_class_schema(class_name=name, profiles=profiles))


def valid(item: Event | AgentEvent | Finding, version: Version = "1.3.0") -> dict[str, Any]:
    """The item in OCSF, when the published schema takes it."""
    line = ocsf_encoder(version)([item])
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    shown: dict[str, Any] = json.loads(line)
    problems = list(validator(version, shown["class_uid"]).iter_errors(shown))
    assert not problems, problems
    assert shown["type_uid"] == shown["class_uid"] * 100 + shown["activity_id"]
    assert shown["metadata"]["version"] == version
    return shown


def test_every_kind_has_a_row() -> None:
    assert ROWS.keys() == EVENTS.keys()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize(
    "changes",
    [{}, {"result": -errno.EPERM}, {"incomplete": Incomplete(("argv",), {"cwd": "EFAULT"})}],
    ids=["done", "failed", "incomplete"],
)
def test_every_kind_is_valid(
    make: Callable[..., Event], changes: dict[str, Any], version: Version
) -> None:
    event = make(**changes)
    shown = valid(event, version)
    failed = event.attempt and event.result < 0
    assert shown.get("status_id", 1) == (2 if failed else 1)
    if failed:
        assert shown["status_code"] == "EPERM"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "item",
    [
        an_exec(process=inside(a_process(), a_container())),
        an_exec(process=inside(a_process(), a_container(name="", image="", pod=None))),
        an_exec(process=a_process(path="")),
        an_exec(argv=(), path="", filename='"\\\n\x00', cwd=""),
        an_open(path="", argument="no such\nfile", result=-errno.ENOENT, mode=0),
        an_open(created=True),
        an_open(mode=stat.S_IFIFO | 0o600),
        a_connect(**FAILED),
        a_connect(result=-errno.EINPROGRESS),
        a_connect(local=None),
        *(make(**UNIX | {"path": "/run/x.sock"}) for make in (a_connect, a_bind, a_listen)),
        *(make(**UNIX) for make in (a_connect, an_accept, a_bind)),
        *(make(**NETLINK) for make in (a_connect, an_accept, a_bind, a_listen)),
        a_dns(message=None),
        a_dns(local=None, remote=None),
        a_dns(
            incoming=True,
            message=a_message(response=True, rcode=3, answers=(), question=None),
        ),
        a_dns(
            incoming=True,
            message=a_message(
                response=True, rcode=4000, answers=(DnsAnswer("a.example", 1, 60, "192.0.2.1"),)
            ),
        ),
        an_mmap(path="", protection=7),
        an_mprotect(old_protection=0xFFFFFFFF),
        a_kill(target_process=None, target=Other(start_time=0, pid=0, passed_pid=-1)),
        a_ptrace(target_process=None),
        a_ptrace(request=4),
        a_fork(process=a_process(path="")),
        a_finding(),
        a_finding(count=7, severity=Severity.CRITICAL, evidence={"deep": {"er": [1, None]}}),
        *(an_agent_event(f"agent.{what}", n={"a": 1}) for what in ("start", "node", "stop")),
    ],
    ids=lambda item: f"{getattr(item, 'kind', 'finding')}",
)
def test_every_shape_is_valid(item: Event | AgentEvent | Finding, version: Version) -> None:
    valid(item, version)


@given(payload=st.binary(max_size=80))
def test_any_dns_message_is_valid(payload: bytes) -> None:
    valid(a_dns(payload=payload, message=read_dns(payload, 0, len(payload)), incoming=True))


def leaves(value: object) -> set[str]:
    """Every number and string in it, as text."""
    if isinstance(value, dict):
        return set().union(*map(leaves, value.values())) if value else set()
    if isinstance(value, list):
        return set().union(*map(leaves, value)) if value else set()
    return {str(value)}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_nothing_that_the_native_line_says_is_left_out(
    make: Callable[..., Event], version: Version
) -> None:
    event = make(process=inside(a_process(), a_container()))
    native = json.loads(encode([event]))
    # Shown as milliseconds, as profile of the whole, as the start of the id.
    for name in ("time", "kind"):
        del native[name]
    for each in (native["process"], *native["process"]["lineage"], native.get("target_process")):
        if each:
            del each["start_time"]
    shown = valid(event, version)
    missing = leaves(native) - leaves(shown) - {"False", "None"}
    # How OCSF says it: open(2) created the file, a number instead of flags.
    assert missing <= {"True"}


def test_process_of_an_exec_has_its_command_line_and_container() -> None:
    shown = valid(an_exec(process=inside(a_process(), a_container())))
    process = shown["process"]
    assert process["cmd_line"] == "ls -la /tmp"
    assert process["pid"] == shown["actor"]["process"]["pid"] == 1234
    assert process["container"]["uid"] == "c" * 64
    assert process["container"]["pod_uuid"] == "0a0a0a0a-0b0b-4c0c-8d0d-0e0e0e0e0e0e"
    assert process["lineage"] == ["/usr/lib/systemd/systemd"]
    assert process["parent_process"]["pid"] == 1
    assert shown["unmapped"]["container"]["pod"]["namespace"] == "shop"


def test_newer_version_has_more_places() -> None:
    shown = valid(an_exec(incomplete=Incomplete(("argv",), {})), "1.8.0")
    assert shown["process"]["working_directory"] == "/root"
    assert [each["path"] for each in shown["process"]["ancestry"]] == ["/usr/lib/systemd/systemd"]
    assert shown["launch_type_id"] == 3
    assert shown["metadata"]["is_truncated"] is True


@pytest.mark.parametrize(
    ("event", "type_uid"),
    [
        (an_exec(), 100701),
        (a_connect(), 400101),
        (a_connect(**FAILED), 400105),
        (a_connect(result=-errno.ETIMEDOUT), 400104),
        (a_connect(**UNIX | {"path": "/run/docker.sock"}), 100114),
        (a_listen(), 400107),
        (a_bind(), 400199),
        (an_open(), 100114),
        (an_open(created=True), 100101),
        (a_ptrace(request=4), 100704),
        (a_ptrace(), 100703),
        (a_setuid(), 100705),
        (an_mmap(), 100501),
        (an_mmap(path=""), 100401),
        (an_mprotect(), 100405),
        (an_mprotect(old_protection=5), 100402),
        (a_dns(), 400301),
        (a_dns(message=None), 400306),
    ],
)
def test_class_and_activity(event: Event, type_uid: int) -> None:
    assert valid(event)["type_uid"] == type_uid


def test_accepted_connection_comes_from_the_remote_end() -> None:
    shown = valid(an_accept(remote=Endpoint("192.0.2.9", 5050)))
    assert shown["src_endpoint"] == {"ip": "192.0.2.9", "port": 5050}
    assert shown["connection_info"]["direction_id"] == 1


def test_ids_of_a_finding_tell_its_updates_apart() -> None:
    first = valid(a_finding())
    again = valid(a_finding(count=2, last_seen=a_finding().last_seen + 1))
    assert (first["activity_id"], again["activity_id"]) == (1, 2)
    assert first["finding_info"]["uid"] == again["finding_info"]["uid"]
    assert first["metadata"]["uid"] != again["metadata"]["uid"]
    assert first["severity_id"] == 4


def test_node_is_the_device() -> None:
    process = a_process()
    process.json = process.json.replace(b'"lineage"', b'"x":1,"lineage"')[:-2] + b',"node":"n1"}\n'
    assert valid(an_exec(process=process))["device"]["hostname"] == "n1"


def test_unknown_object_with_no_place_stays_in_the_process() -> None:
    process = a_process()
    process.json = process.json.replace(b'"comm"', b'"hash":"sha256:00","comm"')
    assert valid(an_exec(process=process))["process"]["xattributes"]["hash"] == "sha256:00"
