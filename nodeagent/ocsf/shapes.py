# SPDX-License-Identifier: Apache-2.0
"""The objects of OCSF (process, file, endpoint …), made of ours as ready JSON."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

import orjson

from nodeagent.encode import Ready
from nodeagent.event import Brief, Endpoint, Other, Process
from nodeagent.names import DNS_TYPES
from nodeagent.ocsf import Version

LINUX: Final = {"name": "Linux", "type_id": 200}

FILE_TYPE_IDS: Final = {
    stat.S_IFREG: 1,
    stat.S_IFDIR: 2,
    stat.S_IFCHR: 3,
    stat.S_IFBLK: 4,
    stat.S_IFSOCK: 5,
    stat.S_IFIFO: 6,
    stat.S_IFLNK: 7,
}
"""file.type_id by the type bits of the mode."""

TAKEN: Final = frozenset(
    {"pid", "uuid", "start_time", "path", "comm", "uid", "user", "namespace_pid", "lineage"}
)
"""Members of our process that have a place in theirs; all others are its xattributes."""


class Shown(NamedTuple):
    """What a process adds to its events, made once for all of them."""

    members: str
    """Of the object `process`, without braces and user."""
    user: str
    """Of the object `process`, with a comma in front."""
    who: str
    """The members `actor` and `device`, each with a comma in front."""
    beside: str
    """What has no place in OCSF, as members of `unmapped`, each with a comma in front."""


def text(value: object) -> str:
    """Any value as JSON."""
    return orjson.dumps(value).decode()


def milliseconds(moment: str) -> int:
    """RFC 3339 as milliseconds since 1970."""
    return round(datetime.fromisoformat(moment).timestamp() * 1000)


def show_process(process: Process, version: Version) -> Shown:
    """What the events of this process share, of the JSON that they all end with."""
    line = orjson.loads(b"{" + process.json[1:])
    ours = line.pop("process")
    node = line.pop("node", "")
    # Theirs has no users, and in 1.3.0 nothing but paths.
    line["lineage"] = ours["lineage"]
    members, user = _process(ours, line.get("container"), version)
    own = _object(members)
    shown_user = f',"user":{text(user)}'
    device = {"type_id": 0, "os": LINUX, "hostname": node or "unknown"}
    return Shown(
        own,
        shown_user,
        f',"actor":{{"process":{{{own}{shown_user}}}}},"device":{text(device)}',
        "".join(f",{text(name)}:{text(value)}" for name, value in line.items()),
    )


def _process(
    ours: Mapping[str, Any], container: Mapping[str, Any] | None, version: Version
) -> tuple[dict[str, Any], dict[str, str]]:
    lineage = ours["lineage"]
    members: dict[str, Any] = {
        "pid": ours["pid"],
        "uid": ours["uuid"],
        "name": _name(ours["path"]) or ours["comm"],
        "file": _file(ours["path"] or ours["comm"]),
        "created_time": milliseconds(ours["start_time"]),
        "lineage": [each["path"] for each in lineage],
        "xattributes": {name: value for name, value in ours.items() if name not in TAKEN},
    }
    if "namespace_pid" in ours:
        members["namespace_pid"] = ours["namespace_pid"]
    if container is not None:
        members["container"] = _container(container, version)
    if lineage:
        members["parent_process"] = _ancestor(lineage[0]) | {"file": _file(lineage[0]["path"])}
    if version != "1.3.0":
        members["path"] = ours["path"]
        members["ancestry"] = [_ancestor(each) | {"path": each["path"]} for each in lineage]
        # Its successor is there.
        del members["lineage"]
    user = {"uid": str(ours["uid"])}
    if name := ours.get("user"):
        user["name"] = name
    return members, user


def _ancestor(ours: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "pid": ours["pid"],
        "uid": ours["uuid"],
        "name": _name(ours["path"]),
        "created_time": milliseconds(ours["start_time"]),
    }


def _container(ours: Mapping[str, Any], version: Version) -> dict[str, Any]:
    """As far as OCSF has places; the whole is in `unmapped`, since pods have none."""
    shown: dict[str, Any] = {"uid": ours["id"], "runtime": ours["runtime"]}
    if name := ours.get("name"):
        shown["name"] = name
    if image := ours.get("image"):
        shown["image"] = {"name": image, "uid": ours.get("image_digest") or image}
    if pod := ours.get("pod"):
        shown["pod_uuid"] = pod["uid"]
        shown["orchestrator"] = "kubernetes"
        if version != "1.3.0":
            shown["labels"] = [f"{name}={value}" for name, value in pod["labels"].items()]
    return shown


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _file(path: str, type_id: int = 1) -> dict[str, Any]:
    # A name is required, but what could not be read has none.
    return {"name": _name(path) or path or "unknown", "path": path, "type_id": type_id}


def _object(members: Mapping[str, Any]) -> str:
    return text(members)[1:-1]


FILES: Final = Ready(lambda key: text(_file(*key)))
"""By path and type_id."""

PATHS: Final = Ready(lambda path: text(_file(path)))
"""Files whose type is not known from more than the call, by path."""


def file(path: str, mode: int) -> str:
    """A file of which the mode is known; without type bits it is unknown what it is."""
    return FILES[path, FILE_TYPE_IDS.get(stat.S_IFMT(mode), 0)]


def show_endpoint(endpoint: Endpoint) -> str:
    """An address and port."""
    return text({"ip": endpoint.address, "port": endpoint.port})


ENDPOINTS: Final = Ready(show_endpoint)


def target(other: Other, found: Brief | None) -> str:
    """Another process that something was done to."""
    if found is None:
        return text({"pid": other.pid or other.passed_pid})
    # It was made of these parts, start time included.
    start_time = orjson.loads(found.json)["start_time"]
    return text(
        {
            "pid": found.pid,
            "uid": found.uuid,
            "name": _name(found.path) or "unknown",
            "file": _file(found.path),
            "created_time": milliseconds(start_time),
        }
    )


def answers(found: Any) -> str:
    """The answers of a DNS message."""
    return text(
        [
            {"rdata": each.data, "type": str(DNS_TYPES.show(each.type)), "ttl": each.ttl}
            for each in found
        ]
    )
