# SPDX-License-Identifier: Apache-2.0
"""JSON Schema of what the stream shows: every kind of event, the agent's own, findings.

It is generated from the classes in event.py and the markers of their fields. Objects
are open, because a later version may add fields.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import pairwise
from types import NoneType
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints

import msgspec
from msgspec import structs

from nodeagent.coverage import ADVICE
from nodeagent.encode import HIDDEN, OPTIONAL
from nodeagent.event import (
    EVENTS,
    Ancestor,
    Brief,
    Container,
    Event,
    FileFacts,
    Incomplete,
    Instance,
    Interface,
    Process,
    ProcessFacts,
    Task,
)
from nodeagent.field import (
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
    Parsed,
    Path,
    Raw,
    Shared,
    Strings,
    Target,
    Text,
    Variables,
    Yes,
)
from nodeagent.finding import Finding, Severity
from nodeagent.ledger import KernelCounts, SinkCounts
from nodeagent.life import Previous

__all__ = ["DIALECT", "KINDS", "Schema", "described", "descriptions", "stream_schema", "summary"]

Schema = dict[str, Any]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

INTEGER: Final[Schema] = {"type": "integer"}
STRING: Final[Schema] = {"type": "string"}
STRINGS: Final[Schema] = {"type": "array", "items": STRING}
MAPPING: Final[Schema] = {"type": "object", "additionalProperties": STRING}
COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
ERROR: Final[Schema] = {**STRING, "description": "The name of the errno, when it failed."}


def _time(digits: int) -> Schema:
    pattern = rf"^\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{{digits}}}Z$"
    return {"type": "string", "format": "date-time", "pattern": pattern}


TIME: Final[Schema] = {**_time(9), "description": "RFC 3339 in UTC, with nanoseconds."}
UUID: Final[Schema] = {
    "type": "string",
    "format": "uuid",
    "description": "Of the process: the same in each event, in lineages and in a replay.",
}
START_TIME: Final[Schema] = {
    **_time(3),
    "description": "RFC 3339 in UTC; together with `pid` the identity of a process.",
}


def stream_schema(kind: str | None = None) -> Schema:
    """The schema of one kind of `KINDS`, or of any line of the stream."""
    if kind is not None:
        shared = _shared() if kind in EVENTS else {}
        return {"$schema": DIALECT, **_DEFINITIONS[kind](), **({"$defs": shared} if shared else {})}
    return {
        "$schema": DIALECT,
        "title": "A line of the stream",
        "oneOf": [{"$ref": f"#/$defs/{name}"} for name in KINDS],
        "$defs": {**_shared(), **{name: _DEFINITIONS[name]() for name in KINDS}},
    }


def _shared() -> dict[str, Schema]:
    """What events refer to."""
    return {"process": _process(), "container": _container()}


def descriptions(struct: type[msgspec.Struct]) -> dict[str, str]:
    """What stands under each field in the source; nothing where there is no source."""
    found: dict[str, str] = {}
    for owner in reversed(struct.__mro__):
        if issubclass(owner, msgspec.Struct) and owner is not msgspec.Struct:
            found |= _own_descriptions(owner)
    return found


def summary(struct: type) -> str:
    """The docstring of a class in one line; empty when it has none or was stripped."""
    return " ".join((struct.__doc__ or "").split())


def described(text: str | None) -> Schema:
    """The description of a schema, for one that has something to say."""
    return {"description": text} if text else {}


def _own_descriptions(struct: type[msgspec.Struct]) -> dict[str, str]:
    try:
        source = inspect.getsource(struct)
    except (OSError, TypeError):
        return {}
    definition = ast.parse(textwrap.dedent(source)).body[0]
    body = definition.body if isinstance(definition, ast.ClassDef) else []
    found = {}
    for field, text in pairwise(body):
        match field, text:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(sentence))),
            ):
                found[name] = " ".join(sentence.split())
    return found


def _choice(marker: Choice) -> Schema:
    names = sorted(set(marker.names.values()))
    nothing = [] if marker.unknown is None else [{"type": "null"}]
    return {"anyOf": [{"enum": names}, INTEGER, *nothing]}


def _bits(marker: Bits) -> Schema:
    names = sorted({*marker.names.values(), *marker.access})
    items = {"anyOf": [{"enum": names}, {"type": "string", "pattern": "^0x[0-9a-f]+$"}]}
    return {"type": "array" if marker.unknown is None else ["array", "null"], "items": items}


def _address(_: Address) -> Schema:
    port = {"type": "integer", "minimum": 0, "maximum": 0xFFFF}
    return {"anyOf": [_object({"address": STRING, "port": port}), {"type": "null"}]}


_MARKERS: Final[dict[type, Callable[[Any], Schema]]] = {
    Text: lambda _: STRING,
    Path: lambda _: STRING,
    Target: lambda _: STRING,
    Raw: lambda _: {**STRING, "contentEncoding": "base64"},
    Comm: lambda _: STRING,
    Strings: lambda _: STRINGS,
    Variables: lambda _: MAPPING,
    Address: _address,
    Yes: lambda _: {"type": "boolean"},
    Id: lambda _: {"type": ["integer", "null"]},
    Device: lambda _: {"type": "string", "pattern": "^[0-9]+:[0-9]+$"},
    Moment: lambda _: {"anyOf": [_time(9), {"type": "null"}]},
    Octal: lambda _: {"type": "string", "pattern": "^[0-7]{4}$"},
    Bits: _bits,
    Choice: _choice,
}

_TYPES: Final[dict[object, Schema]] = {
    bool: {"type": "boolean"},
    int: INTEGER,
    float: {"type": "number"},
    str: STRING,
    object: {},
}


def _value(hint: object) -> Schema:
    """The schema of a field of the type `hint`."""
    base, marker = _split(hint)
    if isinstance(marker, Found):
        found = next(option for option in get_args(base) if option is not NoneType)
        return {"anyOf": [_FOUND[found](), {"type": "null"}]}
    if marker is not None:
        return _MARKERS[type(marker)](marker)
    if base in _TYPES:
        return _TYPES[base]
    if isinstance(base, type) and issubclass(base, msgspec.Struct):
        return {**_object(_properties(base)), **described(summary(base))}
    items = get_args(base)
    if NoneType in items:
        options = [_value(item) for item in items if item is not NoneType]
        return {"anyOf": [*options, {"type": "null"}]}
    if get_origin(base) is tuple:
        if items[-1] is Ellipsis:
            return {"type": "array", "items": _value(items[0])}
        bounds = {"minItems": len(items), "maxItems": len(items)}
        return {"type": "array", "items": _value(items[0]), **bounds}
    # A mapping of names; a Counter has only its key as an argument.
    return {"type": "object", "additionalProperties": _value(items[1] if items[1:] else int)}


def _split(hint: object) -> tuple[object, object]:
    """The type of a field and the marker that says how it is shown."""
    if get_origin(hint) is not Annotated:
        return hint, None
    base, *markers = get_args(hint)
    shown = (each for each in markers if not isinstance(each, At | Parsed | Shared))
    return base, next(shown, None)


def _properties(struct: type[msgspec.Struct], hidden: Iterable[str] = ()) -> dict[str, Schema]:
    """The schema of each field of a class, with what the class says about it."""
    texts = descriptions(struct)
    hints = get_type_hints(struct, include_extras=True)
    return {
        name: {**_value(hints[name]), **described(texts.get(name))}
        for name in struct.__struct_fields__
        if name not in hidden and not isinstance(_split(hints[name])[1], Hidden)
    }


def _object(properties: Mapping[str, Schema], optional: Iterable[str] = ()) -> Schema:
    left_out = set(optional)
    return {
        "type": "object",
        "properties": dict(properties),
        "required": [name for name in properties if name not in left_out],
    }


def _brief() -> Schema:
    properties = {**_properties(Brief, hidden=("json",)), "uuid": UUID, "start_time": START_TIME}
    return _object(properties)


def _file() -> Schema:
    properties = {
        **_properties(FileFacts, hidden=("json",)),
        "sha256": {"type": ["string", "null"], "pattern": "^[0-9a-f]{64}$"},
        "modified_by": {"anyOf": [_brief(), {"type": "null"}]},
        "modified_at": {"anyOf": [_time(9), {"type": "null"}]},
    }
    return _object(properties, optional=("sha256_missing",))


_FOUND: Final[dict[object, Callable[[], Schema]]] = {Brief: _brief, FileFacts: _file}
"""What enrichers find, by type."""


def _ancestor() -> Schema:
    return _object({**_properties(Ancestor), "uuid": UUID, "start_time": START_TIME})


OPTIONAL_OF_PROCESS: Final = ("login_uid", "session_id", "user", "user_passwd")


def _process() -> Schema:
    """As `encode.process_json()` writes it."""
    task = _properties(Task)
    facts = _properties(ProcessFacts)
    process = descriptions(Process)
    properties = {
        "pid": task["pid"],
        "uuid": UUID,
        "start_time": START_TIME,
        "path": {
            **STRING,
            "description": "The executable; empty for kernel threads and when it is not known.",
        },
        **{name: task[name] for name in ("comm", "uid", "gid", "euid", "egid")},
        "cgroup_id": INTEGER,
        **{name: {**task[name], **INTEGER} for name in ("login_uid", "session_id")},
        "user": {**STRING, **described(process.get("user"))},
        "user_passwd": {
            "enum": ["host", "own root"],
            "description": "Whose passwd has this name.",
        },
        "namespace_pid": facts["namespace_pid"],
        "capabilities": {
            **facts["capabilities"],
            "type": "string",
            "pattern": "^[0-9a-f]{16}$",
        },
        "namespaces": facts["namespaces"],
        "kernel_thread": facts["kernel_thread"],
        "parent_pid": task["parent_pid"],
        "lineage": {
            "type": "array",
            "items": _ancestor(),
            "maxItems": 16,
            "description": "The parent first.",
        },
    }
    return {
        "description": "The process that did it, as it was then.",
        **_object(properties, optional=[*facts, *OPTIONAL_OF_PROCESS]),
    }


def _container() -> Schema:
    """What is not known of a container is left out."""
    properties = _properties(Container)
    given = [field.name for field in structs.fields(Container) if field.required]
    optional = [name for name in properties if name not in given]
    return {"description": summary(Container), **_object(properties, optional)}


ADDED: Final[Schema] = {
    "type": "object",
    "description": "What enrichers of others know about it, by their names.",
}
LAST: Final = ("added", "container", "node")
"""Members of any event that may be left out."""


def _event(event: type[Event]) -> Schema:
    common = _properties(Event, hidden=("task", "process", "incomplete", "added"))
    incomplete = _properties(Incomplete)
    hints = get_type_hints(event, include_extras=True)
    own = _properties(event, hidden=HIDDEN)
    result = {"result": common["result"]} if event.attempt else {}
    error = {"error": ERROR} if event.attempt else {}
    properties = {
        "kind": {"const": event.kind},
        "time": TIME,
        **{name: common[name] for name in ("sequence", "cpu", "tid")},
        **result,
        **own,
        **error,
        **incomplete,
        "added": ADDED,
        "process": {"$ref": "#/$defs/process"},
        "container": {"$ref": "#/$defs/container"},
        "node": {**STRING, "description": "The name of the node."},
    }
    empty = [name for name in own if isinstance(_split(hints[name])[1], OPTIONAL)]
    return {
        "title": event.kind,
        **described(summary(event)),
        **_object(properties, optional=[*empty, *error, *incomplete, *LAST]),
    }


def _finding() -> Schema:
    """As encode.py writes it."""
    fields = _properties(Finding)
    properties = {
        "kind": {"const": "finding"},
        "id": fields["id"],
        "type": fields["type"],
        "severity": {"enum": [severity.name.lower() for severity in Severity]},
        "title": fields["title"],
        "count": COUNT,
        "first_seen": TIME,
        "last_seen": TIME,
        **{name: {**fields[name], "type": "object"} for name in _PARTS_OF_FINDING},
        "mitre": STRINGS,
    }
    optional = ("mitre", *_PARTS_OF_FINDING)
    return {"title": "finding", **described(summary(Finding)), **_object(properties, optional)}


_PARTS_OF_FINDING: Final = ("resource", "process", "context", "action", "evidence")
"""Objects that are left out when they are empty."""


def _report() -> dict[str, Schema]:
    """As `Ledger.report()` makes it."""
    counts = {**_properties(KernelCounts), "decoded": COUNT, "bad": COUNT, "withheld": COUNT}
    counters = {"type": "object", "additionalProperties": COUNT}
    return {
        "kinds": {"type": "object", "additionalProperties": _object(counts, ("withheld",))},
        "sinks": {"type": "object", "additionalProperties": _value(SinkCounts)},
        "level": {
            "type": "integer",
            "minimum": 0,
            "maximum": 3,
            "description": "How much is shed, see agent.level.",
        },
        "dead": {**STRINGS, "description": "Kinds whose hooks saw nothing, see agent.canary."},
        "unanswered": {
            **COUNT,
            "description": "Events that went on without their container.",
        },
        "failures": {**counters, "description": "Enrichers and detectors that raised, by name."},
        "rules": {
            **counters,
            "description": "Rules of users by where they come from; refused ones are not used.",
        },
        "suppressed": {
            **counters,
            "description": "Findings that nobody wanted to see, by the reason that was given.",
        },
        "misses": {**counters, "description": "What enrichers were asked and did not know."},
        "cpu_seconds": {
            "type": "object",
            "additionalProperties": {"type": "number", "minimum": 0},
            "description": "CPU time of each stage of the pipeline and of each enricher.",
        },
    }


def _agent(what: str, description: str, properties: Mapping[str, Schema]) -> Schema:
    kind = f"agent.{what}"
    shown = {"kind": {"const": kind}, "time": TIME, **properties}
    return {"title": kind, "description": description, **_object(shown)}


def _agent_start() -> Schema:
    previous = {**_properties(Previous), "alive": TIME}
    properties: dict[str, Schema] = {
        "version": STRING,
        "kernel": STRING,
        "machine": STRING,
        "kinds": STRINGS,
        "previous": {
            "anyOf": [_object(previous), {"type": "null"}],
            "description": "The run before, null where none is known (`state.file`).",
        },
    }
    return _agent("start", "The agent sees events from now on.", properties)


def _agent_node() -> Schema:
    words = ("name", "cluster", "machine_id", "boot_id", "kernel", "machine", "version")
    instance = {"anyOf": [_value(Instance), {"type": "null"}]}
    interfaces = {"anyOf": [{"type": "array", "items": _value(Interface)}, {"type": "null"}]}
    properties = {
        **dict.fromkeys(words, STRING),
        "instance": instance,
        "interfaces": {**interfaces, "description": "Null as long as nobody has looked."},
    }
    return _agent(
        "node",
        "Which node this is; comes again when more is known.",
        properties,
    )


def _agent_coverage() -> Schema:
    coverage = _object(
        {
            "family": {"enum": ["trampoline", "tracepoint", "iterator", "cgroup", None]},
            "programs": {**STRINGS, "description": "The eBPF programs that serve it."},
            "missing": {**MAPPING, "description": "Programs without a place here, and why."},
        }
    )
    issue = _object(
        {
            "code": {"enum": list(ADVICE)},
            "subject": {**STRING, "description": "The kind or sink that it is about, or empty."},
            "why": STRING,
        }
    )
    properties: dict[str, Schema] = {
        "status": {"enum": ["HEALTHY", "UNHEALTHY"]},
        "issues": {"type": "array", "items": issue},
        "kinds": {"type": "object", "additionalProperties": coverage},
        "why_no_trampolines": {"type": ["string", "null"]},
    }
    return _agent(
        "coverage",
        "How each kind is seen on this kernel, and what is wrong; comes again when that changes.",
        properties,
    )


def _agent_file() -> Schema:
    facts = _file()["properties"]
    properties = {
        "path": STRING,
        "inode": INTEGER,
        "device": _MARKERS[Device](None),
        "file_bytes": COUNT,
        "file_changed": _time(9),
        "mount_namespace": INTEGER,
        "container_id": {"type": ["string", "null"]},
        **{name: facts[name] for name in ("sha256", "origin", "modified_by", "modified_at")},
        "sha256_missing": {"type": ["string", "null"]},
    }
    return _agent(
        "file",
        "What was pending in events of a file: those with the same inode, device, size, time of"
        " change and mount namespace.",
        properties,
    )


def _agent_level() -> Schema:
    level = {"type": "integer", "minimum": 0, "maximum": 3}
    properties: dict[str, Schema] = {
        "level": level,
        "name": {"enum": ["full", "aggregate", "sample", "essential"]},
        "was": {**level, "description": "The level before."},
        "why": STRING,
        "events_per_second": {
            "type": ["number", "null"],
            "description": "Of each kind in each cgroup, at level 2; it is adjusted silently.",
        },
        "throttled": {**COUNT, "description": "Events that were shed since the start."},
    }
    return _agent("level", "The agent sheds more or less to stay within its budget.", properties)


def _agent_canary() -> Schema:
    properties = {
        "dead": {
            **STRINGS,
            "description": "Kinds whose hooks see nothing of what is tried.",
        },
        "alive": {**COUNT, "description": "Kinds whose hooks do."},
    }
    return _agent("canary", "Hooks went dead, or came alive again.", properties)


def _agent_clock() -> Schema:
    stepped = {"type": "number", "description": "How far, negative: back."}
    return _agent(
        "clock",
        "The wall clock was stepped: times of what follows are by the new one.",
        {"stepped_seconds": stepped},
    )


def _agent_reload() -> Schema:
    changed = {**STRINGS, "description": "Keys of the configuration."}
    return _agent("reload", "The configuration was read again.", {"changed": changed})


def _agent_hand_over() -> Schema:
    properties = {
        "pid": COUNT,
        "path": {**STRING, "description": "Its program, empty when that is not known."},
    }
    return _agent(
        "hand_over",
        "Another agent takes over: for a minute at most nothing but the life of it is shown.",
        properties,
    )


def _agent_ledger() -> Schema:
    return _agent("ledger", "Every count there is, at an interval.", _report())


def _agent_stop() -> Schema:
    reason = {**STRING, "description": "Why the stream ended."}
    return _agent("stop", "The last line, with the final counts.", {"reason": reason, **_report()})


_DEFINITIONS: Final[dict[str, Callable[[], Schema]]] = {
    **{kind: partial(_event, event) for kind, event in EVENTS.items()},
    "finding": _finding,
    "agent.start": _agent_start,
    "agent.node": _agent_node,
    "agent.coverage": _agent_coverage,
    "agent.file": _agent_file,
    "agent.level": _agent_level,
    "agent.canary": _agent_canary,
    "agent.clock": _agent_clock,
    "agent.reload": _agent_reload,
    "agent.hand_over": _agent_hand_over,
    "agent.ledger": _agent_ledger,
    "agent.stop": _agent_stop,
}

KINDS: Final = tuple(_DEFINITIONS)
"""What `stream_schema()` knows: the `kind` of every line that there can be."""
