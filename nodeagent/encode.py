# SPDX-License-Identifier: Apache-2.0
"""Events and findings as lines of JSON.

The code that writes an event of one class is compiled once from the markers of its
fields. What repeats from event to event (the process, an address, a set of flags)
is kept as ready JSON.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints

import msgspec
import orjson

from nodeagent.event import EVENTS, AgentEvent, Ancestor, Event, Process, ProcessFacts, Task
from nodeagent.field import (
    UNKNOWN_ID,
    Address,
    At,
    Bits,
    Choice,
    Device,
    Id,
    Octal,
    Path,
    Strings,
    Text,
    Variables,
    Yes,
)
from nodeagent.finding import Finding

__all__ = ["encode", "process_json", "timestamp"]

NANOSECONDS: Final = 1_000_000_000

COMMON: Final = ("time", "sequence", "cpu", "tid", "result", "process")
HIDDEN: Final = frozenset({"task", "incomplete", "facts", *COMMON})
"""Fields of events that are written by hand, or not at all: facts are part of the process."""

OPTIONAL: Final = (Text, Path, Strings, Variables)
"""Values of these are left out when empty."""


class _Clock:
    """The text of the current second, so that an event costs only its nanoseconds."""

    def __init__(self) -> None:
        self.second = -1
        self.prefix = ""

    def show(self, time_ns: int) -> str:
        second, nanosecond = divmod(time_ns, NANOSECONDS)
        if second != self.second:
            self.prefix = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second))
            self.second = second
        return f"{self.prefix}{nanosecond:09d}Z"


timestamp: Final = _Clock().show
"""Nanoseconds since 1970 as RFC 3339 in UTC with nanoseconds."""


class _Ready(dict[Any, orjson.Fragment]):
    """Ready JSON by value, made by `make` at the first use and bounded in number."""

    LIMIT = 4096

    def __init__(self, make: Callable[[Any], object]) -> None:
        super().__init__()
        self.make = make

    def __missing__(self, value: object) -> orjson.Fragment:
        if len(self) >= self.LIMIT:
            self.clear()
        ready = self[value] = orjson.Fragment(orjson.dumps(self.make(value)))
        return ready


def show_device(device: int) -> str:
    """The kernel's dev_t as major:minor."""
    return f"{device >> 20}:{device & 0xFFFFF}"


def show_octal(mode: int) -> str:
    """Permission bits without the file type."""
    return f"{mode & 0o7777:04o}"


def process_json(
    task: Task, path: str, facts: ProcessFacts | None, lineage: tuple[Ancestor, ...], boot_ns: int
) -> orjson.Fragment:
    """The process part of an event; `boot_ns` is the wall clock at boot, ns since 1970."""
    shown: dict[str, object] = {
        "pid": task.pid,
        "start_time": timestamp(boot_ns + task.start_time),
        "path": path,
        "comm": task.comm,
        "uid": task.uid,
        "gid": task.gid,
        "euid": task.euid,
        "egid": task.egid,
        "login_uid": None if task.login_uid == UNKNOWN_ID else task.login_uid,
        "session_id": None if task.session_id == UNKNOWN_ID else task.session_id,
        "cgroup_id": task.cgroup,
    }
    if facts is not None:
        shown["namespace_pid"] = facts.namespace_pid
        shown["capabilities"] = f"{facts.capabilities:016x}"
        shown["namespaces"] = msgspec.to_builtins(facts.namespaces)
        if facts.kernel_thread:
            shown["kernel_thread"] = True
    shown["parent_pid"] = task.parent_pid
    shown["lineage"] = [
        {
            "pid": ancestor.pid,
            "path": ancestor.path,
            "start_time": timestamp(boot_ns + ancestor.start_time),
        }
        for ancestor in lineage
    ]
    return orjson.Fragment(orjson.dumps(shown))


class _Compiler:
    """Writes the source of the functions that turn event classes into JSON.

    Only names of our own classes and fields enter the source, never input.
    """

    def __init__(self) -> None:
        self.names: dict[str, object] = {
            "dumps": orjson.dumps,
            "timestamp": timestamp,
            "NEWLINE": orjson.OPT_APPEND_NEWLINE,
            "errors": _Ready(error_name),
            "devices": _Ready(show_device),
            "modes": _Ready(show_octal),
        }

    def encoder(self, event: type[Event]) -> Callable[[Any], bytes]:
        """The function that writes one event of this class as a line."""
        hints = get_type_hints(event, include_extras=True)
        shown = [name for name in event.__struct_fields__ if name not in HIDDEN]
        always = [name for name in shown if not _is_optional(hints[name])]
        pairs = [f'"kind": "{event.kind}"', '"time": timestamp(e.time)']
        pairs += [f'"{name}": e.{name}' for name in ("sequence", "cpu", "tid")]
        if event.attempt:
            pairs.append('"result": e.result')
        pairs += [f'"{name}": {self.value(hints[name], f"e.{name}")}' for name in always]
        lines = [f"def encode_{event.kind}(e):", f"    shown = {{{', '.join(pairs)}}}"]
        for name in shown:
            if name not in always:
                value = self.value(hints[name], f"e.{name}")
                lines.append(f'    if e.{name}: shown["{name}"] = {value}')
        lines += [
            '    if e.result < 0: shown["error"] = errors[e.result]',
            "    if e.incomplete is not None:",
            '        if e.incomplete.truncated: shown["truncated"] = e.incomplete.truncated',
            '        if e.incomplete.unread: shown["unread"] = e.incomplete.unread',
            '    shown["process"] = e.process.json',
            "    return dumps(shown, option=NEWLINE)",
        ]
        return self._function(f"encode_{event.kind}", lines)

    def value(self, hint: object, source: str) -> str:
        """The expression that shows `source`, a value of the type `hint`."""
        base, marker = _marked(hint)
        match marker:
            case Bits() | Choice():
                table = f"table_{id(marker)}"
                self.names.setdefault(table, _Ready(marker.show))
                return f"{table}[{source}]"
            case Device():
                return f"devices[{source}]"
            case Octal():
                return f"modes[{source}]"
            case Id():
                return f"(None if {source} == {UNKNOWN_ID} else {source})"
            case Address():
                return (
                    f"(None if {source} is None else"
                    f' {{"address": {source}.address, "port": {source}.port}})'
                )
        if isinstance(base, type) and issubclass(base, msgspec.Struct):
            return f"{self._nested(base)}({source})"
        if get_origin(base) is tuple and marker is None:
            return f"[{self.value(get_args(base)[0], 'item')} for item in {source}]"
        return source

    def _nested(self, struct: type[msgspec.Struct]) -> str:
        """The name of the function that shows a struct inside an event."""
        name = f"show_{struct.__name__}"
        if name not in self.names:
            hints = get_type_hints(struct, include_extras=True)
            pairs = [
                f'"{field}": {self.value(hints[field], f"s.{field}")}'
                for field in struct.__struct_fields__
            ]
            self.names[name] = self._function(
                name, [f"def {name}(s):", f"    return {{{', '.join(pairs)}}}"]
            )
        return name

    def _function(self, name: str, lines: list[str]) -> Callable[[Any], Any]:
        exec("\n".join(lines), self.names)
        return self.names[name]  # type: ignore[return-value]


def error_name(result: int) -> str:
    """The name of a negative errno."""
    return errno.errorcode.get(-result, str(-result))


def _marked(hint: object) -> tuple[object, object]:
    """The type of a field and the marker that says how it is shown."""
    if get_origin(hint) is not Annotated:
        return hint, None
    base, *markers = get_args(hint)
    shown = [marker for marker in markers if not isinstance(marker, At)]
    return base, shown[0] if shown else None


def _is_optional(hint: object) -> bool:
    return isinstance(_marked(hint)[1], OPTIONAL)


def _encode_agent(event: AgentEvent) -> bytes:
    shown = {"kind": event.kind, "time": timestamp(event.time), **event.details}
    return orjson.dumps(shown, option=orjson.OPT_APPEND_NEWLINE)


def _encode_finding(finding: Finding) -> bytes:
    shown = {
        "kind": "finding",
        "type": finding.type,
        "severity": finding.severity.name.lower(),
        "title": finding.title,
        "count": finding.count,
        "first_seen": timestamp(finding.first_seen),
        "last_seen": timestamp(finding.last_seen),
        "evidence": finding.evidence,
    }
    return orjson.dumps(shown, option=orjson.OPT_APPEND_NEWLINE)


def _encoders() -> dict[type, Callable[[Any], bytes]]:
    compiler = _Compiler()
    encoders: dict[type, Callable[[Any], bytes]] = {
        event: compiler.encoder(event) for event in EVENTS.values()
    }
    return encoders | {AgentEvent: _encode_agent, Finding: _encode_finding}


_ENCODERS: Final = _encoders()


def encode(item: Event | AgentEvent | Finding) -> bytes:
    """`item` as one line of JSON with its newline."""
    return _ENCODERS[type(item)](item)
