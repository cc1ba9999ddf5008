# SPDX-License-Identifier: Apache-2.0
"""Options that more than one command has, and what becomes of them."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from nodeagent.places import CONTROL, STORE

if TYPE_CHECKING:
    from nodeagent.config import Config, Flag, Loaded
    from nodeagent.sink import Sink

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
Run = Callable[[argparse.Namespace], int]

LOG_LEVELS: Final = ("debug", "info", "warning", "error")

CONTROL_VARIABLE: Final = "NODEAGENT_CONTROL__SOCKET"
"""Says it to the agent, too, so that both agree where it is set, as in a container."""

COMPLETE_FILES: Final = {"bash": "_shtab_compgen_files", "zsh": "_files"}
"""What shtab.FILE is; not imported, since only `completion` needs shtab."""


def add_command(
    commands: Commands, name: str, summary: str, examples: str, run: Run, *, details: str = ""
) -> argparse.ArgumentParser:
    """The parser of a command, whose help shows the summary, the details and the examples."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=details or f"{summary[0].upper()}{summary[1:]}.",
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def add_log(parser: argparse.ArgumentParser, *, is_top: bool = False) -> None:
    """What may stand before the command and behind it."""
    group = parser.add_argument_group("log")
    # A default of the inner parser would override what the outer one has read.
    group.add_argument(
        "--log-level",
        choices=LOG_LEVELS,
        default="info" if is_top else argparse.SUPPRESS,
        help="log to stderr from this level on (default: info)",
    )
    group.add_argument(
        "--debug",
        action="store_true",
        default=False if is_top else argparse.SUPPRESS,
        help="log everything, with tracebacks and the words of libbpf",
    )


def add_config(parser: argparse.ArgumentParser) -> None:
    """Where the configuration comes from; `load()` reads it."""
    group = parser.add_argument_group("configuration")
    complete_files(
        group.add_argument(
            "--config",
            metavar="FILE",
            type=Path,
            help="instead of /etc/nodeagent/config.toml",
        )
    )
    group.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="override a key, for example kernel.argv_bytes=512; may be repeated",
    )


def add_output(parser: argparse.ArgumentParser) -> None:
    """What of the stream goes where, shorter than with --set."""
    group = parser.add_argument_group("output")
    group.add_argument(
        "--sink",
        metavar="NAME",
        action="append",
        default=[],
        help="only to this sink, a name in the configuration or a type; may be repeated",
    )
    group.add_argument(
        "--format", choices=("pretty", "json"), help="how standard output shows events"
    )
    group.add_argument("--only", metavar="KIND,...", type=_names, help="only events of these kinds")
    group.add_argument("--findings", action="store_true", help="only what looks wrong, no events")
    group.add_argument(
        "--signals", action="store_true", help="also what is too weak to be a finding by itself"
    )


def add_control(parser: argparse.ArgumentParser) -> None:
    """Which running agent is asked."""
    complete_files(
        parser.add_argument(
            "--control",
            metavar="SOCKET",
            type=Path,
            default=Path(os.environ.get(CONTROL_VARIABLE) or CONTROL),
            help=f"the control socket of the agent (default ${CONTROL_VARIABLE} or {CONTROL})",
        )
    )


def add_store(parser: argparse.ArgumentParser) -> None:
    """Which store of findings is read."""
    complete_files(
        parser.add_argument(
            "--store", metavar="FILE", type=Path, default=Path(STORE), help="another store"
        )
    )


def load(args: argparse.Namespace, sink_types: Mapping[str, type[Sink]]) -> Config:
    """The configuration that the arguments ask for; raises ConfigError."""
    return load_with_origins(args, sink_types).config


def load_with_origins(args: argparse.Namespace, sink_types: Mapping[str, type[Sink]]) -> Loaded:
    """As `load()`, with the origin of each key."""
    from nodeagent import config

    return config.load(
        args.config,
        os.environ,
        args.set,
        sink_types,
        sinks=getattr(args, "sink", ()),
        flags=_flags(args),
    )


def complete_files(action: argparse.Action) -> None:
    """Let the shell complete names of files there."""
    action.complete = COMPLETE_FILES  # type: ignore[attr-defined]


def positive_seconds(text: str) -> float:
    """The type of an option: a number of seconds."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if seconds > 0 and math.isfinite(seconds):
        return seconds
    raise argparse.ArgumentTypeError(f"must be a number of seconds greater than 0, not {text}")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _flags(args: argparse.Namespace) -> list[Flag]:
    from nodeagent.config import Flag

    flags = []
    if getattr(args, "only", None) is not None:
        flags.append(Flag("--only", "kinds", args.only))
    if getattr(args, "format", None) is not None:
        flags.append(Flag("--format", "sinks.*.format", args.format))
    if getattr(args, "findings", False):
        flags.append(Flag("--findings", "detect.only", value=True))
    if getattr(args, "take_over", False):
        flags.append(Flag("--take-over", "state.take_over", value=True))
    if getattr(args, "signals", False):
        flags.append(Flag("--signals", "detect.signals", value=True))
    return flags
