# SPDX-License-Identifier: Apache-2.0
"""What can be set: read from a file, the environment and the command line, then checked.

A later layer overrides an earlier one: defaults, file, environment, `--set`, flags.
What is wrong in any of them is a ConfigError that names the key, where it was set and
the way out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from nodeagent.config.build import build
from nodeagent.config.file import DEFAULT_PATH, read_default, read_file
from nodeagent.config.json_schema import schema
from nodeagent.config.layers import Table, from_environment, from_flag, from_override, merge
from nodeagent.config.model import (
    Config,
    ContainersConfig,
    DetectConfig,
    FilesConfig,
    KernelConfig,
    LedgerConfig,
    NodeConfig,
    SinkSetting,
)
from nodeagent.config.show import show
from nodeagent.config.sinks import EVERY_SINK, choose, set_everywhere
from nodeagent.sink import Sink

__all__ = [
    "DEFAULT_PATH",
    "Config",
    "ContainersConfig",
    "DetectConfig",
    "FilesConfig",
    "Flag",
    "KernelConfig",
    "LedgerConfig",
    "Loaded",
    "NodeConfig",
    "SinkSetting",
    "load",
    "schema",
    "show",
]


class Flag(NamedTuple):
    """A command line option that sets a key, like `--only`."""

    name: str
    """As the user wrote it; errors and `config show` repeat it."""
    key: str
    """The path of the key, for example `kinds`; `sinks.*.format` is that of every sink."""
    value: object


class Loaded(NamedTuple):
    """A configuration and where it came from."""

    config: Config
    origins: dict[str, str]
    """Where each key was set: `default`, `file PATH`, `environment NAME` or the option."""
    file: Path | None
    """The file that was read."""


def load(
    path: Path | None,
    environment: Mapping[str, str],
    overrides: Sequence[str],
    sink_types: Mapping[str, type[Sink]],
    *,
    sinks: Sequence[str] = (),
    flags: Sequence[Flag] = (),
) -> Loaded:
    """The effective configuration; raises ConfigError.

    Without a path it is read from /etc/nodeagent/config.toml where that exists.
    `overrides` are arguments of `--set`: KEY=VALUE. `sinks` are names of configured
    sinks or of types, and then there are no others.
    """
    read = read_default() if path is None else read_file(path)
    file, root = (None, Table()) if read is None else read
    for layer in (*from_environment(environment), *map(from_override, overrides)):
        merge(root, layer)
    choose(root, sinks, sink_types)
    for flag in flags:
        if flag.key.startswith(EVERY_SINK):
            key = flag.key.removeprefix(EVERY_SINK)
            set_everywhere(root, flag.name, key, flag.value, sink_types)
        else:
            merge(root, from_flag(flag.name, flag.key, flag.value))
    config, origins = build(root, sink_types)
    return Loaded(config, origins, file)
