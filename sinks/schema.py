# SPDX-License-Identifier: Apache-2.0
"""In which schema a sink sends events: the project's own or OCSF."""

from __future__ import annotations

from typing import Literal

from nodeagent.encode import Encode, encode
from nodeagent.ocsf import Version, ocsf_encoder
from nodeagent.sink import SinkConfig


class SchemaConfig(SinkConfig, kw_only=True, frozen=True):
    """For sinks that send lines of JSON."""

    schema: Literal["native", "ocsf"] = "native"
    """What the lines say: as `nodeagent schema` describes them, or OCSF."""
    ocsf_version: Version = "1.3.0"
    """Of OCSF; Amazon Security Lake takes none that is newer than the default."""


def encoder_of(config: SchemaConfig) -> Encode:
    """What makes the lines; the same for all sinks with the same settings."""
    return ocsf_encoder(config.ocsf_version) if config.schema == "ocsf" else encode
