# SPDX-License-Identifier: Apache-2.0
"""`nodeagent completion`: let the shell complete commands and options."""

from __future__ import annotations

import argparse

from nodeagent.cli import options, output

EXAMPLES = """\
examples:
  source <(nodeagent completion bash)          in this shell
  nodeagent completion bash > /usr/share/bash-completion/completions/nodeagent
  nodeagent completion zsh > /usr/share/zsh/site-functions/_nodeagent
"""


def add(commands: options.Commands) -> None:
    """Add the command to the parser."""
    parser = options.add_command(
        commands, "completion", "print a script that makes the shell complete", EXAMPLES, run
    )
    parser.add_argument("shell", choices=("bash", "zsh"))


def run(args: argparse.Namespace) -> int:
    """Print the script."""
    import shtab

    from nodeagent.cli import make_parser

    output.write(shtab.complete(make_parser(), args.shell) + "\n")
    return 0
