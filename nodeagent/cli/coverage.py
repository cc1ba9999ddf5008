# SPDX-License-Identifier: Apache-2.0
"""`nodeagent coverage`: whether this node is covered, and why not."""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Mapping
from typing import Any

from nodeagent.cli import options, output
from nodeagent.harmless import harmless

WIDTH = 80
EXAMPLES = """\
examples:
  sudo nodeagent coverage                 HEALTHY, or what is wrong and what to do about it
  sudo nodeagent coverage --json | jq -r '.issues[].code'

docs/coverage.md in the source goes through each code.
"""


def add(commands: options.Commands) -> None:
    """Add the command to the parser."""
    parser = options.add_command(
        commands, "coverage", "show whether this node is covered", EXAMPLES, run
    )
    options.add_control(parser)
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(args: argparse.Namespace) -> int:
    """Print it; 0 when the node is covered whole, else 1."""
    from nodeagent.control import ask
    from nodeagent.errors import ControlError

    try:
        found = ask(args.control, "coverage")
    except ControlError as error:
        issue = {"code": "AGENT_NOT_RUNNING", "subject": "", "why": str(error)}
        found = {"status": "UNHEALTHY", "issues": [issue], "kinds": {}}
    output.write(json.dumps(found, indent=2) + "\n" if args.json else as_text(found))
    return 0 if found["status"] == "HEALTHY" else 1


def as_text(found: Mapping[str, Any]) -> str:
    """For a terminal of 80 columns."""
    from nodeagent.coverage import ADVICE

    kinds = found["kinds"]
    seen = sum(bool(kind["programs"]) for kind in kinds.values())
    lines = [f"coverage  {found['status']}"]
    if kinds:
        lines.append(f"kinds     {seen} of {len(kinds)} are seen")
    for issue in found["issues"]:
        said = " ".join(filter(None, (issue["code"], harmless(issue["subject"]))))
        lines += _wrapped("issue     ", f"{said}: {harmless(issue['why'])}")
        lines += _wrapped("          → ", ADVICE.get(issue["code"], ""))
    return "\n".join(lines) + "\n"


def _wrapped(head: str, text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=head, subsequent_indent=" " * len(head))
