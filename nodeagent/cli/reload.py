# SPDX-License-Identifier: Apache-2.0
"""`nodeagent reload`: let the agent that runs here read its configuration again."""

from __future__ import annotations

import argparse

from nodeagent.cli import options, output

__all__ = ["add", "run"]

PATIENCE_SECONDS = 120.0
"""Sinks that change are drained first."""
EXAMPLES = """\
examples:
  sudo nodeagent reload
  sudo kill -HUP $(pidof nodeagent)              the same, told in its log

The configuration is checked in full first; when it cannot be used, nothing changes.
"""


def add(commands: options.Commands) -> None:
    """Add the command to the parser."""
    parser = options.add_command(
        commands, "reload", "let the agent read its configuration again", EXAMPLES, run
    )
    options.add_control(parser)


def run(args: argparse.Namespace) -> int:
    """Say what changed; 1 when the agent refused, or none answers."""
    from nodeagent.control import ask

    changed = ask(args.control, "reload", PATIENCE_SECONDS)["changed"]
    output.write(f"changed: {', '.join(changed)}\n" if changed else "nothing has changed\n")
    return 0
