# SPDX-License-Identifier: Apache-2.0
"""Where the fields of Sigma are in our events, and which events a log source stands for."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from nodeagent.detect.recent import Recent
from nodeagent.event import (
    Accept,
    Chmod,
    Chown,
    Connect,
    Dns,
    Event,
    Exec,
    Link,
    Open,
    Rename,
    Sendto,
    Symlink,
    Unlink,
)
from nodeagent.names import DNS_TYPES, PROTOCOLS

__all__ = [
    "CATEGORIES",
    "FIELDS",
    "KEY_FIELDS",
    "LOWER",
    "TEXT",
    "Memory",
    "Value",
    "View",
    "Watched",
]

LINES_LIMIT: Final = 4096
LINE_LENGTH: Final = 2048
NAMES_LIMIT: Final = 8192
WRITING: Final = os.O_WRONLY | os.O_RDWR
ADDRESS_TYPES: Final = frozenset({1, 28})
"""DNS records A and AAAA."""

Value = str | int | None
"""None: not known, or not there."""


class Memory:
    """What earlier events told that a later one does not: bounded, and only kept when asked for."""

    def __init__(self) -> None:
        self._lines: Recent[str, tuple[str, str]] = Recent(LINES_LIMIT)
        """Program and command line, by the UUID of the process."""
        self._names: Recent[str, str] = Recent(NAMES_LIMIT)
        """What was asked for when DNS answered with this address."""

    def learn_line(self, event: Exec) -> None:
        """Keep the command line of a program that runs now."""
        if event.process is not None:
            line = " ".join(event.argv)[:LINE_LENGTH]
            self._lines.put(event.process.uuid, (event.path, line))

    def learn_names(self, event: Dns) -> None:
        """Keep the name that these addresses were the answer to."""
        message = event.message
        if message is None or not message.response or message.question is None:
            return
        for answer in message.answers:
            if answer.type in ADDRESS_TYPES:
                self._names.put(answer.data, message.question.name)

    def line(self, uuid: str, path: str) -> str | None:
        """The command line of a process, as long as it runs this program."""
        known = self._lines.get(uuid)
        return known[1] if known is not None and known[0] == path else None

    def name(self, address: str) -> str | None:
        """By which name somebody asked for it."""
        return self._names.get(address)


TEXT: Final = "="
"""Behind the name of a field: its value as text."""
LOWER: Final = "~"
"""The same in lower case."""


class View(dict[str, Any]):
    """The fields of one event, each found out once: `view[NAME]`, `view[NAME + TEXT]`.

    Reads like a dictionary, so that a field that is known costs no call.
    """

    __slots__ = ("_fields", "event", "memory", "process")

    def __init__(
        self, event: Any, process: Any, fields: Mapping[str, Extract], memory: Memory
    ) -> None:
        self.event = event
        self.process = process
        self.memory = memory
        self._fields = fields

    @classmethod
    def of(cls, values: Mapping[str, Value]) -> View:
        """One that knows these fields, and no event."""
        view = cls(None, None, {}, Memory())
        view.update(values)
        return view

    def __missing__(self, name: str) -> Value:
        if name[-1] == LOWER:
            text = self[name[:-1] + TEXT]
            found = None if text is None else text.lower()
        elif name[-1] == TEXT:
            raw = self[name[:-1]]
            found = None if raw is None else str(raw)
        else:
            found = self._fields[name](self)
        self[name] = found
        return found


Extract = Callable[[View], Value]


def _line(seen: View) -> Value:
    process = seen.process
    known = seen.memory.line(process.uuid, process.path)
    # What a program forked of itself has its command line, too.
    return known if known is not None else _line_above(seen, process.path)


def _parent_line(seen: View) -> Value:
    lineage = seen.process.lineage
    return _line_above(seen, lineage[0].path) if lineage else None


def _line_above(seen: View, path: str) -> Value:
    for ancestor in seen.process.lineage:
        if ancestor.path != path:
            break
        known = seen.memory.line(ancestor.uuid, path)
        if known is not None:
            return known
    return None


def _user(seen: View) -> Value:
    uid = seen.process.task.uid
    return seen.process.user or ("root" if uid == 0 else str(uid))


def _address(side: str) -> Extract:
    def extract(seen: View) -> Value:
        end = getattr(seen.event, side)
        return None if end is None else end.address

    return extract


def _port(side: str) -> Extract:
    def extract(seen: View) -> Value:
        end = getattr(seen.event, side)
        return None if end is None else end.port

    return extract


def _is_v6(side: str) -> Extract:
    def extract(seen: View) -> Value:
        end = getattr(seen.event, side)
        return None if end is None else _said(":" in end.address)

    return extract


def _host(seen: View) -> Value:
    remote = seen.event.remote
    return None if remote is None else seen.memory.name(remote.address)


def _protocol(seen: View) -> Value:
    event = seen.event
    if event.protocol:
        return str(PROTOCOLS.show(event.protocol))
    return {socket.SOCK_STREAM: "tcp", socket.SOCK_DGRAM: "udp"}.get(event.type)


def _said(truth: bool) -> str:
    return "true" if truth else "false"


def _attribute(*places: str) -> Extract:
    """What is at the end of these attributes of the process; None where one of them is."""

    def extract(seen: View) -> Value:
        found: Any = seen.process
        for place in places:
            found = getattr(found, place)
            if found is None:
                return None
        return found or None

    return extract


def _query_name(seen: View) -> Value:
    question = seen.event.message.question
    return None if question is None else question.name


def _query_type(seen: View) -> Value:
    question = seen.event.message.question
    return None if question is None else str(DNS_TYPES.show(question.type))


OF_PROCESS: Final[Mapping[str, Extract]] = {
    "Image": lambda seen: seen.process.path or None,
    "CommandLine": _line,
    "ParentImage": lambda seen: (
        seen.process.lineage[0].path or None if seen.process.lineage else None
    ),
    "ParentCommandLine": _parent_line,
    "User": _user,
    "ProcessId": lambda seen: seen.process.task.pid,
    "LogonId": lambda seen: seen.process.task.login_uid,
    "ParentProcessId": lambda seen: seen.process.task.parent_pid,
    "ProcessGuid": lambda seen: seen.process.uuid,
    "ParentProcessGuid": lambda seen: (
        seen.process.lineage[0].uuid if seen.process.lineage else None
    ),
    "ContainerId": _attribute("container", "id"),
    "ContainerName": _attribute("container", "name"),
    "ContainerImage": _attribute("container", "image"),
    "PodName": _attribute("container", "pod", "name"),
    "PodNamespace": _attribute("container", "pod", "namespace"),
}
"""What all events have."""
OF_EXEC: Final[Mapping[str, Extract]] = {
    **OF_PROCESS,
    "Image": lambda seen: seen.event.path or None,
    "CommandLine": lambda seen: " ".join(seen.event.argv),
    "CurrentDirectory": lambda seen: seen.event.cwd or None,
}
OF_FILE: Final[Mapping[str, Extract]] = {
    **OF_PROCESS,
    "TargetFilename": lambda seen: seen.event.path or None,
}
OF_RENAME: Final[Mapping[str, Extract]] = {
    **OF_PROCESS,
    "TargetFilename": lambda seen: seen.event.new_path or None,
    "SourceFilename": lambda seen: seen.event.path or None,
}
OF_NETWORK: Final[Mapping[str, Extract]] = {**OF_PROCESS, "Protocol": _protocol}
OF_CONTACT: Final[Mapping[str, Extract]] = {
    **OF_NETWORK,
    "Initiated": lambda _: _said(True),
    "DestinationIp": _address("remote"),
    "DestinationPort": _port("remote"),
    "DestinationIsIpv6": _is_v6("remote"),
    "DestinationHostname": _host,
    "SourceIp": _address("local"),
    "SourcePort": _port("local"),
    "SourceIsIpv6": _is_v6("local"),
}
OF_ACCEPT: Final[Mapping[str, Extract]] = {
    **OF_NETWORK,
    "Initiated": lambda _: _said(False),
    "DestinationIp": _address("local"),
    "DestinationPort": _port("local"),
    "DestinationIsIpv6": _is_v6("local"),
    # Nobody asked for the own address.
    "DestinationHostname": lambda _: None,
    "SourceIp": _address("remote"),
    "SourcePort": _port("remote"),
    "SourceIsIpv6": _is_v6("remote"),
}
OF_QUERY: Final[Mapping[str, Extract]] = {
    **OF_PROCESS,
    "QueryName": _query_name,
    "QueryType": _query_type,
    "record_type": _query_type,
}
OF_ANSWER: Final[Mapping[str, Extract]] = {
    **OF_QUERY,
    "QueryResults": lambda seen: ";".join(each.data for each in seen.event.message.answers),
    "QueryStatus": lambda seen: seen.event.message.rcode,
}


def _worked(event: Event) -> bool:
    return event.result >= 0


def _writes(event: Open) -> bool:
    return event.result >= 0 and bool(event.created or event.flags & WRITING)


def _changes(event: Open) -> bool:
    return event.result >= 0 and not event.created and bool(event.flags & WRITING)


def _has_ends(event: Any) -> bool:
    return event.remote is not None


def _is_question(event: Dns) -> bool:
    return not event.incoming and event.message is not None and not event.message.response


def _is_answer(event: Dns) -> bool:
    return event.incoming and event.message is not None and event.message.response


class Watched(msgspec.Struct, frozen=True):
    """Events of one kind that a log source stands for, and their fields."""

    kind: type[Event]
    counts: Callable[[Any], bool]
    fields: Mapping[str, Extract]


CATEGORIES: Final[Mapping[str, tuple[tuple[Watched, ...], ...]]] = {
    "process_creation": ((Watched(Exec, _worked, OF_EXEC),),),
    "file_event": (
        (
            Watched(Open, _writes, OF_FILE),
            Watched(Rename, _worked, OF_RENAME),
            Watched(Link, _worked, OF_FILE),
            Watched(Symlink, _worked, OF_FILE),
        ),
    ),
    "file_change": (
        (
            Watched(Open, _changes, OF_FILE),
            Watched(Chmod, _worked, OF_FILE),
            Watched(Chown, _worked, OF_FILE),
        ),
    ),
    "file_access": ((Watched(Open, _worked, OF_FILE),),),
    "file_delete": ((Watched(Unlink, _worked, OF_FILE),),),
    "file_rename": ((Watched(Rename, _worked, OF_RENAME),),),
    "network_connection": (
        (
            Watched(Connect, _has_ends, OF_CONTACT),
            Watched(Sendto, _has_ends, OF_CONTACT),
            Watched(Accept, _has_ends, OF_ACCEPT),
        ),
    ),
    "dns_query": (
        (Watched(Dns, _is_question, OF_QUERY),),
        (Watched(Dns, _is_answer, OF_ANSWER),),
    ),
}
"""What each category of a log source stands for; of several ways the first that has all fields."""

FIELDS: Final = {
    category: frozenset(name for way in ways for each in way for name in each.fields)
    for category, ways in CATEGORIES.items()
}
"""The fields that a rule of each category may use."""

KEY_FIELDS: Final[Mapping[type[Event], str]] = {Open: "TargetFilename"}
"""The field that tells most about an event of a kind; of others it is Image."""
