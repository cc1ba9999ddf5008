# SPDX-License-Identifier: Apache-2.0
"""Events and findings as lines of JSON.

The code that writes an event of one class is compiled once from the markers of its
fields. What repeats from event to event (the process, a path, an address, a set of
flags) is kept as ready JSON.
"""

from __future__ import annotations

import errno
import time
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from types import NoneType
from typing import Annotated, Any, Final, TypeVar, get_args, get_origin, get_type_hints

import msgspec
import orjson

from nodeagent.event import (
    EVENTS,
    AgentEvent,
    Ancestor,
    Brief,
    Container,
    Endpoint,
    Event,
    Incomplete,
    Process,
)
from nodeagent.field import (
    UNKNOWN_ID,
    Address,
    At,
    Bits,
    Choice,
    Comm,
    Device,
    Found,
    Hidden,
    Id,
    Moment,
    Octal,
    Path,
    Raw,
    Shared,
    Strings,
    Target,
    Text,
    Variables,
    Yes,
)
from nodeagent.finding import Finding

__all__ = [
    "Compiler",
    "Encode",
    "Ready",
    "brief",
    "container_json",
    "encode",
    "file_json",
    "is_optional",
    "lineage_json",
    "node_json",
    "process_json",
    "timestamp",
]

LAST_SECOND: Final = 253402300799
"""The end of the year 9999."""

COMMON: Final = ("time", "sequence", "cpu", "tid", "result", "process")
HIDDEN: Final = frozenset({"task", "incomplete", "added", "facts", "script_file", *COMMON})
"""Fields of events that are written by hand, or not at all: facts are part of the process, and
findings show who wrote a script."""

OPTIONAL: Final = (Text, Path, Target, Raw, Strings, Variables)
"""Values of these are left out when empty."""


T = TypeVar("T")

Encode = Callable[[Iterable[Event | AgentEvent | Finding]], bytes]
"""Makes a line with its newline of each item."""


class Ready(dict[Any, T]):
    """Ready JSON by value, made by `make` at the first use and bounded in number."""

    LIMIT = 4096

    def __init__(self, make: Callable[[Any], T]) -> None:
        """Nothing is made yet."""
        super().__init__()
        self.make = make

    def __missing__(self, value: object) -> T:
        if len(self) >= self.LIMIT:
            self.clear()
        ready = self[value] = self.make(value)
        return ready


def second_text(digits: str) -> str:
    """A second since 1970, given in digits, as RFC 3339 up to the decimal point.

    A time that no calendar has, from a damaged recording, is shown as the last there is.
    """
    second = min(max(int(digits or "0"), 0), LAST_SECOND)
    return time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second))


_SECONDS: Final = Ready(second_text)


def timestamp(time_ns: int) -> str:
    """Nanoseconds since 1970 as RFC 3339 in UTC with nanoseconds."""
    digits = str(time_ns).zfill(10)
    return f"{_SECONDS[digits[:-9]]}{digits[-9:]}Z"


def milliseconds(time_ns: int) -> str:
    """Nanoseconds since 1970 as RFC 3339 in UTC with milliseconds."""
    digits = str(time_ns).zfill(10)
    return f"{_SECONDS[digits[:-9]]}{digits[-9:-6]}Z"


def show_device(device: int) -> str:
    """The kernel's dev_t as major:minor."""
    return f"{device >> 20}:{device & 0xFFFFF}"


def show_octal(mode: int) -> str:
    """Permission bits without the file type."""
    return f"{mode & 0o7777:04o}"


def _json(value: object) -> str:
    return orjson.dumps(value).decode()


_TEXTS: Final = Ready(_json)
_CAPABILITIES: Final = Ready("{:016x}".format)
# Most processes of a machine are in the same few namespaces.
_NAMESPACES: Final = Ready(lambda namespaces: _json(msgspec.to_builtins(namespaces)))


def brief(pid: int, start_time: int, uuid: str, path: str, boot_ns: int) -> Brief:
    """Which process it is, by pid and start time; `boot_ns` as for `process_json`."""
    shown = {
        "pid": pid,
        "uuid": uuid,
        "path": path,
        "start_time": milliseconds(boot_ns + start_time),
    }
    return Brief(pid, path, start_time, uuid, _json(shown))


def file_json(
    sha256: str, missing: str, origin: str, modified_by: Brief | None, modified_at: int
) -> str:
    """What is found out about a file."""
    shown = f'"sha256":"{sha256}"' if sha256 else f'"sha256":null,"sha256_missing":"{missing}"'
    modifier = modified_by.json if modified_by is not None else "null"
    return (
        f'{{{shown},"origin":"{origin}","modified_by":{modifier}'
        f',"modified_at":{moment_json(modified_at)}}}'
    )


def node_json(name: str) -> str:
    """The member that names the node, with a comma in front; nothing without a name."""
    return f',"node":{_json(name)}' if name else ""


def container_json(container: Container | None) -> str:
    """The member that says where a process runs, with a comma in front; empty on the host."""
    if container is None:
        return ""
    return f',"container":{msgspec.json.encode(container).decode()}'


def lineage_json(lineage: tuple[Ancestor, ...], boot_ns: int) -> str:
    """The ancestors of a process, which its siblings share; `boot_ns` as for `process_json`."""
    shown = [
        {
            "pid": ancestor.pid,
            "uuid": ancestor.uuid,
            "path": ancestor.path,
            "start_time": milliseconds(boot_ns + ancestor.start_time),
            "namespace_pid": ancestor.namespace_pid,
            "uid": ancestor.uid,
            "euid": ancestor.euid,
        }
        for ancestor in lineage
    ]
    return _json(shown)


def process_json(process: Process, lineage: str, boot_ns: int, beside: str = "") -> bytes:
    """The end of the line of every event of a process, from the comma before it.

    `lineage` is that of the process as JSON; `boot_ns` is the wall clock at boot, ns since
    1970; `beside` are further members of the event, each with a comma in front.
    """
    task = process.task
    facts = process.facts
    more = ""
    if task.login_uid != UNKNOWN_ID:
        more = f',"login_uid":{task.login_uid},"session_id":{task.session_id}'
    if process.user:
        passwd = "host" if process.user_is_of_host else "own root"
        more += f',"user":{_TEXTS[process.user]},"user_passwd":"{passwd}"'
    if facts is not None:
        more += (
            f',"namespace_pid":{facts.namespace_pid}'
            f',"capabilities":"{_CAPABILITIES[facts.capabilities]}"'
            f',"namespaces":{_NAMESPACES[facts.namespaces]}'
        )
        if facts.kernel_thread:
            more += ',"kernel_thread":true'
    return (
        f',"process":{{"pid":{task.pid},"uuid":"{process.uuid}"'
        f',"start_time":"{milliseconds(boot_ns + task.start_time)}"'
        f',"path":{_TEXTS[process.path]}'
        f',"comm":{_TEXTS[task.comm]}'
        f',"uid":{task.uid},"gid":{task.gid},"euid":{task.euid},"egid":{task.egid}'
        f',"cgroup_id":{task.cgroup}{more}'
        f',"parent_pid":{task.parent_pid}'
        f',"lineage":{lineage}}}'
        f"{beside}}}\n"
    ).encode()


class Compiler:
    """Writes the source of the functions that turn event classes into JSON.

    An event is one bytes template, filled with numbers and ready pieces. Only names of
    our own classes and fields enter the source, never input.
    """

    def __init__(self) -> None:
        """What the source may name, beside the functions that are compiled."""
        self.names: dict[str, Any] = {
            "json": _json,
            "seconds": _SECONDS,
            "texts": _TEXTS,
            "endpoints": Ready(endpoint_json),
            "errors": Ready(lambda result: _json(error_name(result))),
            "devices": Ready(lambda device: _json(show_device(device))),
            "moments": Ready(moment_json),
            "modes": Ready(lambda mode: _json(show_octal(mode))),
            "flaws": _flaws,
            "added": added_json,
            "base64": lambda raw: _json(b64encode(raw).decode()),
        }

    def encoder(self, event: type[Event]) -> Callable[[Any], tuple[bytes, bytes]]:
        """The function that writes one event of this class: its own fields, then its process."""
        hints = get_type_hints(event, include_extras=True)
        shown = [name for name in event.__struct_fields__ if name not in HIDDEN]
        optional = [name for name in shown if is_optional(hints[name])]
        values = {name: self.value(hints[name], f"e.{name}") for name in shown}
        numbers = ("sequence", "cpu", "tid", *(["result"] if event.attempt else []))
        line = [
            f'"kind":"{event.kind}"',
            '"time":"{seconds[digits[:-9]]}{digits[-9:]}Z"',
            *(f'"{name}":{{e.{name}}}' for name in numbers),
            *(f'"{name}":{{{values[name]}}}' for name in shown if name not in optional),
        ]
        rest = [
            f"""    if e.{name}: more += f',"{name}":{{{values[name]}}}'""" for name in optional
        ]
        if event.attempt:
            rest.append("""    if e.result < 0: more += f',"error":{errors[e.result]}'""")
        return self.function(
            f"encode_{event.kind}",
            [
                f"def encode_{event.kind}(e):",
                "    digits = str(e.time)",
                "    more = ''",
                *rest,
                "    if e.incomplete is not None: more += flaws(e.incomplete)",
                "    if e.added is not None: more += added(e.added)",
                f"""    return f'{{{{{",".join(line)}{{more}}'.encode(), e.process.json""",
            ],
        )

    def value(self, hint: object, source: str) -> str:
        """The expression that shows `source`, a value of the type `hint`, as JSON."""
        base, marker = marked(hint)
        match marker:
            case Bits() | Choice():
                table = f"table_{id(marker)}"
                show = marker.show
                self.names.setdefault(table, Ready(lambda value: _json(show(value))))
                return f"{table}[{source}]"
            case Device():
                return f"devices[{source}]"
            case Moment():
                return f"moments[{source}]"
            case Octal():
                return f"modes[{source}]"
            case Id():
                return f"'null' if {source} == {UNKNOWN_ID} else {source}".replace("'", '"')
            case Shared():
                table = f"shared_{len(self.names)}"
                # Its own items are shown by a function like those of any struct.
                item = self.function(
                    f"show_{table}",
                    [f"def show_{table}(s):", f"    return {self._whole(base, 's')}"],
                )
                self.names[table] = Ready(item)
                return f"{table}[{source}]"
            case Yes():
                return f'"true" if {source} else "false"'
            case Address():
                return f"endpoints[{source}]"
            case Text() | Path() | Target() | Comm():
                return f"texts[{source}]"
            case Raw():
                return f"base64({source})"
            case Found():
                return f'{source}.json if {source} else "null"'
            case Strings() | Variables():
                return f"json({source})"
        return self._whole(base, source)

    def _whole(self, base: object, source: str) -> str:
        """The expression for a struct, a tuple of structs or a plain number; each may be None."""
        options = [option for option in get_args(base) if option is not NoneType]
        if NoneType in get_args(base):
            return f'"null" if {source} is None else {self._whole(options[0], source)}'
        if isinstance(base, type) and issubclass(base, msgspec.Struct):
            return f"{self._nested(base)}({source})"
        if get_origin(base) is tuple:
            item = self._whole(get_args(base)[0], "item")
            return f'"[" + ",".join([{item} for item in {source}]) + "]"'
        return source

    def _nested(self, struct: type[msgspec.Struct]) -> str:
        """The name of the function that shows a struct inside an event."""
        name = f"show_{struct.__name__}"
        if name not in self.names:
            hints = get_type_hints(struct, include_extras=True)
            fields = ",".join(
                f'"{field}":{{{self.value(hints[field], f"s.{field}")}}}'
                for field in struct.__struct_fields__
                if not isinstance(marked(hints[field])[1], Hidden)
            )
            self.function(name, [f"def {name}(s):", f"    return f'{{{{{fields}}}}}'"])
        return name

    def function(self, name: str, lines: list[str]) -> Callable[[Any], Any]:
        """Compile a function of this name, which others may call from then on."""
        # Compiled from our own class definitions alone, never from input.
        exec("\n".join(lines), self.names)  # noqa: S102
        return self.names[name]  # type: ignore[no-any-return]


def moment_json(time_ns: int) -> str:
    """A time, or null."""
    return f'"{timestamp(max(time_ns, 0))}"' if time_ns else "null"


def endpoint_json(endpoint: Endpoint | None) -> str:
    """An address and port, or null."""
    if endpoint is None:
        return "null"
    return _json({"address": endpoint.address, "port": endpoint.port})


def _flaws(incomplete: Incomplete) -> str:
    """The members that say what a record could not hold, each with a comma in front."""
    shown = ""
    if incomplete.truncated:
        shown += f',"truncated":{_json(incomplete.truncated)}'
    if incomplete.unread:
        shown += f',"unread":{_json(incomplete.unread)}'
    if incomplete.redacted:
        shown += f',"redacted":{_json(incomplete.redacted)}'
    return shown


def added_json(added: Mapping[str, object]) -> str:
    """The member with what others have added, with a comma in front; it may hold anything."""
    shown = {}
    for name, value in added.items():
        try:
            shown[name] = orjson.Fragment(orjson.dumps(value))
        except TypeError as error:
            shown[name] = orjson.Fragment(orjson.dumps({"error": f"no JSON: {error}"}))
    return f',"added":{_json(shown)}'


def error_name(result: int) -> str:
    """The name of a negative errno."""
    return errno.errorcode.get(-result, str(-result))


def marked(hint: object) -> tuple[object, object]:
    """The type of a field and the marker that says how it is shown."""
    if get_origin(hint) is not Annotated:
        return hint, None
    base, *markers = get_args(hint)
    shown = [marker for marker in markers if not isinstance(marker, At)]
    return base, shown[0] if shown else None


def is_optional(hint: object) -> bool:
    """A field of this type is left out when it is empty."""
    return isinstance(marked(hint)[1], OPTIONAL)


def _encode_agent(event: AgentEvent) -> tuple[bytes, bytes]:
    shown = {"kind": event.kind, "time": timestamp(event.time), **event.details}
    return orjson.dumps(shown, option=orjson.OPT_APPEND_NEWLINE), b""


def _encode_finding(finding: Finding) -> tuple[bytes, bytes]:
    shown = {
        "kind": "finding",
        "id": finding.id,
        "type": finding.type,
        "severity": finding.severity.name.lower(),
        "title": finding.title,
        "count": finding.count,
        "first_seen": timestamp(finding.first_seen),
        "last_seen": timestamp(finding.last_seen),
        **finding.details,
    }
    return orjson.dumps(shown, option=orjson.OPT_APPEND_NEWLINE), b""


def _encoders() -> dict[type, Callable[[Any], tuple[bytes, bytes]]]:
    compiler = Compiler()
    encoders = {event: compiler.encoder(event) for event in EVENTS.values()}
    return encoders | {AgentEvent: _encode_agent, Finding: _encode_finding}


_ENCODERS: Final = _encoders()


def encode(items: Iterable[Event | AgentEvent | Finding]) -> bytes:
    """Each item as a line of JSON with its newline."""
    encoders = _ENCODERS
    # The long part of a line is the process, which is shared and copied only here.
    return b"".join([part for item in items for part in encoders[type(item)](item)])
