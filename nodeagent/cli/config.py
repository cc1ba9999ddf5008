# SPDX-License-Identifier: Apache-2.0
"""`nodeagent config`: check, show and describe the configuration."""

from __future__ import annotations

import argparse
import json

from nodeagent.cli import options, output

EXAMPLES = """\
examples:
  nodeagent config show > config.toml       a file with every key, to start from
  nodeagent config check --config config.toml
  nodeagent config schema > schema.json     for your editor
"""
CHECK_EXAMPLES = """\
examples:
  nodeagent config check
  nodeagent config check --config config.toml && cp config.toml /etc/nodeagent/
"""
SHOW_EXAMPLES = """\
examples:
  nodeagent config show
  nodeagent config show --config new.toml --set kernel.argv_bytes=512
  NODEAGENT_KERNEL__ARGV_BYTES=512 nodeagent config show
"""
SCHEMA_EXAMPLES = """\
examples:
  nodeagent config schema | jq '.properties.kernel.properties'
"""


def add(commands: options.Commands) -> None:
    """Add the command with its own commands."""
    parser = commands.add_parser(
        "config",
        help="check, show and describe the configuration",
        description="Check, show and describe the configuration.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    inner = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    options.add_config(
        options.add_command(
            inner, "check", "say whether the configuration can be used", CHECK_EXAMPLES, check
        )
    )
    options.add_config(
        options.add_command(
            inner, "show", "show every value and where it comes from", SHOW_EXAMPLES, show
        )
    )
    options.add_command(
        inner, "schema", "show every key there is, as JSON Schema", SCHEMA_EXAMPLES, schema
    )
    for command in inner.choices.values():
        options.add_log(command)


def check(args: argparse.Namespace) -> int:
    """Say that it is good, and which rules and suppressions are not used.

    Raises ConfigError when it is not.
    """
    import datetime

    from nodeagent import config
    from nodeagent.agent import sink_types
    from nodeagent.harmless import harmless
    from nodeagent.parts import sigma_of, suppressions_of

    loaded = options.load_with_origins(args, sink_types())
    refusals = [str(each) for each in sigma_of(loaded.config).refusals]
    today = datetime.datetime.now(datetime.UTC).date()
    over = [
        f"{each} ended on {each.until}"
        for each in suppressions_of(loaded.config)
        if each.is_over(today)
    ]
    lines = [f"ok: {loaded.file or f'there is no {config.DEFAULT_PATH}'}"]
    lines += [f"not used: {harmless(each)}" for each in (*refusals, *over)]
    output.write("\n".join(lines) + "\n")
    return 0


def show(args: argparse.Namespace) -> int:
    """Print the effective configuration as TOML."""
    from nodeagent import config
    from nodeagent.agent import sink_types

    loaded = options.load_with_origins(args, sink_types())
    output.write(config.show(loaded.config, loaded.origins))
    return 0


def schema(_: argparse.Namespace) -> int:
    """Print the schema of a configuration file."""
    from nodeagent import config
    from nodeagent.agent import sink_types

    output.write(json.dumps(config.schema(sink_types()), indent=2) + "\n")
    return 0
