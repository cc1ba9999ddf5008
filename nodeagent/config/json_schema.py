# SPDX-License-Identifier: Apache-2.0
"""JSON Schema of a configuration file, for editors and for those who generate one."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec.structs import FieldInfo, fields

from nodeagent.config.build import SINK_NAME
from nodeagent.config.model import Config, default_of, is_struct
from nodeagent.schema import DIALECT, Schema, described, descriptions, summary
from nodeagent.setting import among
from nodeagent.sink import Sink


def schema(sink_types: Mapping[str, type[Sink]]) -> Schema:
    """All keys with a sentence about each, for these types of sinks."""
    definitions: Schema = {}
    root = _table(Config, definitions, hidden="sinks")
    root["properties"]["sinks"] = {
        **described(descriptions(Config).get("sinks")),
        "type": "object",
        "propertyNames": {"pattern": f"^{SINK_NAME.pattern}$"},
        # The name of a known type says the type, so that it may be left out.
        "properties": {
            name: {
                "if": {"required": ["type"]},
                "then": {"$ref": "#/$defs/sink"},
                "else": {"$ref": f"#/$defs/sink_{name}"},
            }
            for name in sink_types
        },
        "additionalProperties": {"$ref": "#/$defs/sink"},
    }
    definitions["sink"] = {
        "required": ["type"],
        "oneOf": [{"$ref": f"#/$defs/sink_{name}"} for name in sink_types],
    }
    for name, sink in sink_types.items():
        table = _table(sink.Config, definitions)
        table["properties"]["type"] = {"const": name, **described(summary(sink))}
        definitions[f"sink_{name}"] = table
    return {"$schema": DIALECT, "title": "nodeagent", **root, "$defs": definitions}


def _table(struct: type[msgspec.Struct], definitions: Schema, hidden: str = "") -> Schema:
    texts = descriptions(struct)
    return {
        **described(summary(struct)),
        "type": "object",
        "properties": {
            field.encode_name: {
                **described(texts.get(field.name)),
                **_value(field, definitions),
            }
            for field in fields(struct)
            if field.name != hidden
        },
        "required": [field.encode_name for field in fields(struct) if field.required],
        "additionalProperties": False,
    }


def _value(field: FieldInfo, definitions: Schema) -> Schema:
    if is_struct(field.type):
        return _table(field.type, definitions)
    (shape,), shared = msgspec.json.schema_components([field.type], ref_template="#/$defs/{name}")
    definitions |= shared
    allowed = among(field.type)
    if allowed is not None:
        values = {"enum": list(allowed.values)}
        shape = {**shape, "items": values} if shape["type"] == "array" else {**shape, **values}
    if field.required:
        return shape
    return {**shape, "default": msgspec.to_builtins(default_of(field))}
