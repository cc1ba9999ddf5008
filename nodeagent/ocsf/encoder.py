# SPDX-License-Identifier: Apache-2.0
"""One function per kind that writes an event as a line of OCSF, compiled from its rows."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final, get_type_hints

from nodeagent import __version__
from nodeagent.dns import DnsMessage
from nodeagent.encode import HIDDEN, Compiler, Encode, Ready, error_name, is_optional
from nodeagent.event import EVENTS, AgentEvent, Endpoint, Event, Fork, Process
from nodeagent.finding import Finding
from nodeagent.identity import agent_id, event_id
from nodeagent.names import DNS_RCODES, DNS_TYPES, PROTOCOLS
from nodeagent.ocsf import Version, shapes
from nodeagent.ocsf.rows import APPLICATION, FINDING, ROWS, Row
from nodeagent.ocsf.shapes import Shown, text

__all__ = ["make_encoder"]

PRODUCT: Final = {"name": "nodeagent", "vendor_name": "nodeagent", "version": __version__}
PROFILES: Final = ("host", "container")
INFORMATIONAL: Final = 1
SUCCESS: Final = 1
FAILURE: Final = 2
OTHER: Final = 99
KNOWN_RCODES: Final = range(25)

START: Final = 3
STOP: Final = 4
LIFE: Final = {"agent.start": START, "agent.stop": STOP}
"""Activities of an application, by the agent's own kinds; all others are 99."""


def make_encoder(version: Version) -> Encode:
    """The function that writes any items; compiling it takes some 50 ms."""
    encoders = _encoders(version)

    def encode(items: Iterable[Event | AgentEvent | Finding]) -> bytes:
        return "".join([encoders[type(item)](item) for item in items]).encode()

    return encode


def _encoders(version: Version) -> dict[type, Callable[[Any], str]]:
    agent = agent_id()
    writer = _Writer(version, agent)
    return {
        **{event: writer.encoder(event) for event in EVENTS.values()},
        AgentEvent: partial(_agent_event, version, agent),
        Finding: partial(_finding, version, agent),
    }


class _Processes(dict[bytes, Shown]):
    """What the events of a process share, by the JSON that they end with natively."""

    LIMIT = 4096

    def __init__(self, version: Version) -> None:
        super().__init__()
        self._version = version

    def of(self, process: Process) -> Shown:
        shown = self.get(process.json)
        if shown is None:
            if len(self) >= self.LIMIT:
                self.clear()
            shown = self[process.json] = shapes.show_process(process, self._version)
        return shown


class _Writer:
    """Writes the source of the functions; only our own tables and names enter it."""

    def __init__(self, version: Version, agent: str) -> None:
        self._version = version
        self._agent = agent
        self._compiler = Compiler()
        self._compiler.names |= {
            "processes": _Processes(version),
            "text": text,
            "file": shapes.file,
            "paths": shapes.PATHS,
            "links": Ready(lambda path: shapes.FILES[path, 7]),
            "sockets": Ready(lambda path: shapes.FILES[path, 5]),
            "connections": Ready(_connection),
            "end": _end,
            "known": lambda value, unknown: "" if value == unknown else value,
            "target": shapes.target,
            "child": _child,
            "opened": _opened,
            "question": _question,
            "answered": _answered,
            "rcode": _rcode,
            "status": Ready(_status),
        }

    def encoder(self, event: type[Event]) -> Callable[[Any], str]:
        """The function that writes one event of this class."""
        name = f"ocsf_{event.kind}"
        lines = [f"def {name}(e):", "    p = processes.of(e.process)"]
        for row in ROWS[event.kind]:
            lines.append(f"    if {row.when}:")
            lines += [f"        {line}" for line in self._row(event, row)]
        return self._compiler.function(name, lines)

    def _row(self, event: type[Event], row: Row) -> list[str]:
        newer = self._version != "1.3.0"
        members = {**row.members, **(row.newer if newer else {})}
        lines = ["more = ''"]
        for name, value in members.items():
            lines += [f"v = {value}", f"""if v != '': more += f',"{name}":{{v}}'"""]
        own = ""
        if row.process is not None:
            extra = row.process + (row.newer_process if newer else "")
            own = f',"process":{{{{{{p.members}}{{p.user}}{extra}}}}}'
        unmapped, optional = self._unmapped(event, row)
        lines += ["rest = ''", *optional]
        metadata = (
            text(
                {"version": self._version, "product": PRODUCT, "profiles": PROFILES}
                | {"event_code": event.kind, "log_name": "events"}
            )[:-1]
            .replace("{", "{{")
            .replace("}", "}}")
        )
        truncated = ""
        if newer:
            lines.append("cut = bool(e.incomplete and e.incomplete.truncated)")
            truncated = ',"is_truncated":{"true" if cut else "false"}'
        uid = f"{self._agent}-{event.kind}-{{e.time}}-{{e.tid}}"
        activity = f"{row.activity}"
        lines.append(f"a = {activity}")
        name = f',"activity_name":"{row.activity_name}"' if row.activity_name else ""
        status = "{status[e.result]}" if event.attempt else ""
        lines.append(
            f"""return f'{{{{"activity_id":{{a}}{name},"category_uid":{row.ocsf.category}"""
            f""","class_uid":{row.ocsf.uid},"type_uid":{{{row.ocsf.uid * 100} + a}}"""
            f""","severity_id":{INFORMATIONAL}{status},"time":{{e.time // 1000000}}"""
            f""","metadata":{metadata},"uid":"{uid}","sequence":{{e.sequence}}{truncated}}}}}"""
            f"""{{more}}{own}{{p.who}},"unmapped":{{{{{unmapped}{{rest}}{{p.beside}}}}}}}}}}\\n'"""
        )
        return lines

    def _unmapped(self, event: type[Event], row: Row) -> tuple[str, list[str]]:
        """The members that are always there, and the lines that add the others to `rest`."""
        hints = get_type_hints(event, include_extras=True)
        shown = [
            name for name in event.__struct_fields__ if name not in HIDDEN and name not in row.whole
        ]
        values = {name: self._compiler.value(hints[name], f"e.{name}") for name in shown}
        numbers = ("cpu", "tid", *(["result"] if event.attempt else []))
        always = [
            *(f'"{name}":{{e.{name}}}' for name in numbers),
            *(f'"{name}":{{{values[name]}}}' for name in shown if not is_optional(hints[name])),
        ]
        optional = [
            f"""if e.{name}: rest += f',"{name}":{{{values[name]}}}'"""
            for name in shown
            if is_optional(hints[name])
        ]
        optional.append("if e.incomplete is not None: rest += flaws(e.incomplete)")
        optional.append("if e.added is not None: rest += added(e.added)")
        return ",".join(always), optional


def _status(result: int) -> str:
    """The members that say whether a call failed."""
    if result >= 0:
        return f',"status_id":{SUCCESS}'
    if result == -errno.EINPROGRESS:
        return f',"status_id":0,"status_code":{text(error_name(result))}'
    return f',"status_id":{FAILURE},"status_code":{text(error_name(result))}'


def _opened(result: int) -> int:
    """The activity of a connection: Open, Fail or Refuse."""
    if result >= 0 or result == -errno.EINPROGRESS:
        return 1
    return 5 if result == -errno.ECONNREFUSED else 4


def _connection(key: tuple[int, int]) -> str:
    protocol, direction = key
    shown: dict[str, object] = {"direction_id": direction, "protocol_num": protocol}
    name = PROTOCOLS.show(protocol)
    if isinstance(name, str):
        shown["protocol_name"] = name.lower()
    return text(shown)


def _end(endpoint: Endpoint | None) -> str:
    return "" if endpoint is None else shapes.ENDPOINTS[endpoint]


def _child(fork: Fork) -> str:
    """The process that was made; it still runs the program of its parent."""
    parent = fork.process
    path = parent.path if parent is not None else ""
    return text(
        {
            "pid": fork.child.pid,
            "name": fork.child.comm or "unknown",
            "file": {"name": path.rpartition("/")[2] or "unknown", "path": path, "type_id": 1},
            "created_time": fork.time // 1_000_000,
            "namespace_pid": fork.facts.namespace_pid,
            "user": {"uid": str(fork.child.uid)},
        }
    )


def _question(message: DnsMessage | None) -> str:
    if message is None or message.question is None:
        return ""
    asked = message.question
    kind = str(DNS_TYPES.show(asked.type))
    return text({"hostname": asked.name, "type": kind, "packet_uid": message.id})


def _answered(message: DnsMessage | None) -> str:
    return shapes.answers(message.answers) if message is not None and message.answers else ""


def _rcode(message: DnsMessage | None) -> int | str:
    if message is None or not message.response:
        return ""
    known = message.rcode in KNOWN_RCODES
    name = str(DNS_RCODES.show(message.rcode))
    return f'{message.rcode if known else OTHER},"rcode":{text(name)}'


def _metadata(version: Version, agent: str, item: AgentEvent | Finding) -> dict[str, object]:
    return {"version": version, "product": PRODUCT, "uid": f"{agent}-{event_id(item)}"}


def _agent_event(version: Version, agent: str, event: AgentEvent) -> str:
    """The agent is an application; what it says of itself has no place but `unmapped`."""
    activity = LIFE.get(event.kind, OTHER)
    shown: dict[str, object] = {
        "activity_id": activity,
        "category_uid": APPLICATION.category,
        "class_uid": APPLICATION.uid,
        "type_uid": APPLICATION.uid * 100 + activity,
        "severity_id": INFORMATIONAL,
        "time": event.time // 1_000_000,
        "metadata": _metadata(version, agent, event) | {"event_code": event.kind},
        "app": PRODUCT,
        "unmapped": event.details,
    }
    if activity == OTHER:
        shown["activity_name"] = event.kind
    return f"{text(shown)}\n"


def _finding(version: Version, agent: str, finding: Finding) -> str:
    """Told again, it is an update of the same finding."""
    activity = 1 if finding.count == 1 else 2
    shown: dict[str, object] = {
        "activity_id": activity,
        "category_uid": FINDING.category,
        "class_uid": FINDING.uid,
        "type_uid": FINDING.uid * 100 + activity,
        "severity_id": finding.severity + 1,
        "status_id": 1,
        "time": finding.last_seen // 1_000_000,
        "count": finding.count,
        "message": finding.title,
        "metadata": _metadata(version, agent, finding) | {"event_code": finding.type},
        "finding_info": {
            "uid": f"{agent}-{finding.id}",
            "title": finding.title,
            "types": [finding.type],
            "first_seen_time": finding.first_seen // 1_000_000,
            "last_seen_time": finding.last_seen // 1_000_000,
        },
        "evidences": [{"data": finding.details}],
    }
    return f"{text(shown)}\n"
