# SPDX-License-Identifier: Apache-2.0
"""JSON Schema of a configuration file, for editors and for those who generate one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import FieldInfo, fields

from nodeagent.config.build import SINK_NAME, among, is_struct
from nodeagent.config.model import Config
from nodeagent.schema import DIALECT, Schema, described, descriptions, summary
from nodeagent.sink import Sink


def schema(sink_types: Mapping[str, type[Sink]]) -> Schema:
    """The whole configuration with all these types of sinks, a sentence for each key."""
    root = _table(Config)
    sinks = {name: _sink(name, sink) for name, sink in sink_types.items()}
    root["properties"]["sinks"] |= {
        "propertyNames": {"pattern": f"^{SINK_NAME.pattern}$"},
        # The name of a known type says the type, so that it may be left out.
        "properties": {
            name: {
                "if": {"required": ["type"]},
                "then": {"$ref": "#/$defs/sink"},
                "else": {"$ref": f"#/$defs/sink.{name}"},
            }
            for name in sinks
        },
        "additionalProperties": {"$ref": "#/$defs/sink"},
    }
    any_sink = {
        "required": ["type"],
        "oneOf": [{"$ref": f"#/$defs/sink.{name}"} for name in sinks],
    }
    definitions = {"sink": any_sink, **{f"sink.{name}": each for name, each in sinks.items()}}
    return {"$schema": DIALECT, "title": "nodeagent", **root, "$defs": definitions}


def _sink(name: str, sink: type[Sink]) -> Schema:
    table = _table(sink.Config)
    kind = {"const": name, "description": f"{summary(sink)}"}
    return {**table, "properties": {"type": kind, **table["properties"]}}
