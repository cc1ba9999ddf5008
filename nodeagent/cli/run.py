# SPDX-License-Identifier: Apache-2.0
"""`nodeagent run`: stream the events of this machine."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from nodeagent.cli import options

if TYPE_CHECKING:
    from nodeagent.agent import Outcome

__all__ = ["add", "run", "tell_outcome"]

EXAMPLES = """\
examples:
  nodeagent run                                  everything, on this terminal
  nodeagent run --only exec,connect              what runs and where it connects
  nodeagent run --format json | jq .process.path
  nodeagent run --sink file --set sinks.file.path=/var/log/nodeagent.ndjson
  nodeagent run --duration 60 --record busy.rec  to look at later with `replay`

It ends with Ctrl-C, and then says what became of every event.
"""


def add(commands: options.Commands) -> None:
    """Add the command to the parser."""
    parser = options.add_command(
        commands, "run", "stream the events of this machine", EXAMPLES, run
    )
    options.add_config(parser)
    options.add_output(parser)
    parser.add_argument(
        "--duration", metavar="SECONDS", type=options.positive_seconds, help="end after this long"
    )
    parser.add_argument(
        "--take-over",
        action="store_true",
        help="from the agent that has the state file, without a gap",
    )
    options.complete_files(
        parser.add_argument(
            "--record", metavar="FILE", type=Path, help="also write the raw stream, for `replay`"
        )
    )


def run(args: argparse.Namespace) -> int:
    """Returns 0, or 128 plus the signal that ended the run, or 1 when something went wrong."""
    # Here and not above, so that --help is quick.
    import asyncio
    import functools

    from nodeagent import agent
    from nodeagent.usage import keep_heap_small

    load = functools.partial(options.load, args, agent.sink_types())
    keep_heap_small()
    config = load()
    outcome = asyncio.run(
        agent.run(config, load, duration_seconds=args.duration, record=args.record)
    )
    code = tell_outcome(outcome)
    if outcome.handed_over and config.state.take_over:
        sys.stderr.flush()
        asyncio.run(agent.rest(config))
    return code


def tell_outcome(outcome: Outcome) -> int:
    """Say on stderr what became of every event; returns the exit code."""
    print(f"\n{outcome.ledger.table()}", file=sys.stderr)
    if outcome.problem is not None:
        print(f"nodeagent: {outcome.problem}", file=sys.stderr)
    return outcome.exit_code
