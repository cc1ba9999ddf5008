# SPDX-License-Identifier: Apache-2.0
"""`nodeagent schema`: what the lines of the stream look like."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator

from nodeagent.cli import options, output

EXAMPLES = """\
examples:
  nodeagent schema > events.schema.json
  nodeagent schema open | jq '.properties | keys'
"""


class _Kinds:
    """The kinds that have a schema, looked up only when somebody asks."""

    def __iter__(self) -> Iterator[str]:
        from nodeagent.schema import KINDS

        return iter(KINDS)

    def __contains__(self, kind: object) -> bool:
        return kind in tuple(self)


def add(commands: options.Commands) -> None:
    """Add the command to the parser."""
    parser = options.add_command(
        commands, "schema", "show the JSON Schema of all events, or of one kind", EXAMPLES, run
    )
    parser.add_argument(
        "kind",
        metavar="KIND",
        nargs="?",
        choices=_Kinds(),
        help="one of the values of `kind` in the stream",
    )


def run(args: argparse.Namespace) -> int:
    """Print the schema."""
    from nodeagent.schema import stream_schema

    output.write(json.dumps(stream_schema(args.kind), indent=2) + "\n")
    return 0
