# SPDX-License-Identifier: Apache-2.0
"""A line of the stream in the Common Event Format of ArcSight, version 0."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from nodeagent import __version__

HEADER_ESCAPES: Final = str.maketrans({"\\": "\\\\", "|": "\\|", "\n": " ", "\r": " "})
VALUE_ESCAPES: Final = str.maketrans({"\\": "\\\\", "=": "\\=", "\n": "\\n", "\r": "\\r"})

SEVERITIES: Final = {"low": 4, "medium": 6, "high": 8, "critical": 10}
"""Of CEF, by that of a finding; what is no finding has 1."""
USUAL: Final = 1
LONGEST: Final = 1023
"""Characters of most values, as the format has them."""

PLACES: Final = {
    ("process", "pid"): "spid",
    ("process", "path"): "sproc",
    ("process", "uid"): "suid",
    ("node",): "dvchost",
    ("path",): "filePath",
    ("new_path",): "fname",
    ("local", "address"): "src",
    ("local", "port"): "spt",
    ("remote", "address"): "dst",
    ("remote", "port"): "dpt",
    ("protocol",): "proto",
    ("target_process", "pid"): "dpid",
    ("target_process", "path"): "dproc",
    ("error",): "reason",
    ("count",): "cnt",
    ("message", "question", "name"): "destinationDnsDomain",
}
"""Keys of the extension, by where the value stands in a line."""

LABELLED: Final = {
    ("argv",): ("cs1", "argv"),
    ("container", "id"): ("cs2", "container"),
    ("container", "image"): ("cs3", "image"),
    ("container", "pod", "name"): ("cs4", "pod"),
    ("container", "pod", "namespace"): ("cs5", "namespace"),
    ("evidence",): ("cs6", "evidence"),
}
"""Keys that say by a label what they are."""


def cef(line: Mapping[str, Any]) -> bytes:
    """One line of the stream, decoded, as CEF; what has no place there is left out."""
    kind = line["kind"]
    title = line.get("title", kind)
    severity = SEVERITIES.get(line.get("severity", ""), USUAL)
    header = (__version__, line.get("type") if kind == "finding" else kind, title)
    words = "|".join(str(word).translate(HEADER_ESCAPES) for word in header)
    moment = datetime.fromisoformat(line.get("time") or line["last_seen"])
    pairs: list[tuple[str, Any]] = [("rt", round(moment.timestamp() * 1000))]
    pairs += [(key, value) for where, key in PLACES.items() if (value := _at(line, where)) != ""]
    if "result" in line:
        pairs.append(("outcome", "failure" if line["result"] < 0 else "success"))
    for where, (key, label) in LABELLED.items():
        if (value := _at(line, where)) != "":
            pairs += [(f"{key}Label", label), (key, value)]
    extension = " ".join(f"{key}={_value(value)}" for key, value in pairs)
    return f"CEF:0|nodeagent|nodeagent|{words}|{severity}|{extension}".encode()


def _at(line: Mapping[str, Any], where: tuple[str, ...]) -> Any:
    """What stands there; an empty string where there is nothing."""
    found: Any = line
    for name in where:
        found = found.get(name) if isinstance(found, Mapping) else None
    return "" if found is None else found


def _value(value: Any) -> str:
    if isinstance(value, list):
        value = " ".join(map(str, value))
    return str(value)[:LONGEST].translate(VALUE_ESCAPES)
