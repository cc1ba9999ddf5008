# SPDX-License-Identifier: Apache-2.0
"""`nodeagent replay`: put a recording through the same pipeline again."""

from __future__ import annotations

import argparse
from pathlib import Path

from nodeagent.cli import options
from nodeagent.cli.run import tell_outcome

__all__ = ["add", "run"]

EXAMPLES = """\
examples:
  nodeagent replay busy.rec                      as if it happened now
  nodeagent replay busy.rec --format json --only exec
  nodeagent replay busy.rec --format json | cmp - live.ndjson

The same events come out, byte for byte. It needs neither root nor that kernel.
"""


def add(commands: options.Commands) -> None:
    """Add the command to the parser."""
    parser = options.add_command(
        commands, "replay", "put a recording through the same pipeline again", EXAMPLES, run
    )
    options.complete_files(
        parser.add_argument("file", metavar="FILE", type=Path, help="made with `run --record`")
    )
    options.add_config(parser)
    options.add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Returns 0, or 1 when the recording is torn, after all that could be read."""
    import asyncio

    from nodeagent import agent

    config = options.load(args, agent.sink_types())
    return tell_outcome(asyncio.run(agent.replay(config, args.file)))
